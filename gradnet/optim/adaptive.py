"""Optimizers that scale each parameter's step by the size of its gradients so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from gradnet import ops
from gradnet.formulas import UPDATES, Update
from gradnet.optim.flat import Progress
from gradnet.optim.group import Group
from gradnet.optim.optimizer import Optimizer, Parameters
from gradnet.optim.settings import BETAS, FLAG, NONNEGATIVE, UNIT, Settings
from gradnet.tensor import Tensor

__all__ = ["Adagrad", "Adam", "AdamW", "Nadam", "RMSprop"]

_RMSPROP, _RMSPROP_MOMENTUM, _RMSPROP_CENTERED = (
    UPDATES[name] for name in ("rmsprop", "rmsprop_momentum", "rmsprop_centered")
)
_ADAGRAD, _ADAM, _ADAMW, _NADAM = (UPDATES[name] for name in ("adagrad", "adam", "adamw", "nadam"))


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients.

        g = g + weight_decay * p
        v = v + g**2                            from v = initial
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(v) + eps)

    Duchi, Hazan and Singer 2011.
    """

    name = "adagrad"
    rules: ClassVar[Settings] = {
        "lr": NONNEGATIVE,
        "lr_decay": NONNEGATIVE,
        "eps": NONNEGATIVE,
        "initial": NONNEGATIVE,
        "weight_decay": NONNEGATIVE,
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        eps: float = 1e-10,
        initial: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr=lr, lr_decay=lr_decay, eps=eps, initial=initial, weight_decay=weight_decay
        )

    def update(self, group: Group) -> Update:
        return _ADAGRAD

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        lr = group["lr"] / (1 + (t - 1) * group["lr_decay"])
        return lr, group["eps"], group["weight_decay"]


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients.

        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        p = p - lr * g / (sqrt(v) + eps)
        a = alpha * a + (1 - alpha) * g         if centered, and v - a**2 stands for v
        m = momentum * m + g / (sqrt(v) + eps)  with momentum, and then
        p = p - lr * m

    Tieleman and Hinton 2012, Lecture 6.5; centered: Graves 2013, arXiv:1308.0850.
    """

    name = "rmsprop"
    counted = False
    rules: ClassVar[Settings] = {
        "lr": NONNEGATIVE,
        "alpha": UNIT,
        "eps": NONNEGATIVE,
        "momentum": UNIT,
        "centered": FLAG,
        "weight_decay": NONNEGATIVE,
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            momentum=momentum,
            centered=centered,
            weight_decay=weight_decay,
        )

    def check(self, group: Group) -> None:
        if group["centered"] and group["momentum"]:
            raise ValueError(
                f"RMSprop: centered=True has no form with momentum, got {group['momentum']:g}; "
                "choose one of them"
            )

    def update(self, group: Group) -> Update:
        self.check(group)
        if group["centered"]:
            return _RMSPROP_CENTERED
        return _RMSPROP_MOMENTUM if group["momentum"] else _RMSPROP

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        first = (group["lr"], 1 - group["alpha"], group["eps"])
        if group["momentum"]:
            return (*first, group["momentum"], group["weight_decay"])
        return (*first, group["weight_decay"])


class Adam(Optimizer):
    """Momentum divided by the root of a running mean of squares, both corrected for their start.

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - lr * m / (1 - beta1**t) / (sqrt(v / (1 - beta2**t)) + eps)

    Kingma and Ba 2015, arXiv:1412.6980.
    """

    name = "adam"
    rules: ClassVar[Settings] = {
        "lr": NONNEGATIVE,
        "betas": BETAS,
        "eps": NONNEGATIVE,
        "weight_decay": NONNEGATIVE,
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, group: Group) -> Update:
        return _ADAM

    def decays(self, group: Group) -> tuple[float, ...]:
        betas: tuple[float, ...] = group["betas"]
        return betas

    def decayed(self, group: Group, t: float) -> Sequence[float]:
        # Both written out: a loop over two numbers takes a twentieth of a small step.
        beta1, beta2 = group["betas"]
        return 1 - beta1**t, 1 - beta2**t

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return (
            group["lr"] / decayed[0],
            1 - beta1,
            1 - beta2,
            1 / _root(decayed[1]),
            group["eps"],
            group["weight_decay"],
        )


class AdamW(Adam):
    """Adam with a weight decay that is not scaled by the gradients' size.

        p = p - lr * weight_decay * p
        then as Adam without weight decay

    Loshchilov and Hutter 2019, arXiv:1711.05101.
    """

    name = "adamw"

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, group: Group) -> Update:
        return _ADAMW

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        *shared, weight_decay = super().scalars(group, t, *decayed)
        return (*shared, group["lr"] * weight_decay)


class Nadam(Optimizer):
    """Adam that looks ahead along its momentum, as Nesterov's does.

        g = g + weight_decay * p
        mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2);  M = mu(1) * ... * mu(t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        d = (1 - mu(t)) * g / (1 - M) + mu(t + 1) * m / (1 - M * mu(t + 1))
        p = p - lr * d / (sqrt(v / (1 - beta2**t)) + eps)

    Dozat 2016, Incorporating Nesterov Momentum into Adam.
    """

    name = "nadam"
    rules: ClassVar[Settings] = {
        "lr": NONNEGATIVE,
        "betas": BETAS,
        "eps": NONNEGATIVE,
        "weight_decay": NONNEGATIVE,
        "momentum_decay": NONNEGATIVE,
    }
    # The count of steps, and the product of all mu so far.
    start = (0, 1.0)

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
        )

    def update(self, group: Group) -> Update:
        return _NADAM

    def decays(self, group: Group) -> tuple[float, ...]:
        return 0.96 ** group["momentum_decay"], group["betas"][1]

    def advance(
        self, group: Group, progress: Progress, decayed: Sequence[float] | None = None
    ) -> tuple[Progress, tuple[float, ...]]:
        t = progress[0] + 1
        if decayed is None:
            decayed = self.decayed(group, t)
        lr, (beta1, beta2) = group["lr"], group["betas"]
        power, (ratio, _) = 1 - decayed[0], self.decays(group)
        now, ahead = beta1 * (1 - 0.5 * power), beta1 * (1 - 0.5 * power * ratio)
        product = progress[1] * now
        return (t, product), (
            lr * (1 - now) / (1 - product),
            lr * ahead / (1 - product * ahead),
            1 - beta1,
            1 - beta2,
            1 / _root(decayed[1]),
            group["eps"],
            group["weight_decay"],
        )


def _root(x: Any) -> Any:
    """The square root of a number, of a row of numbers, or of a tensor."""
    if type(x) is float:
        return math.sqrt(x)
    return ops.sqrt(x) if isinstance(x, Tensor) else x**0.5
