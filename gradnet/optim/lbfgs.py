"""Limited-memory BFGS: Newton's method with the curvature seen on the last steps."""

from __future__ import annotations

import math
from typing import ClassVar

from gradnet.optim.line_search import LineSearch, Point, add_scaled, dot, norm
from gradnet.optim.optimizer import Parameters
from gradnet.optim.settings import Settings, whole
from gradnet.tensor import Tensor

__all__ = ["LBFGS"]


class LBFGS(LineSearch):
    """Limited-memory BFGS with a line search for the strong Wolfe conditions.

        H = s.y / y.y                           of the newest pair (s, y); 1 without any
        d = -H_k g                              the two loops over the last history_size pairs
        p = p + a d                             a from the line search, which tries lr first
        s, y = a d, the change of g             a new pair, if s.y > 0

    A step makes up to `max_iterations` such iterations, with at most `max_search` evaluations of
    the closure for each and `max_evaluations`, if given, for all.
    Liu and Nocedal 1989; Nocedal and Wright 2006, Numerical Optimization, Algorithm 7.5.
    """

    name = "lbfgs"
    rules: ClassVar[Settings] = {**LineSearch.rules, "history_size": whole(1)}
    curvature = 0.9

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        max_iterations: int = 20,
        max_evaluations: int | None = None,
        max_search: int = 25,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 10,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            max_iterations=max_iterations,
            max_evaluations=max_evaluations,
            max_search=max_search,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
        )

    def direction(self, gradient: Tensor) -> Tensor:
        d = -gradient
        pairs = list(
            zip(
                self.vectors.get("s", ()),
                self.vectors.get("y", ()),
                self.numbers.get("s.y", ()),
                strict=True,
            )
        )
        if not pairs:
            return d
        weights = []
        for s, y, sy in reversed(pairs):
            weights.append(dot(s, d) / sy)
            add_scaled(d, y, -weights[-1])
        _, y, sy = pairs[-1]
        d = d * (sy / dot(y, y))
        for s, y, sy in pairs:
            add_scaled(d, s, weights.pop() - dot(y, d) / sy)
        return d

    def first_step(self, slope: float, gradient: Tensor) -> float:
        lr: float = self.groups[0]["lr"]
        # Nothing is known of the curvature at first: move by lr in all, as SciPy's does.
        return lr if self.vectors else lr / norm(gradient)

    def accepted(self, before: Tensor, direction: Tensor, start: Point, end: Point) -> None:
        s, y = direction * end.step, end.gradient - before
        sy = dot(s, y)
        # Without positive curvature, beyond rounding, the pair would spoil the matrix.
        if sy <= 1e-10 * math.sqrt(dot(s, s) * dot(y, y)):
            return
        self.vectors.setdefault("s", []).append(s)
        self.vectors.setdefault("y", []).append(y)
        self.numbers.setdefault("s.y", []).append(sy)
        size = self.groups[0]["history_size"]
        for vectors in self.vectors.values():
            del vectors[:-size]
        del self.numbers["s.y"][:-size]
