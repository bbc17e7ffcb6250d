"""Line search for the strong Wolfe conditions, and what optimizers that use it share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gradnet import ops
from gradnet.errors import DTypeError, ShapeError
from gradnet.optim.flat import Flat
from gradnet.optim.optimizer import Closure, Optimizer, Parameters
from gradnet.optim.settings import NONNEGATIVE, POSITIVE, Settings, optional, whole
from gradnet.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Point:
    """A step along a search direction: the loss there, its slope along it, and its gradient."""

    step: float
    value: float
    slope: float
    gradient: Tensor | None = None

    @property
    def finite(self) -> bool:
        return math.isfinite(self.value) and math.isfinite(self.slope)


@dataclass(frozen=True, slots=True)
class Search:
    """How a step went: its iterations, evaluations of the closure, and the loss at its end.

    `stopped` says why it ended: "gradient" or "change" within its tolerance, all "iterations" or
    "evaluations" made, "no descent" that is wider than the tolerances, "not finite", or a
    "learning rate" of 0.
    """

    iterations: int
    evaluations: int
    loss: float
    stopped: str


def strong_wolfe(
    evaluate: Callable[[float], Point],
    start: Point,
    first: float,
    *,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    evaluations: int = 25,
    narrowest: float = 0.0,
) -> Point:
    """A point along a line of descent that satisfies the strong Wolfe conditions:

        value <= start.value + decrease * step * start.slope
        |slope| <= curvature * |start.slope|

    `first` is the step tried first. Where `evaluations` run out, or the bracket is no wider than
    `narrowest`, the lowest point found that satisfies the first condition, or else `start`.
    Nocedal and Wright 2006, Numerical Optimization, Algorithms 3.5 and 3.6.
    """

    def enough(point: Point) -> bool:
        line = start.value + decrease * point.step * start.slope
        return point.finite and point.value <= line

    previous, step = start, first
    for used in range(1, evaluations + 1):
        point = evaluate(step)
        if not enough(point) or (used > 1 and point.value >= previous.value):
            low, high = previous, point
            break
        if abs(point.slope) <= -curvature * start.slope:
            return point
        if point.slope >= 0:
            low, high = point, previous
            break
        # Still falling: between 2 and 10 times as far, where the cubic has its minimum.
        guess = _cubic_minimum(previous, point)
        previous, step = point, min(max(guess, 2 * step), 10 * step)
    else:
        return previous

    for _ in range(evaluations - used):
        width = abs(high.step - low.step)
        if width <= narrowest:
            break
        guess = _cubic_minimum(low, high)
        # Never so near an end that the bracket would hardly shrink.
        left, right = min(low.step, high.step) + 0.1 * width, max(low.step, high.step) - 0.1 * width
        point = evaluate(min(max(guess, left), right))
        # At the bottom values tie by rounding, and the slope still tells the side.
        if not enough(point) or point.value > low.value:
            high = point
            continue
        if abs(point.slope) <= -curvature * start.slope:
            return point
        if point.slope * (high.step - low.step) >= 0:
            high = low
        low = point
    return low


def _cubic_minimum(a: Point, b: Point) -> float:
    """Where the cubic through two points with their slopes is lowest, or halfway between them.

    Nocedal and Wright 2006, equation 3.59.
    """
    middle = (a.step + b.step) / 2
    if not (a.finite and b.finite) or a.step == b.step:
        return middle
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step)
    radicand = d1 * d1 - a.slope * b.slope
    if not 0 <= radicand < math.inf:
        return middle
    d2 = math.copysign(math.sqrt(radicand), b.step - a.step)
    divisor = b.slope - a.slope + 2 * d2
    if divisor == 0:
        return middle
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / divisor


def plus(a: Any, b: Any, scale: Any) -> Any:
    """The formula of a step along a direction."""
    return a + scale * b


def add_scaled(a: Tensor, b: Tensor, scale: float) -> None:
    """a = a + scale * b, in the memory of a."""
    a.backend.map(plus, a.array, b.array, scale, dtype=a.dtype, out=a.array)
    a.changed()


def dot(a: Tensor, b: Tensor) -> float:
    """The inner product of two vectors."""
    return float(ops.vecdot(a, b))


def largest(x: Tensor) -> float:
    """The largest magnitude in a vector."""
    return float(ops.max(ops.abs(x))) if x.size else 0.0


def norm(x: Tensor) -> float:
    """The length of a vector."""
    return math.sqrt(dot(x, x))


class LineSearch(Optimizer):
    """Base of the optimizers that minimize along one direction after the other.

    All parameters form one vector. `step(closure)` runs up to `max_iterations` of them, and leaves
    the parameters, and their gradients, at the last point accepted. The closure computes the loss
    and calls its backward; it must give the same loss for the same parameters.

    A subclass gives the `direction` to search and is told of every step that is `accepted`; what
    it remembers of those is in `vectors`, each as long as the buffer, and in `numbers`.
    """

    needs_closure = True
    rules: ClassVar[Settings] = {
        "lr": NONNEGATIVE,  # above 0 at first; a schedule may end at 0
        "max_iterations": whole(1),
        "max_evaluations": optional(whole(1)),
        "max_search": whole(1),
        "tolerance_grad": NONNEGATIVE,
        "tolerance_change": NONNEGATIVE,
    }
    curvature: ClassVar[float]

    def __init__(self, params: Parameters, **settings: Any) -> None:
        super().__init__(params, **settings)
        kind = type(self).__name__
        POSITIVE(kind, "lr", self.groups[0]["lr"])
        if len(self.groups) > 1:
            raise ValueError(
                f"{kind} sees all parameters as one vector and takes one group, got "
                f"{len(self.groups)}"
            )
        if len(self.groups[0].flats) > 1:
            kinds = sorted({f"{f.dtype.name} on {f.backend.device}" for f in self.groups[0].flats})
            raise DTypeError(
                f"{kind} sees all parameters as one vector and takes one dtype and device, got "
                f"{' and '.join(kinds)}"
            )
        self.vectors: dict[str, list[Tensor]] = {}
        self.numbers: dict[str, list[float]] = {}
        self.found: Search | None = None

    @property
    def flat(self) -> Flat:
        """The buffers of all parameters."""
        return self.groups[0].flats[0]

    def direction(self, gradient: Tensor) -> Tensor:
        """The direction to search, a new vector; it should be one of descent."""
        raise NotImplementedError

    def first_step(self, slope: float, gradient: Tensor) -> float:
        """The step to try first, along a direction with that slope."""
        raise NotImplementedError

    def accepted(self, before: Tensor, direction: Tensor, start: Point, end: Point) -> None:
        """Learn from a step along `direction`, from the gradient `before` to that of `end`."""
        raise NotImplementedError

    def restart(self) -> bool:
        """Forget what was learned, so that the next direction is steepest descent.

        Returns whether there was anything to forget.
        """
        known = bool(self.vectors)
        self.vectors.clear()
        self.numbers.clear()
        return known

    def _along(self, origin: Tensor, direction: Tensor, step: float) -> None:
        """Set the parameters to origin + step * direction."""
        flat = self.flat
        flat.backend.map(
            plus, origin.array, direction.array, step, dtype=flat.dtype, out=flat.values
        )
        flat.changed()

    def _gradient(self) -> Tensor:
        """A copy of all gradients as one vector."""
        flat = self.flat
        flat.gather()
        return Tensor.wrap(flat.backend.cast(flat.gradients, flat.dtype), flat.backend)

    def step(self, closure: Closure | None = None) -> Any:
        """Search along up to `max_iterations` directions; returns what the closure returned first.

        Parameters that the loss does not depend on stay as they are. Stops where no gradient is
        larger than `tolerance_grad`, where neither a parameter nor the loss changes by more than
        `tolerance_change`, after `max_evaluations` of the closure, or where no direction leads
        down. A loss that is not finite at the start changes nothing, nor does a learning rate that
        a schedule has taken to 0. `found` tells how it went.

        Raises TypeError without a closure.
        """
        kind = type(self).__name__
        if closure is None:
            raise TypeError(
                f"{kind}.step needs a closure that computes the loss, calls its backward and "
                "returns it"
            )
        settings, flat = self.groups[0], self.flat
        limit = settings["max_evaluations"] or math.inf
        flat.ready()
        first_result = self.evaluate(closure)
        if first_result is None:
            raise TypeError(f"{kind}.step: the closure returned None; it must return the loss")
        gradient = self._gradient()
        value = float(first_result)
        used, done, stopped = 1, 0, "iterations"
        for _ in range(settings["max_iterations"]):
            steepest = largest(gradient)
            if not (math.isfinite(value) and math.isfinite(steepest)):
                stopped = "not finite"
                break
            if settings["lr"] == 0:
                stopped = "learning rate"
                break
            if steepest <= settings["tolerance_grad"]:
                stopped = "gradient"
                break
            if used >= limit:
                stopped = "evaluations"
                break
            direction = self.direction(gradient)
            slope = dot(gradient, direction)
            if not slope < 0:
                if self.restart():
                    continue
                stopped = "no descent"
                break
            origin = Tensor.wrap(flat.backend.cast(flat.values, flat.dtype), flat.backend)
            at = 0.0

            def probe(step: float, origin: Tensor = origin, direction: Tensor = direction) -> Point:
                nonlocal at, used
                self._along(origin, direction, step)
                at = step
                used += 1
                loss = float(self.evaluate(closure))
                found = self._gradient()
                return Point(step, loss, dot(found, direction), found)

            length = largest(direction)
            start = Point(0.0, value, slope, gradient)
            end = strong_wolfe(
                probe,
                start,
                self.first_step(slope, gradient),
                curvature=self.curvature,
                evaluations=int(min(limit - used, settings["max_search"])),
                narrowest=settings["tolerance_change"] / length,
            )
            if at != end.step:
                self._along(origin, direction, end.step)
            if end.step == 0:
                self._restore_gradient(gradient)
                if self.restart():
                    continue
                stopped = "evaluations" if used >= limit else "no descent"
                break
            assert end.gradient is not None
            done += 1
            self.accepted(gradient, direction, start, end)
            change = max(abs(end.value - start.value), end.step * length)
            value, gradient = end.value, end.gradient
            if change <= settings["tolerance_change"]:
                stopped = "change"
                break
        self.found = Search(done, used, value, stopped)
        self._restore_gradient(gradient)
        return first_result

    def _restore_gradient(self, gradient: Tensor) -> None:
        """Leave the gradients that belong to where the parameters are."""
        flat = self.flat
        flat.backend.cast(gradient.array, flat.dtype, out=flat.gradients)

    # State

    def state_dict(self) -> dict[str, Any]:
        """As of every optimizer, and the vectors and numbers that directions are made from."""
        state = super().state_dict()
        state["numbers"] = {name: list(values) for name, values in self.numbers.items()}
        for name, vectors in self.vectors.items():
            state.update({f"{name}.{i}": self.kept(x) for i, x in enumerate(vectors)})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`. Raises as that of every optimizer."""
        kind, flat = type(self).__name__, self.flat
        found = {key: x for key, x in state.items() if isinstance(x, Tensor)}
        for key, x in found.items():
            if x.shape != (flat.size,) or x.dtype != flat.dtype:
                raise ShapeError(
                    f"{kind} cannot load the vector {key!r} of shape {x.shape} and dtype "
                    f"{x.dtype.name}; all its parameters make {flat.size} elements of "
                    f"{flat.dtype.name}"
                )
        super().load_state_dict({key: x for key, x in state.items() if key not in found})
        self.numbers = {name: list(values) for name, values in state["numbers"].items()}
        self.vectors = {}
        # Sorted by number: a stored state may have come back in another order.
        for key in sorted(found, key=lambda key: int(key.partition(".")[2])):
            vector = ops.asarray(found[key], backend=flat.backend, copy=True)
            self.vectors.setdefault(key.partition(".")[0], []).append(vector)
