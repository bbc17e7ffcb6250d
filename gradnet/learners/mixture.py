"""A mixture density network: targets that have several likely values for one input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from gradnet import ops
from gradnet.autodiff import no_grad
from gradnet.errors import TrainingError
from gradnet.learners import intake
from gradnet.nn import MLP, MixtureOutput
from gradnet.random import Generator
from gradnet.tensor import Tensor
from gradnet.training import History, Trainer
from gradnet.training.evaluation import outputs


def inverse_problem(rows: int = 1000, noise: float = 0.05, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of x = t + 0.3 sin(2 pi t) + noise, t uniform in (0, 1): x and t, (rows, 1) each.

    From t to x there is one answer. From x to t there are three where 0.41 < x < 0.59, and a
    network for the mean of t says a value between them that is none. Bishop 1994.
    """
    generator = Generator(seed)
    t = generator.uniform((rows, 1))
    x = t + 0.3 * ops.sin(2 * math.pi * t)
    return x + noise * generator.uniform((rows, 1), -1.0, 1.0), t


class MixtureDensityNetwork(intake.Described):
    """A network that says of each row a mixture of K normal distributions of the target.

        weights w = softmax(z_w), means m = z_m, variances v = softplus(z_v) + 1e-6
        loss = -log sum_k w_k(x) N(t; m_k(x), v_k(x))

    trained by `gradnet.fit`, with gradients clipped: a component that closes in on few rows has
    steep ones. The components' means begin spread over the targets. Bishop 1994, Mixture Density
    Networks.

    model    an `nn.MLP` with the output unit "mixture", after `fit`
    history  of its training; `trace` the loss of each epoch
    """

    def __init__(
        self,
        components: int = 3,
        hidden: Sequence[int] = (32,),
        activation: str = "tanh",
        *,
        optimizer: Any = "adam",
        lr: float | None = 0.01,
        epochs: int = 200,
        batch_size: int | None = 64,
        schedule: Any = "cosine",
        clip_norm: float | None = 1.0,
        seed: int = 0,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        self.unit = MixtureOutput(components)
        self.hidden, self.activation = tuple(hidden), activation
        self._place = {"dtype": dtype, "device": device, "seed": seed}
        self._training: dict[str, Any] = {
            "optimizer": optimizer,
            "lr": lr,
            "epochs": epochs,
            "batch_size": batch_size,
            "schedule": schedule,
            "clip_norm": clip_norm,
            "seed": seed,
        }
        self.model: MLP | None = None
        self.history: History | None = None
        self.trace: list[float] = []

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (n, k) and targets y (n,) or (n, m)."""
        x = intake.features(X)
        y = intake.values(y, x)
        targets = y.shape[1] if y.ndim == 2 else 1
        sizes = (x.shape[1], *self.hidden, targets)
        self.model = MLP(sizes, self.activation, output=self.unit, **self._place)
        self._spread(self.model, y)
        trainer = Trainer(self.model, progress=False, **self._training)
        self.history = trainer.fit(x, y)
        self.trace = self.history.to_dict()["columns"]["loss"]
        return self

    def _spread(self, network: MLP, y: Tensor) -> None:
        """Begin with the components' means spread over the targets, for each to have its part."""
        k = self.unit.components
        at = ops.linspace(0, y.shape[0] - 1, k + 2, dtype=y.dtype)[1:-1]
        ordered = ops.sort(ops.reshape(y, (y.shape[0], -1)), axis=0)
        means = ops.take(ordered, ops.astype(at, "int64"), axis=0)
        with no_grad():
            network.layers[-1].bias[k : k + means.size] = ops.reshape(means, (-1,))

    def outputs(self, X: Any) -> Tensor:
        """The raw outputs for rows X (n, k). Raises TrainingError before `fit`."""
        if self.model is None:
            raise TrainingError("this MixtureDensityNetwork has not learned yet; call fit first")
        x = intake.features(X, self.model.sizes[0])
        return outputs(self.model, ops.asarray(x, dtype=next(self.model.parameters()).dtype))

    def parameters(self, X: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (n, K), means (n, K, m) and variances (n, K, m) for rows X (n, k)."""
        return self.unit.parameters(self.outputs(X))

    def predict(self, X: Any) -> Tensor:
        """The most likely target of each row, the highest peak of its density: (n, m)."""
        return self.modes(X)[0][:, 0]

    def modes(self, X: Any) -> tuple[Tensor, Tensor]:
        """Peaks of each row's density, highest first, and their densities: (n, K, m), (n, K)."""
        return self.unit.modes(self.outputs(X))

    def mean(self, X: Any) -> tuple[Tensor, Tensor]:
        """Mean and variance of the whole mixture: (n, m), (n, m)."""
        return self.unit.predict(self.outputs(X))

    def sample(self, X: Any, count: int = 1, *, seed: int = 0) -> Tensor:
        """Random targets for each row: (n, k) -> (count, n, m)."""
        return self.unit.sample(self.outputs(X), count, generator=Generator(seed))
