"""Ways up a hill: trying neighbours, measuring slopes, and knowing them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradnet import ops
from gradnet.autodiff import no_grad, value_and_grad
from gradnet.errors import ShapeError
from gradnet.learners.intake import numbers
from gradnet.tensor import Tensor
from gradnet.training.checks import number, whole

Objective = Callable[[Tensor], Tensor]


class Ascent(NamedTuple):
    """The way that a search has gone.

    points       where it was: the start, and after each iteration, a list of numbers each
    trace        the objective there
    evaluations  how often it was asked for; one with its gradient counts as one
    """

    points: list[list[float]]
    trace: list[float]
    evaluations: int


class _Counted:
    """An objective f: (d,) -> scalar that counts its calls."""

    def __init__(self, f: Objective) -> None:
        self.f, self.evaluations = f, 0
        self.with_gradient = value_and_grad(self._value)

    def _value(self, x: Tensor) -> Tensor:
        self.evaluations += 1
        y = self.f(x)
        if not isinstance(y, Tensor) or y.size != 1:
            got = f"shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
            raise ShapeError(f"the objective must return a Tensor of one value, got {got}")
        value: Tensor = ops.reshape(y, ())
        return value

    def __call__(self, x: Tensor) -> float:
        with no_grad():
            return float(self._value(x))


def _start(x: Any) -> Tensor:
    point = numbers("x", x)
    if point.ndim != 1:
        raise ShapeError(f"x has shape {point.shape}; expected a point (d,)")
    return point


def hill_climb(
    f: Objective, x: Any, *, step: float = 0.1, shrink: float = 0.5, iterations: int = 100
) -> Ascent:
    """Maximise f: (d,) -> scalar by its values alone.

    repeat:
        among x + step e_j and x - step e_j for every coordinate j, find the best
        if it is better than x:  x = it
        else:                    step = shrink step
    """
    counted, x = _Counted(f), _start(x)
    step, shrink = number("step", step, above=0.0), number("shrink", shrink, above=0.0)
    moves = ops.asarray(ops.eye(x.shape[0]), dtype=x.dtype, backend=x.backend)
    best = counted(x)
    points, trace = [x.tolist()], [best]
    for _ in range(whole("iterations", iterations, 1)):
        neighbours = [x + sign * step * move for move in moves for sign in (1, -1)]
        values = [counted(neighbour) for neighbour in neighbours]
        if max(values) > best:
            best = max(values)
            x = neighbours[values.index(best)]
        else:
            step *= shrink
        points.append(x.tolist())
        trace.append(best)
    return Ascent(points, trace, counted.evaluations)


def _ascend(counted: _Counted, slope: Objective, x: Tensor, lr: float, iterations: int) -> Ascent:
    """x = x + lr slope(x), again and again; the calls for the trace are not counted."""
    lr = number("lr", lr, above=0.0)
    points, trace = [x.tolist()], [counted(x)]
    evaluations = 0
    for _ in range(whole("iterations", iterations, 1)):
        before = counted.evaluations
        x = x + lr * slope(x)
        evaluations += counted.evaluations - before
        points.append(x.tolist())
        trace.append(counted(x))
    return Ascent(points, trace, evaluations)


def finite_difference_ascent(
    f: Objective, x: Any, *, lr: float = 0.1, epsilon: float = 1e-3, iterations: int = 100
) -> Ascent:
    """Maximise f: (d,) -> scalar along slopes that are measured, 2d evaluations for each step.

        repeat:
            g_j = (f(x + epsilon e_j) - f(x - epsilon e_j)) / (2 epsilon)  for every coordinate j
            x = x + lr g

    The slope's error is of the order of epsilon^2, and the rounding of f over epsilon.
    """
    counted, x = _Counted(f), _start(x)
    epsilon = number("epsilon", epsilon, above=0.0)
    moves = list(ops.asarray(ops.eye(x.shape[0]), dtype=x.dtype, backend=x.backend) * epsilon)

    def slope(x: Tensor) -> Tensor:
        found = [(counted(x + move) - counted(x - move)) / (2 * epsilon) for move in moves]
        return ops.asarray(found, dtype=x.dtype, backend=x.backend)

    return _ascend(counted, slope, x, lr, iterations)


def gradient_ascent(f: Objective, x: Any, *, lr: float = 0.1, iterations: int = 100) -> Ascent:
    """Maximise f: (d,) -> scalar along its gradient, one evaluation with its backward each step.

    repeat:  x = x + lr df/dx
    """
    counted, x = _Counted(f), _start(x)

    def slope(x: Tensor) -> Tensor:
        gradient: Tensor = counted.with_gradient(x)[1]
        return gradient

    return _ascend(counted, slope, x, lr, iterations)


def compare_ascents(
    f: Objective, x: Any, *, lr: float = 0.1, step: float = 0.1, iterations: int = 100
) -> dict[str, Ascent]:
    """All three ways from one start: "hill climbing", "finite differences", "gradient"."""
    return {
        "hill climbing": hill_climb(f, x, step=step, iterations=iterations),
        "finite differences": finite_difference_ascent(f, x, lr=lr, iterations=iterations),
        "gradient": gradient_ascent(f, x, lr=lr, iterations=iterations),
    }
