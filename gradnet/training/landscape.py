"""The loss of a network along two directions through its weights, and the path of its training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from gradnet import ops
from gradnet.autodiff import no_grad
from gradnet.nn import Module
from gradnet.ops.decompositions import SVD
from gradnet.random import Generator
from gradnet.tensor import Tensor
from gradnet.training import build, checks, intake
from gradnet.training.callbacks import Callback
from gradnet.training.evaluation import Evaluation
from gradnet.training.objective import Objective
from gradnet.training.run import Run

Weights = tuple[Tensor, ...]


class WeightPath(Callback):
    """A callback that keeps the weights before training and after every epoch.

    `points` are the parameters' values, one tuple of tensors for each; `every` epochs.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = checks.whole("every", every, 1)
        self.points: list[Weights] = []

    def on_fit_start(self, run: Run) -> None:
        if not run.resumed:
            self.points = []
        self._keep(run)

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch % self.every == 0:
            self._keep(run)

    def _keep(self, run: Run) -> None:
        self.points.append(_values(run.model))


@dataclass(frozen=True)
class LossSurface:
    """Losses on a grid of a plane through the weights of a model, which is at (0, 0).

    x, y        the steps along both directions, n and m of them
    losses      a row for each y: losses[j][i] is that at x[i], y[j]
    directions  "random" or "path"
    shares      of the path's variance, the parts along x and y; None for random directions
    path        the points of the path in the plane, from its start, or none
    centre      the loss of the model itself
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    directions: str
    shares: tuple[float, float] | None
    path: tuple[tuple[float, float], ...]
    centre: float


def loss_surface(
    model: Module,
    X: Any,
    y: Any,
    *,
    path: WeightPath | Sequence[Weights] | None = None,
    directions: Literal["random", "path"] | None = None,
    reach: float = 1.0,
    points: int = 25,
    loss: str | Callable[..., Tensor] | None = None,
    sample_weight: Any = None,
    seed: int = 0,
) -> LossSurface:
    """The loss on rows at `points` by `points` weights w + a d1 + b d2 around those of a model.

    directions  "random": normal, each unit's incoming weights scaled to the norm of the model's
                own, biases left as they are, |a|, |b| <= `reach` (or as far as the path goes).
                "path": the first two principal components of the path's points minus the model's
                weights, the grid around the path with a margin of a fifth times `reach`.
                By default that where there is a path of three points.
    path        a WeightPath that was among the callbacks of `fit`, or its points

    The model itself is not changed. Raises ValueError for a path that is too short or of another
    model, otherwise what `fit` raises. Li et al. 2018, arXiv:1712.09913.
    """
    points = checks.whole("points", points, 3)
    reach = checks.number("reach", reach, above=0.0)
    kept = list(path.points if isinstance(path, WeightPath) else path or ())
    if directions is None:
        directions = "path" if len(kept) >= 3 else "random"
    if directions not in ("random", "path"):
        raise ValueError(f"directions must be 'random' or 'path', not {directions!r}")
    if directions == "path" and len(kept) < 3:
        raise ValueError(
            f"directions of the path need at least three points on it, got {len(kept)}; pass "
            "path=WeightPath() that was in the callbacks of fit"
        )
    trial = copy.deepcopy(model).eval()
    start = _values(trial)
    shapes = [value.shape for value in start]
    if any([value.shape for value in point] != shapes for point in kept):
        raise ValueError("the path is of another model: its weights have other shapes")
    offsets = [tuple(p - q for p, q in zip(point, start, strict=True)) for point in kept]
    shares: tuple[float, float] | None = None
    if directions == "random":
        generator = Generator(seed)
        plane = (_random(start, generator), _random(start, generator))
    else:
        plane, shares = _principal(offsets)
    way = tuple(_coordinates(offset, plane) for offset in offsets)
    if directions == "random":
        far = max([reach, *(1.1 * abs(v) for point in way for v in point)])
        x = y_axis = _line(-far, far, points)
    else:
        x, y_axis = (_around([p[k] for p in way] + [0.0], reach, points) for k in (0, 1))
    objective = Objective(trial, loss)
    data = intake.Intake(trial, objective, build.reference(trial))
    rows = data.rows(X, y, sample_weight)
    measure = Evaluation(trial, objective, (), partial(iter, [rows]))
    own = list(trial.parameters())

    def at(a: float, b: float) -> float:
        with no_grad():
            for parameter, w, d, e in zip(own, start, *plane, strict=True):
                parameter.assign_(w + a * d + b * e)
        return measure()["loss"]

    losses = tuple(tuple(at(a, b) for a in x) for b in y_axis)
    return LossSurface(x, y_axis, losses, directions, shares, way, at(0.0, 0.0))


def _values(model: Module) -> Weights:
    """Copies of a model's parameters."""
    return tuple(parameter.detach().copy() for parameter in model.parameters())


def _random(weights: Weights, generator: Generator) -> Weights:
    """A normal direction with the norm of the weights in every unit; 0 for biases."""
    found = []
    for w in weights:
        if w.ndim < 2:
            found.append(ops.zeros_like(w))
            continue
        d = generator.normal(w.shape, dtype=w.dtype, backend=w.backend)
        norms = [ops.sqrt(ops.sum(v * v, axis=0, keepdims=True)) for v in (w, d)]
        found.append(d * norms[0] / norms[1])
    return tuple(found)


def _principal(offsets: Sequence[Weights]) -> tuple[tuple[Weights, Weights], tuple[float, float]]:
    """The two directions, of length 1, that hold most of some offsets, and their shares."""
    flat = ops.stack([_flat(offset) for offset in offsets], axis=0)
    _, s, vh = SVD(flat, full_matrices=False)
    powers = [float(v) ** 2 for v in s.tolist()]
    total = math.fsum(powers)
    if total == 0.0:
        raise ValueError("all points of the path are the model's own weights: there is no way")
    # The path begins at the left, below, whatever signs the decomposition chose.
    signs = [-1.0 if float((flat[0] * vh[k]).sum().item()) > 0 else 1.0 for k in (0, 1)]
    plane = [_unflat(vh[k] * signs[k], offsets[0]) for k in (0, 1)]
    return (plane[0], plane[1]), (powers[0] / total, powers[1] / total)


def _flat(values: Weights) -> Tensor:
    return ops.concat([ops.reshape(value, (-1,)) for value in values], axis=0)


def _unflat(flat: Tensor, like: Weights) -> Weights:
    found, begin = [], 0
    for value in like:
        found.append(ops.reshape(flat[begin : begin + value.size], value.shape))
        begin += value.size
    return tuple(found)


def _coordinates(offset: Weights, plane: tuple[Weights, Weights]) -> tuple[float, float]:
    """The point of a plane nearest to an offset, by least squares: directions may be oblique."""
    v, d, e = _flat(offset), _flat(plane[0]), _flat(plane[1])
    dd, ee, de, vd, ve = (
        float((a * b).sum().item()) for a, b in ((d, d), (e, e), (d, e), (v, d), (v, e))
    )
    det = dd * ee - de * de
    if det <= 1e-12 * dd * ee:
        return (vd / dd if dd else 0.0), 0.0
    return (vd * ee - ve * de) / det, (ve * dd - vd * de) / det


def _line(low: float, high: float, points: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * i / (points - 1) for i in range(points))


def _around(values: Sequence[float], reach: float, points: int) -> tuple[float, ...]:
    """A line over some values with a margin; a quarter unit wide at least."""
    low, high = min(values), max(values)
    margin = reach * max(0.2 * (high - low), 0.125)
    return _line(low - margin, high + margin, points)
