"""Output units that say more of a number than its mean: variance, mixture, rate, quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradnet import ops
from gradnet.errors import ShapeError
from gradnet.nn import likelihoods, losses
from gradnet.nn.outputs import RegressionUnit, register_output
from gradnet.random import Generator, default_generator
from gradnet.tensor import Tensor


@register_output
class GaussianOutput(RegressionUnit):
    """Numbers with their uncertainty: mean and variance of a normal distribution each."""

    name = "gaussian"

    def units(self, targets: int) -> int:
        """Two for each target: its mean and its raw variance."""
        return 2 * targets

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Negative log-likelihood: z (n, 2m), targets (n, m), or (n,) for m = 1."""
        return likelihoods.gaussian_nll(z, y, **options)

    def predict(self, z: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance: (n, 2m) -> (n, m), (n, m)."""
        return likelihoods.gaussian_parameters(z)


@register_output
class MixtureOutput(RegressionUnit):
    """Numbers that have several likely values: a mixture of normal distributions for each row.

    `components` of them, K, each with a weight, and a mean and a variance per target. Bishop 1994.
    Raises ValueError for fewer than one.
    """

    name = "mixture"

    def __init__(self, components: int = 3) -> None:
        if isinstance(components, bool) or not isinstance(components, int) or components < 1:
            raise ValueError(f"a mixture has at least 1 component, an integer, got {components!r}")
        self.components = components

    def settings(self) -> dict[str, Any]:
        return {"components": self.components}

    def units(self, targets: int) -> int:
        """K weights, K means and K raw variances for each target."""
        return self.components * (1 + 2 * targets)

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Negative log-likelihood: z (n, K (1 + 2m)), targets (n, m), or (n,) for m = 1."""
        z, y = ops.asarray(z), ops.asarray(y)
        if y.ndim == 2 and y.shape[1] != self._targets(z):
            raise ShapeError(
                f"outputs of shape {z.shape} are of {self._targets(z)} targets, got targets of "
                f"shape {y.shape}"
            )
        return likelihoods.mixture_nll(z, y, **options)

    def _targets(self, z: Tensor) -> int:
        """How many targets raw outputs are of. Raises ShapeError for columns that do not fit."""
        k = self.components
        m, rest = divmod(z.shape[1] - k if z.ndim == 2 else -1, 2 * k)
        if rest or m < 1:
            raise ShapeError(
                f"a mixture of {k} components has outputs (n, {k} (1 + 2m)) for m targets, got "
                f"shape {z.shape}"
            )
        return m

    def parameters(self, z: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (n, K), means (n, K, m) and variances (n, K, m) of the components."""
        z = ops.asarray(z)
        return likelihoods.mixture_parameters(z, self._targets(z))

    def predict(self, z: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance of the whole mixture: (n, m), (n, m).

        The mean lies between the likely values, and may itself be unlikely: see `modes`.
        """
        weights, means, variances = self.parameters(z)
        weights = ops.expand_dims(weights, 2)
        mean = ops.sum(weights * means, axis=1)
        apart = ops.square(means - ops.expand_dims(mean, 1))
        return mean, ops.sum(weights * (variances + apart), axis=1)

    def sample(self, z: Any, count: int = 1, *, generator: Generator | None = None) -> Tensor:
        """Random targets from the mixture of each row: (n, K (1 + 2m)) -> (count, n, m)."""
        source = generator or default_generator()
        weights, means, variances = self.parameters(z)
        place: dict[str, Any] = {"dtype": means.dtype, "backend": means.backend}
        n, _, m = means.shape
        u = source.uniform((count, n, 1), **place)
        passed = ops.astype(u > ops.cumulative_sum(weights, axis=1), "int64")
        chosen = ops.clip(ops.sum(passed, axis=2), 0, self.components - 1)  # rounding apart
        picked = ops.reshape(
            ops.one_hot(chosen, self.components, dtype=means.dtype), (count, n, -1, 1)
        )
        noise = source.normal((count, n, m), **place)
        found: Tensor = ops.sum(picked * means, axis=2) + noise * ops.sqrt(
            ops.sum(picked * variances, axis=2)
        )
        return found

    def modes(self, z: Any, iterations: int = 100) -> tuple[Tensor, Tensor]:
        """Peaks of each row's density, highest first, and their densities: (n, K, m), (n, K).

            r_k = share of component k in the density at x
            x = sum_k r_k mean_k / v_k / sum_k r_k / v_k

        climbs to a peak from each component's mean, so that a peak that several reach comes
        several times. Carreira-Perpinan 2000, Mode-Finding for Mixtures of Gaussian Distributions.
        """
        weights, means, variances = self.parameters(z)
        logits = ops.expand_dims(ops.log(weights), 1)
        means, variances = ops.expand_dims(means, 1), ops.expand_dims(variances, 1)
        x = means[:, 0]
        for _ in range(iterations):
            terms = likelihoods.mixture_terms(logits, means, variances, x)
            pull = ops.expand_dims(ops.softmax(terms), -1) / variances
            x = ops.sum(pull * means, axis=2) / ops.sum(pull, axis=2)
        heights = ops.logsumexp(likelihoods.mixture_terms(logits, means, variances, x), axis=-1)
        order = ops.argsort(heights, axis=1, descending=True)
        x = ops.take_along_axis(x, ops.expand_dims(order, -1), axis=1)
        return x, ops.exp(ops.take_along_axis(heights, order, axis=1))


@register_output
class PoissonOutput(RegressionUnit):
    """Counts: exp(z) is the rate of a Poisson distribution."""

    name = "poisson"

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Negative log-likelihood: z (n, m), counts (n, m), or (n,) for m = 1."""
        return likelihoods.poisson_nll(z, y, **options)

    def predict(self, z: Any) -> Tensor:
        """The expected count, of the shape of z."""
        y: Tensor = ops.exp(z)
        return y


@register_output
class QuantileOutput(RegressionUnit):
    """Quantiles of numbers, at the levels `q`: (0.1, 0.5, 0.9) is an 80 % interval and the median.

    Romano, Patterson and Candes 2019, arXiv:1905.03222, make intervals of them. Raises ValueError
    unless the levels rise and lie between 0 and 1.
    """

    name = "quantile"

    def __init__(self, q: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        self.q = losses.quantile_levels(tuple(q))
        if list(self.q) != sorted(set(self.q)):
            raise ValueError(f"quantiles need levels that rise, got {self.q}")

    def settings(self) -> dict[str, Any]:
        return {"q": list(self.q)}

    def units(self, targets: int) -> int:
        """One for each level and target."""
        return len(self.q) * targets

    def misfit(self, z: Any, y: Any, **options: Any) -> Tensor:
        """Quantile loss: z (n, m k), targets (n, m), or (n,) for m = 1."""
        return losses.quantile(z, y, q=self.q, **options)

    def predict(self, z: Any) -> Tensor:
        """The quantiles, rising: (n, m k) -> (n, k) for m = 1, else (n, m, k).

        Outputs that cross are sorted, which never makes the loss larger (Chernozhukov,
        Fernandez-Val and Galichon 2010).
        """
        z = ops.asarray(z)
        k = len(self.q)
        shape = (z.shape[0], -1, k) if z.shape[1] > k else z.shape
        return ops.sort(ops.reshape(z, shape), axis=-1)

    def estimate(self, z: Any) -> Tensor:
        """The quantile nearest to the median: (n, m k) -> (n, m)."""
        y = self.predict(z)
        middle = min(range(len(self.q)), key=lambda i: abs(self.q[i] - 0.5))
        return y[..., middle] if y.ndim == 3 else y[:, middle : middle + 1]
