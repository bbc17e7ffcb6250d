"""Over-fitting: train and validation loss of networks of several widths, depths and penalties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradnet import nn, ops
from gradnet.tensor import Tensor
from gradnet.training import build, checks
from gradnet.training.trainer import Trainer


@dataclass(frozen=True)
class Fit:
    """One network of a study: what it was, and its losses after training."""

    width: int
    depth: int
    l2: float
    seed: int
    train: float
    validation: float


@dataclass(frozen=True)
class CapacityStudy:
    """The fits of `overfitting`, and the values that its three questions vary.

    `base` is (width, depth, l2): what two of them are while the third varies.
    """

    fits: tuple[Fit, ...]
    varied: dict[str, tuple[float, ...]]
    base: tuple[int, int, float]

    def of(self, name: str, value: float) -> tuple[Fit, ...]:
        """The fits, one for each seed, where one setting has a value and the others their base."""
        wanted = dict(zip(("width", "depth", "l2"), self.base, strict=True)) | {name: value}
        return tuple(
            fit for fit in self.fits if all(getattr(fit, k) == v for k, v in wanted.items())
        )


def overfitting(
    X: Any,
    y: Any,
    validation: tuple[Any, Any],
    *,
    widths: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
    depths: Sequence[int] = (0, 1, 2, 3, 4),
    l2: Sequence[float] = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    base: tuple[int, int, float] = (32, 1, 0.0),
    output: str | None = None,
    activation: str = "relu",
    optimizer: build.OptimizerLike = "adam",
    lr: float | None = None,
    epochs: int = 200,
    batch_size: int | None = 64,
    seeds: int = 3,
) -> CapacityStudy:
    """Train networks on rows, one for each width, depth and l2, and measure both losses.

    One setting varies, the others stay at `base`; each is fitted from `seeds` initial weights, to
    the last epoch, without early stopping. `output` is by the targets: integers are classes.
    Raises ValueError for values that make no network, otherwise what `fit` raises.
    """
    seeds = checks.whole("seeds", seeds, 1)
    varied = {
        "width": tuple(checks.whole("widths", v, 1) for v in widths),
        "depth": tuple(checks.whole("depths", v, 0) for v in depths),
        "l2": tuple(checks.number("l2", v) for v in l2),
    }
    x, targets = ops.asarray(X), ops.asarray(y)
    if x.ndim != 2:
        raise ValueError(f"overfitting takes rows of features (n, k), got shape {x.shape}")
    if output is None:
        output = "softmax" if targets.dtype.kind in "iub" else "linear"
    last = _targets(targets, output)
    wanted = [
        (*base[:place], value, *base[place + 1 :])
        for place, values in enumerate(varied.values())
        for value in values
    ]
    fits = []
    for width, depth, strength in dict.fromkeys(wanted):
        for seed in range(seeds):
            model = nn.MLP(
                (x.shape[1], *[int(width)] * int(depth), last), activation, 0.0, output, seed=seed
            )
            trainer = Trainer(
                model,
                optimizer=optimizer,
                lr=lr,
                epochs=epochs,
                batch_size=batch_size,
                l2=float(strength),
                metrics=(),
                seed=seed,
                progress=False,
            )
            trainer.fit(x, targets)
            measured = [trainer.evaluate(*rows)["loss"] for rows in ((x, targets), validation)]
            fits.append(Fit(int(width), int(depth), float(strength), seed, *measured))
    return CapacityStudy(tuple(fits), varied, (int(base[0]), int(base[1]), float(base[2])))


def _targets(y: Tensor, output: str) -> int:
    """Classes or columns that targets (n,) or (n, k) ask of a network."""
    if output == "softmax" and y.ndim == 1:
        return int(y.max()) + 1
    return math.prod(y.shape[1:])
