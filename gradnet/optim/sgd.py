"""Gradient descent, plain, with momentum, or with Nesterov's."""

from __future__ import annotations

from typing import ClassVar

from gradnet.formulas import UPDATES, Update
from gradnet.optim.group import Group
from gradnet.optim.optimizer import Optimizer, Parameters
from gradnet.optim.settings import FLAG, NONNEGATIVE, UNIT, Settings

__all__ = ["SGD"]

_PLAIN, _MOMENTUM, _NESTEROV = (UPDATES[name] for name in ("sgd", "sgd_momentum", "sgd_nesterov"))


class SGD(Optimizer):
    """Stochastic gradient descent.

        g = g + weight_decay * p
        p = p - lr * g                          without momentum
        m = momentum * m + g
        p = p - lr * m                          with momentum
        p = p - lr * (g + momentum * m)         with Nesterov's

    Robbins and Monro 1951; Polyak 1964; Sutskever, Martens, Dahl and Hinton 2013.
    """

    name = "sgd"
    counted = False
    rules: ClassVar[Settings] = {
        "lr": NONNEGATIVE,
        "momentum": UNIT,
        "nesterov": FLAG,
        "weight_decay": NONNEGATIVE,
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
        )

    def check(self, group: Group) -> None:
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")

    def update(self, group: Group) -> Update:
        if not group["momentum"]:
            return _PLAIN
        return _NESTEROV if group["nesterov"] else _MOMENTUM

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        if not group["momentum"]:
            return group["lr"], group["weight_decay"]
        return group["lr"], group["momentum"], group["weight_decay"]
