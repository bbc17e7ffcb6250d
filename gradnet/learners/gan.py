"""A generative adversarial network on points: an output unit for any distribution at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from gradnet import ops, optim
from gradnet.autodiff import no_grad
from gradnet.errors import ShapeError, TrainingError
from gradnet.learners import intake
from gradnet.nn import MLP, binary_cross_entropy
from gradnet.random import Generator
from gradnet.tensor import Tensor
from gradnet.training.checks import number, whole


def ring_centres(modes: int = 8) -> Tensor:
    """The corners of a regular polygon on the unit circle: (modes, 2)."""
    angle = ops.arange(modes, dtype="float32") * (2 * math.pi / modes)
    return ops.stack([ops.cos(angle), ops.sin(angle)], axis=1)


def ring(rows: int = 4000, modes: int = 8, *, spread: float = 0.05, seed: int = 0) -> Tensor:
    """Points around the corners of a regular polygon, normal with a deviation: (rows, 2)."""
    generator = Generator(seed)
    corner = generator.integers(0, modes, (rows,))
    return ops.take(ring_centres(modes), corner, axis=0) + generator.normal((rows, 2)) * spread


class Coverage(NamedTuple):
    """Where samples lie: how many near each centre, and the share of them that is near any."""

    counts: list[int]
    near: float

    def hit(self, share: float = 0.01) -> int:
        """How many centres have at least that share of all samples."""
        samples = sum(self.counts) / self.near if self.near else 1
        return sum(count >= share * samples for count in self.counts)


def coverage(samples: Any, centres: Any, distance: float = 0.15) -> Coverage:
    """How samples (n, k) fall to centres (m, k), those within a distance of one.

    Raises ShapeError where the numbers of columns differ.
    """
    samples, centres = intake.features(samples), intake.features(centres)
    if samples.shape[1] != centres.shape[1]:
        raise ShapeError(
            f"samples have shape {samples.shape}, centres {centres.shape}; expected equal columns"
        )
    apart = ops.sum(ops.square(ops.expand_dims(samples, 1) - centres), axis=2)
    close = ops.expand_dims(ops.min(apart, axis=1) < distance**2, 1)
    own = ops.one_hot(ops.argmin(apart, axis=1), centres.shape[0], dtype="bool") & close
    counts = ops.sum(ops.astype(own, "int64"), axis=0).tolist()
    return Coverage(counts, sum(counts) / samples.shape[0])


class GAN(intake.Described):
    """A generator G of points from noise, and a discriminator D that tells them from real ones.

        repeat:
            x = real rows,  z = normal noise,  e = blur that fades to 0
            D:  step down  -log D(x + e) - log(1 - D(G(z) + e))
            z = normal noise
            G:  step down  -log D(G(z) + e)

    D(x) is the probability that x is real. Where both are as good as they can be, G(z) has the
    distribution of the rows and D says 1/2 everywhere: losses 2 log 2 and log 2. The generator's
    loss is the one that does not fade where D is sure (Goodfellow et al. 2014, arXiv:1406.2661).
    The blur lets distributions overlap that do not yet, so that G sees all modes of the rows from
    the start and does not settle on some (Sonderby et al. 2016, arXiv:1610.04490).

    noise       numbers that G makes a point of
    hidden      widths of the hidden layers of both
    blur        deviation of e at the start, in deviations of the columns
    generator, discriminator    the networks, after `fit`; rows are standardised between
    trace       (loss of D, loss of G) of each step
    """

    def __init__(
        self,
        noise: int = 4,
        hidden: Sequence[int] = (64, 64),
        activation: str = "relu",
        *,
        steps: int = 2000,
        batch_size: int = 128,
        lr: float = 4e-3,
        blur: float = 0.4,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self.noise, self.hidden, self.activation = (
            whole("noise", noise, 1),
            tuple(hidden),
            activation,
        )
        self.steps, self.batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
        self.lr, self.blur = number("lr", lr, above=0.0), number("blur", blur)
        self.seed, self.device = whole("seed", seed, 0), device
        self.generator: MLP | None = None
        self.trace: list[tuple[float, float]] = []

    def fit(self, X: Any) -> Self:
        """Learn the distribution of rows X (n, k)."""
        given = intake.features(X)
        k, n = given.shape[1], self.batch_size
        place: dict[str, Any] = {"activation": self.activation, "device": self.device}
        self.generator = MLP((self.noise, *self.hidden, k), seed=self.seed, **place)
        self.discriminator = MLP(
            (k, *self.hidden, 1), output="sigmoid", seed=self.seed + 1, **place
        )
        x = self._beside(given)
        self.mean, spread = ops.mean(x, axis=0), ops.std(x, axis=0)
        self.scale: Tensor = ops.where(spread > 0, spread, 1.0)
        x = (x - self.mean) / self.scale
        betas = (0.5, 0.999)
        optimizers = [
            optim.Adam(network.parameters(), lr=self.lr, betas=betas)
            for network in (self.discriminator, self.generator)
        ]
        source, losses = Generator(self.seed + 2), []
        real = ops.ones((n, 1), dtype="int64", backend=x.backend)
        labels = ops.concat([real, ops.zeros_like(real)])
        for step in range(self.steps):
            left = 1 - step / self.steps
            blur = self.blur * left
            for optimizer in optimizers:
                optimizer.lr = self.lr * left
            rows = ops.take(x, source.integers(0, x.shape[0], (n,), backend=x.backend), axis=0)
            with no_grad():
                points = ops.concat([rows, self.generator(self._draw(source, n))])
                points = points + blur * source.normal((2 * n, k), backend=x.backend)
            told = 2 * binary_cross_entropy(self.discriminator(points), labels, check=False)
            self._step(told, optimizers[0])
            self.discriminator.requires_grad_(False)
            made = self.generator(self._draw(source, n))
            made = made + blur * source.normal((n, k), backend=x.backend)
            fooled = binary_cross_entropy(self.discriminator(made), real, check=False)
            self._step(fooled, optimizers[1])
            self.discriminator.requires_grad_(True)
            losses.append(ops.stack([told.detach(), fooled.detach()]))
        self.trace = [(d, g) for d, g in ops.stack(losses).tolist()]
        return self

    def _beside(self, x: Tensor) -> Tensor:
        """Rows beside the weights, in their dtype."""
        like = next(self.discriminator.parameters())
        return ops.asarray(x, dtype=like.dtype, backend=like.backend)

    def _draw(self, source: Generator, rows: int) -> Tensor:
        return source.normal((rows, self.noise), device=self.device)

    @staticmethod
    def _step(loss: Tensor, optimizer: optim.Optimizer) -> None:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def _made(self) -> MLP:
        if self.generator is None:
            raise TrainingError("this GAN has not learned yet; call fit first")
        return self.generator

    def sample(self, rows: int, *, seed: int = 0) -> Tensor:
        """Points from the generator: (rows, k). Raises TrainingError before `fit`."""
        generator = self._made()
        with no_grad():
            points: Tensor = generator(self._draw(Generator(seed), rows))
            return points * self.scale + self.mean

    def predict(self, X: Any) -> Tensor:
        """The probability that rows are real, as the discriminator sees it: (n, k) -> (n,)."""
        self._made()
        x = self._beside(intake.features(X, self.mean.shape[0]))
        with no_grad():
            z = self.discriminator((x - self.mean) / self.scale)
            sure: Tensor = self.discriminator.output.estimate(z)[:, 0]
            return sure
