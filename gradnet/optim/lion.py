"""Lion: steps of one size, whose signs come from a momentum."""

from __future__ import annotations

from typing import ClassVar

from gradnet.formulas import UPDATES, Update
from gradnet.optim.group import Group
from gradnet.optim.optimizer import Optimizer, Parameters
from gradnet.optim.settings import BETAS, NONNEGATIVE, Settings

__all__ = ["Lion"]

_LION = UPDATES["lion"]


class Lion(Optimizer):
    """Evolved sign momentum; lr is 3 to 10 times smaller, weight_decay larger, than for AdamW.

        p = p - lr * weight_decay * p
        p = p - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g

    Chen et al. 2023, arXiv:2302.06675.
    """

    name = "lion"
    counted = False
    rules: ClassVar[Settings] = {"lr": NONNEGATIVE, "betas": BETAS, "weight_decay": NONNEGATIVE}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)

    def update(self, group: Group) -> Update:
        return _LION

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        lr = group["lr"]
        return lr, 1 - beta1, 1 - beta2, lr * group["weight_decay"]
