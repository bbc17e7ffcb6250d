"""Universal approximation: one hidden layer comes as near to a function as it is wide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradnet import ops
from gradnet.autodiff import no_grad
from gradnet.errors import ShapeError
from gradnet.learners.intake import numbers
from gradnet.learners.restarts import Restarts
from gradnet.nn import MLP
from gradnet.tensor import Tensor
from gradnet.training.checks import whole

Function = Callable[[Tensor], Any]


class Approximation(NamedTuple):
    """One network for each width, and how far each is from the function.

    widths    units of the hidden layer
    trace     the largest error of each on the interval; `mean_square` the mean of squared errors
    networks  `nn.MLP`s of sizes (1, width, 1)
    """

    widths: list[int]
    trace: list[float]
    mean_square: list[float]
    networks: list[MLP]


def _values(f: Function, x: Tensor) -> Tensor:
    """f at points (n, 1), as (n, 1)."""
    y = numbers("f(x)", f(x))
    if y.size != x.size:
        raise ShapeError(
            f"f gave shape {y.shape} for points of shape {x.shape}; expected a value for each"
        )
    return ops.astype(ops.reshape(y, x.shape), x.dtype)


def _interval(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = map(float, interval)
    if not low < high:
        raise ValueError(f"interval must be (low, high) with low < high, got {interval}")
    return low, high


def construct(f: Function, width: int, interval: tuple[float, float] = (0.0, 1.0)) -> MLP:
    """A network of one hidden ReLU layer that is f at width + 1 points, and straight between.

        y(x) = f(x_0) + s_0 relu(x - x_0) + sum_i (s_i - s_{i-1}) relu(x - x_i)

    with the slope s_i of f from x_i to x_{i+1}: each unit bends the line at its knot. For a step h
    between the knots the error is at most h^2 / 8 times the largest |f''|. No training.
    `f` maps points (n, 1) to as many values.
    """
    low, high = _interval(interval)
    whole("width", width, 1)
    knots = ops.linspace(low, high, width + 1, dtype="float64")
    y = _values(f, ops.reshape(knots, (-1, 1)))[:, 0]
    slopes = ops.diff(y) / ops.diff(knots)
    bends = ops.concat([slopes[:1], ops.diff(slopes)])
    model = MLP((1, width, 1), "relu", init="zeros", dtype="float64")
    hidden, out = model.layers
    hidden.weight.assign_(ops.ones_like(hidden.weight))
    hidden.bias.assign_(-knots[:-1])
    out.weight.assign_(ops.reshape(bends, (-1, 1)))
    out.bias.assign_(y[:1])
    return model


def learn(
    f: Function,
    width: int,
    interval: tuple[float, float] = (0.0, 1.0),
    *,
    activation: str = "tanh",
    members: int = 8,
    epochs: int = 300,
    points: int = 200,
    lr: float = 0.02,
    seed: int = 0,
) -> MLP:
    """A network of one hidden layer trained on points of f: the best of some random restarts.

    minimise  mean over points (y(x) - f(x))^2
    """
    low, high = _interval(interval)
    x = ops.reshape(ops.linspace(low, high, points, dtype="float64"), (-1, 1))
    # Inputs on [-2, 2], where the units' random starts bend.
    scale, shift = 4 / (high - low), -2 * (high + low) / (high - low)
    restarts = Restarts(
        (1, width, 1),
        activation,
        "linear",
        members=members,
        lr=lr,
        epochs=epochs,
        batch_size=50,
        seed=seed,
        dtype="float64",
    )
    model = restarts.fit(x * scale + shift, _values(f, x)).member()
    hidden = model.layers[0]
    hidden.bias.assign_(hidden.bias.detach() + shift * hidden.weight.detach()[0])
    hidden.weight.assign_(hidden.weight.detach() * scale)
    return model


def approximate(
    f: Function,
    widths: Sequence[int] = (1, 2, 4, 8, 16, 32),
    interval: tuple[float, float] = (0.0, 1.0),
    *,
    method: str = "construct",
    points: int = 2001,
    **options: Any,
) -> Approximation:
    """Networks of one hidden layer for f on an interval, and their errors against their width.

    method="construct" sets the weights (see `construct`): doubling the width quarters the error of
    a smooth function. method="learn" trains them (see `learn`, which takes the `options`): less
    error for a few units, but no promise. Cybenko 1989; Hornik, Stinchcombe and White 1989.

    Raises ValueError for another method.
    """
    if method not in ("construct", "learn"):
        raise ValueError(f"approximate has method 'construct' or 'learn', got {method!r}")
    low, high = _interval(interval)
    x = ops.reshape(ops.linspace(low, high, points, dtype="float64"), (-1, 1))
    y = _values(f, x)
    found = Approximation([], [], [], [])
    for width in widths:
        make = construct if method == "construct" else learn
        model = make(f, width, (low, high), **options)
        with no_grad():
            error = model(x) - y
        found.widths.append(width)
        found.trace.append(float(ops.max(ops.abs(error))))
        found.mean_square.append(float(ops.mean(ops.square(error))))
        found.networks.append(model)
    return found
