"""Optimizer updates against their papers' recurrences, and against PyTorch where installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gradnet import binding, formulas

NAMESPACE: dict[str, Any] = {"sqrt": np.sqrt, "where": np.where}

LR, BETA1, BETA2, EPS, DECAY, MOMENTUM, ALPHA = 0.05, 0.9, 0.99, 1e-8, 0.1, 0.8, 0.95
STEPS = 12


def fixed(**scalars: float) -> Callable[[], Iterator[dict[str, float]]]:
    """The same scalars in every step."""

    def steps() -> Iterator[dict[str, float]]:
        for _ in range(STEPS):
            yield scalars

    return steps


def adam_scalars(**extra: float) -> Callable[[], Iterator[dict[str, float]]]:
    def steps() -> Iterator[dict[str, float]]:
        for t in range(1, STEPS + 1):
            yield {
                "step": LR / (1 - BETA1**t),
                "rate1": 1 - BETA1,
                "rate2": 1 - BETA2,
                "root2": 1 / math.sqrt(1 - BETA2**t),
                "eps": EPS,
            } | extra

    return steps


def momentum_at(t: int) -> float:
    return BETA1 * (1 - 0.5 * 0.96 ** (t * 0.004))


def nadam_scalars() -> Iterator[dict[str, float]]:
    product = 1.0
    for t in range(1, STEPS + 1):
        now, then = momentum_at(t), momentum_at(t + 1)
        product *= now
        yield {
            "step_g": LR * (1 - now) / (1 - product),
            "step_m": LR * then / (1 - product * then),
            "rate1": 1 - BETA1,
            "rate2": 1 - BETA2,
            "root2": 1 / math.sqrt(1 - BETA2**t),
            "eps": EPS,
            "weight_decay": DECAY,
        }


# Name of the update, its scalars step by step, and PyTorch's optimizer with its arguments.
CASES: dict[str, tuple[str, Callable[[], Iterator[dict[str, float]]], str, dict[str, Any]]] = {
    "sgd": ("sgd", fixed(lr=LR, weight_decay=DECAY), "SGD", {"weight_decay": DECAY}),
    "sgd_momentum": (
        "sgd_momentum",
        fixed(lr=LR, momentum=MOMENTUM, weight_decay=DECAY),
        "SGD",
        {"momentum": MOMENTUM, "weight_decay": DECAY},
    ),
    "sgd_nesterov": (
        "sgd_nesterov",
        fixed(lr=LR, momentum=MOMENTUM, weight_decay=DECAY),
        "SGD",
        {"momentum": MOMENTUM, "weight_decay": DECAY, "nesterov": True},
    ),
    "adagrad": (
        "adagrad",
        fixed(lr=LR, eps=EPS, weight_decay=DECAY),
        "Adagrad",
        {"eps": EPS, "weight_decay": DECAY},
    ),
    "rmsprop": (
        "rmsprop",
        fixed(lr=LR, rate=1 - ALPHA, eps=EPS, weight_decay=DECAY),
        "RMSprop",
        {"alpha": ALPHA, "eps": EPS, "weight_decay": DECAY},
    ),
    "rmsprop_momentum": (
        "rmsprop_momentum",
        fixed(lr=LR, rate=1 - ALPHA, eps=EPS, momentum=MOMENTUM, weight_decay=DECAY),
        "RMSprop",
        {"alpha": ALPHA, "eps": EPS, "weight_decay": DECAY, "momentum": MOMENTUM},
    ),
    "rmsprop_centered": (
        "rmsprop_centered",
        fixed(lr=LR, rate=1 - ALPHA, eps=EPS, weight_decay=DECAY),
        "RMSprop",
        {"alpha": ALPHA, "eps": EPS, "weight_decay": DECAY, "centered": True},
    ),
    "adam": (
        "adam",
        adam_scalars(weight_decay=DECAY),
        "Adam",
        {"betas": (BETA1, BETA2), "eps": EPS, "weight_decay": DECAY},
    ),
    "adamw": (
        "adamw",
        adam_scalars(decay=LR * DECAY),
        "AdamW",
        {"betas": (BETA1, BETA2), "eps": EPS, "weight_decay": DECAY},
    ),
    "nadam": (
        "nadam",
        nadam_scalars,
        "NAdam",
        {"betas": (BETA1, BETA2), "eps": EPS, "weight_decay": DECAY, "momentum_decay": 0.004},
    ),
    "lion": (
        "lion",
        fixed(lr=LR, rate1=1 - BETA1, rate2=1 - BETA2, decay=LR * DECAY),
        "",
        {},
    ),
}


def start() -> Any:
    return np.array([1.5, -2.0, 0.01, 0.0, 30.0])


def gradient(p: Any, t: int) -> Any:
    """Of some function of p; one that is zero at times, tiny and large."""
    return np.array([p[0] ** 3 - t % 3, np.sin(5 * p[1]), 1e-9 * p[2], 0.0, 1e3 * p[4]])


def trajectory(name: str, dtype: Any = np.float64) -> list[Any]:
    """Parameters after every step of the update of that name."""
    update_name, scalars, _, _ = CASES[name]
    update = formulas.UPDATES[update_name]
    bound = binding.bind(update.formula, NAMESPACE)
    p = start().astype(dtype)
    state = [np.zeros_like(p) for _ in update.state]
    found = []
    for t, supplied in enumerate(scalars(), 1):
        assert set(supplied) == set(update.scalars)
        ordered = (supplied[scalar] for scalar in update.scalars)
        p, *state = bound(p, gradient(p, t).astype(dtype), *state, *ordered)
        assert all(array.dtype == dtype for array in (p, *state))
        found.append(p)
    return found


def by_the_paper(name: str) -> list[Any]:
    """The same from the recurrences as published, moments corrected where the paper does."""
    p, v, m, a, product = start(), 0.0, 0.0, 0.0, 1.0
    found = []
    for t in range(1, STEPS + 1):
        g = gradient(p, t)
        if name not in ("adamw", "lion"):
            g = g + DECAY * p
        if name in ("adamw", "lion"):
            p = (1 - LR * DECAY) * p
        match name:
            case "sgd":
                p = p - LR * g
            case "sgd_momentum":
                m = MOMENTUM * m + g
                p = p - LR * m
            case "sgd_nesterov":
                m = MOMENTUM * m + g
                p = p - LR * (g + MOMENTUM * m)
            case "adagrad":
                v = v + g**2
                p = p - LR * g / (np.sqrt(v) + EPS)
            case "rmsprop" | "rmsprop_momentum" | "rmsprop_centered":
                v = ALPHA * v + (1 - ALPHA) * g**2
                a = ALPHA * a + (1 - ALPHA) * g if name == "rmsprop_centered" else 0.0
                kept = MOMENTUM if name == "rmsprop_momentum" else 0.0
                m = kept * m + g / (np.sqrt(v - a**2) + EPS)
                p = p - LR * m
            case "adam" | "adamw" | "nadam":
                m = BETA1 * m + (1 - BETA1) * g
                v = BETA2 * v + (1 - BETA2) * g**2
                corrected = m / (1 - BETA1**t)
                if name == "nadam":
                    now, then = momentum_at(t), momentum_at(t + 1)
                    product *= now
                    corrected = then * m / (1 - product * then) + (1 - now) * g / (1 - product)
                p = p - LR * corrected / (np.sqrt(v / (1 - BETA2**t)) + EPS)
            case "lion":
                p = p - LR * np.sign(BETA1 * m + (1 - BETA1) * g)
                m = BETA2 * m + (1 - BETA2) * g
        found.append(p)
    return found


def test_every_update_is_covered() -> None:
    assert set(CASES) == set(formulas.UPDATES)
    for name, update in formulas.UPDATES.items():
        assert binding.results(update.formula) == 1 + len(update.state)
        assert update.name == name


@pytest.mark.parametrize("name", CASES)
def test_update_follows_the_paper(name: str) -> None:
    for found, expected in zip(trajectory(name), by_the_paper(name), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_update_in_float32_stays_near_float64(name: str) -> None:
    for found, expected in zip(trajectory(name, np.float32), trajectory(name), strict=True):
        # The third gradient is about 1e-10: rounding decides what becomes of it next to eps.
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][2]])
def test_update_equals_pytorch(name: str, request: pytest.FixtureRequest) -> None:
    torch = pytest.importorskip("torch")
    _, _, optimizer_name, arguments = CASES[name]
    # NAdam keeps its product of momenta in PyTorch's default dtype.
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    request.addfinalizer(lambda: torch.set_default_dtype(default))
    p = torch.nn.Parameter(torch.tensor(start()))
    optimizer = getattr(torch.optim, optimizer_name)([p], lr=LR, **arguments)
    for t, expected in enumerate(trajectory(name), 1):
        p.grad = torch.tensor(gradient(p.detach().numpy(), t))
        optimizer.step()
        np.testing.assert_allclose(expected, p.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_a_constant_gradient_has_no_negative_variance() -> None:
    update = formulas.UPDATES["rmsprop_centered"]
    bound = binding.bind(update.formula, NAMESPACE)
    p, v, a = np.float32([1.0]), np.float32([0.0]), np.float32([0.0])
    for _ in range(2000):
        p, v, a = bound(p, np.float32([0.3]), v, a, 1e-3, 0.05, 1e-8, 0.0)
        assert np.isfinite(p).all()


def test_source_of_an_update_returns_a_tuple() -> None:
    update = formulas.UPDATES["adam"]
    text = binding.source(update.formula)
    assert text.results == 3
    defined = text.define({"sqrt": math.sqrt, "T": float})
    scalars = next(CASES["adam"][1]())
    p, m, v = defined(1.5, 0.25, 0.0, 0.0, *(scalars[scalar] for scalar in update.scalars))
    assert m == pytest.approx((1 - BETA1) * 0.4)
    assert v == pytest.approx((1 - BETA2) * 0.16)
    assert p == pytest.approx(1.5 - LR)
