"""Nonlinear conjugate gradients: directions that do not undo one another, in two vectors."""

from __future__ import annotations

from typing import ClassVar

from gradnet.optim.line_search import LineSearch, Point, add_scaled, dot, norm
from gradnet.optim.optimizer import Parameters
from gradnet.optim.settings import Settings, choice, optional, whole
from gradnet.tensor import Tensor

__all__ = ["ConjugateGradient"]


class ConjugateGradient(LineSearch):
    """Nonlinear conjugate gradients with a line search for the strong Wolfe conditions.

        b = max(0, g.(g - g') / g'.g')          "polak-ribiere", g' being the gradient before g
        b = g.g / g'.g'                         "fletcher-reeves"
        d = -g + b d
        p = p + a d                             a from the line search

    b = 0, a restart, after `restart_every` iterations (the number of parameters if None) and where
    |g.g'| >= 0.1 g.g, which in a quadratic bowl would be 0 (Powell 1977). The first line search
    tries `lr`, or lr over the gradient's size if that is above 1; later ones the step that would
    lower the loss as much as the last, to first order. Limits as for LBFGS.
    Fletcher and Reeves 1964; Polak and Ribiere 1969; Nocedal and Wright 2006, section 5.2.
    """

    name = "conjugate_gradient"
    rules: ClassVar[Settings] = {
        **LineSearch.rules,
        "method": choice("polak-ribiere", "fletcher-reeves"),
        "restart_every": optional(whole(1)),
    }
    # Conjugacy needs line searches that are nearly exact.
    curvature = 0.1

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        method: str = "polak-ribiere",
        restart_every: int | None = None,
        max_iterations: int = 20,
        max_evaluations: int | None = None,
        max_search: int = 25,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            method=method,
            restart_every=restart_every,
            max_iterations=max_iterations,
            max_evaluations=max_evaluations,
            max_search=max_search,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
        )

    def direction(self, gradient: Tensor) -> Tensor:
        d = -gradient
        if not self.vectors:
            return d
        settings = self.groups[0]
        (previous,), (before,) = self.vectors["direction"], self.vectors["gradient"]
        size, overlap = dot(gradient, gradient), dot(gradient, before)
        period = settings["restart_every"] or sum(p.size for p in settings["params"])
        if self.numbers["count"][0] >= period or abs(overlap) >= 0.1 * size:
            self.numbers["count"] = [0]
            return d
        change = max(0.0, size - overlap) if settings["method"] == "polak-ribiere" else size
        add_scaled(d, previous, change / dot(before, before))
        return d

    def first_step(self, slope: float, gradient: Tensor) -> float:
        lr: float = self.groups[0]["lr"]
        if not self.vectors:
            return lr * min(1.0, 1.0 / norm(gradient))
        (step,), (before,) = self.numbers["step"], self.numbers["slope"]
        return step * min(before / slope, 10.0)

    def accepted(self, before: Tensor, direction: Tensor, start: Point, end: Point) -> None:
        count = self.numbers.get("count", [0])[0]
        self.vectors = {"direction": [direction], "gradient": [before]}
        self.numbers = {"count": [count + 1], "step": [end.step], "slope": [start.slope]}
