"""Schedules in closed form, against PyTorch's, composed, and resumed."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradnet as gn
from gradnet import optim
from gradnet.optim.optimizer import Optimizer
from gradnet.optim.schedules import Schedule

BASES = (0.4, 0.05)


def made(kind: str = "adam", bases: tuple[float, ...] = BASES, **given: Any) -> Optimizer:
    groups = [{"params": [gn.asarray(np.ones(2), requires_grad=True)], "lr": lr} for lr in bases]
    return optim.create(kind, groups, **given)


def rates(schedule: Schedule, count: int, metrics: list[float] | None = None) -> np.ndarray:
    """The learning rate of each group before and after each of `count` units."""
    found = []
    for i in range(count):
        found.append([group["lr"] for group in schedule.optimizer.groups])
        schedule.step(metrics[i]) if metrics is not None else schedule.step()
    return np.array(found)


CLOSED: list[tuple[str, dict[str, Any], Callable[[int, float], float]]] = [
    ("constant", {}, lambda t, base: base),
    ("step", {"size": 4, "gamma": 0.5}, lambda t, base: base * 0.5 ** (t // 4)),
    (
        "step",
        {"milestones": [2, 3, 11]},
        lambda t, base: base / 10 ** sum(t >= m for m in (2, 3, 11)),
    ),
    ("exponential", {"gamma": 0.9}, lambda t, base: base * 0.9**t),
    (
        "cosine",
        {"total_steps": 12, "min_lr": 0.01},
        lambda t, base: 0.01 + (base - 0.01) * (1 + math.cos(math.pi * min(t, 12) / 12)) / 2,
    ),
    (
        "cosine",
        {"total_steps": 5, "restarts": True},
        lambda t, base: base * (1 + math.cos(math.pi * (t % 5) / 5)) / 2,
    ),
    ("warm_up", {"steps": 6}, lambda t, base: base * min(t / 6, 1)),
    ("warm_up", {"steps": 4, "start": 0.2}, lambda t, base: base * (0.2 + 0.8 * min(t / 4, 1))),
    (
        "one_cycle",
        {"total_steps": 20, "rise": 0.25, "anneal": "linear", "start_divisor": 10},
        lambda t, base: base * float(np.interp(t, [0, 4, 19], [0.1, 1, 1e-5])),
    ),
]


@pytest.mark.parametrize(("name", "given", "closed"), CLOSED)
def test_closed_forms(name: str, given: dict[str, Any], closed: Any) -> None:
    schedule = optim.schedule(name, made(), **given)
    expected = [[closed(t, base) for base in BASES] for t in range(30)]
    np.testing.assert_allclose(rates(schedule, 30), expected, rtol=1e-12)


TORCH: list[tuple[str, dict[str, Any], str, dict[str, Any], int]] = [
    ("step", {"size": 3, "gamma": 0.3}, "StepLR", {"step_size": 3, "gamma": 0.3}, 20),
    ("step", {"milestones": [2, 7]}, "MultiStepLR", {"milestones": [2, 7]}, 20),
    ("exponential", {"gamma": 0.8}, "ExponentialLR", {"gamma": 0.8}, 20),
    (
        "cosine",
        {"total_steps": 15, "min_lr": 0.001},
        "CosineAnnealingLR",
        {"T_max": 15, "eta_min": 0.001},
        16,
    ),
    (
        "cosine",
        {"total_steps": 3, "restarts": True, "growth": 2, "min_lr": 0.001},
        "CosineAnnealingWarmRestarts",
        {"T_0": 3, "T_mult": 2, "eta_min": 0.001},
        40,
    ),
    (
        "one_cycle",
        {"total_steps": 30},
        "OneCycleLR",
        {"max_lr": list(BASES), "total_steps": 30, "cycle_momentum": False},
        30,
    ),
    (
        "one_cycle",
        {"total_steps": 20, "rise": 0.4, "anneal": "linear", "momentum": (0.8, 0.9)},
        "OneCycleLR",
        {
            "max_lr": list(BASES),
            "total_steps": 20,
            "pct_start": 0.4,
            "anneal_strategy": "linear",
            "base_momentum": 0.8,
            "max_momentum": 0.9,
        },
        20,
    ),
]


def pytorch(kind: str, **given: Any) -> Any:
    torch = pytest.importorskip("torch")
    return getattr(torch.optim, kind)(
        [{"params": [torch.ones(2, requires_grad=True)], "lr": lr} for lr in BASES], **given
    )


@pytest.mark.parametrize(("name", "given", "theirs", "named", "count"), TORCH)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_they_are_those_of_pytorch(
    name: str, given: dict[str, Any], theirs: str, named: dict[str, Any], count: int, kind: str
) -> None:
    other = pytorch(kind, **({"momentum": 0.5} if kind == "SGD" else {}), lr=1.0)
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch misses the optimizer's own steps
        plan = getattr(torch.optim.lr_scheduler, theirs)(other, **named)
        mine = made(kind, **({"momentum": 0.5} if kind == "SGD" else {}))
        schedule = optim.schedule(name, mine, **given)
        for t in range(count):
            for a, b in zip(mine.groups, other.param_groups, strict=True):
                assert a["lr"] == pytest.approx(b["lr"], rel=1e-9)
                if "momentum" in given:
                    ours = a["momentum"] if kind == "SGD" else a["betas"][0]
                    yours = b["momentum"] if kind == "SGD" else b["betas"][0]
                    assert ours == pytest.approx(yours, rel=1e-12)
            if t < count - 1:
                plan.step()
                schedule.step()


@settings(max_examples=40, deadline=None)
@given(
    metrics=st.lists(
        st.one_of(st.floats(-5, 5), st.sampled_from([1.0, 2.0])), min_size=1, max_size=40
    ),
    patience=st.integers(0, 3),
    cooldown=st.integers(0, 3),
    mode=st.sampled_from(["min", "max"]),
)
def test_plateau_is_that_of_pytorch(
    metrics: list[float], patience: int, cooldown: int, mode: str
) -> None:
    # PyTorch's relative threshold changes its meaning for negative values; ours does not.
    metrics = [abs(metric) for metric in metrics]
    other = pytorch("Adam")
    import torch

    plan = torch.optim.lr_scheduler.ReduceLROnPlateau(
        other, mode, 0.5, patience, 1e-4, cooldown=cooldown, min_lr=0.002, eps=0
    )
    schedule = optim.PlateauSchedule(
        made(), 0.5, patience, mode=mode, cooldown=cooldown, min_lr=0.002
    )
    for metric in metrics:
        plan.step(metric)
        schedule.step(metric)
        for a, b in zip(schedule.optimizer.groups, other.param_groups, strict=True):
            assert a["lr"] == pytest.approx(b["lr"], rel=1e-12)


def test_plateau_waits_and_rests() -> None:
    optimizer = made(bases=(1.0,))
    schedule = optim.PlateauSchedule(optimizer, 0.5, patience=2, cooldown=1, min_lr=0.2)
    found = rates(schedule, 12, [3.0, 2.0, math.nan, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8])
    assert found.ravel().tolist() == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    schedule.step(9.0)
    assert optimizer.lr == 0.2


def test_a_rate_below_the_least_is_not_raised() -> None:
    schedule = optim.PlateauSchedule(made(bases=(0.01,)), 0.5, patience=0, min_lr=0.1)
    assert rates(schedule, 4, [1.0] * 4).ravel().tolist() == [0.01] * 4


def test_warm_up_goes_before_another_schedule() -> None:
    optimizer = made()
    then = optim.schedule("cosine", optimizer, total_steps=10)
    found = rates(optim.schedule("warm_up", optimizer, steps=5, start=0.1, then=then), 20)
    expected = [
        [
            base * (0.1 + 0.9 * t / 5)
            if t < 5
            else base * (1 + math.cos(math.pi * min(t - 5, 10) / 10)) / 2
            for base in BASES
        ]
        for t in range(20)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_warm_up_is_the_sequence_of_pytorch() -> None:
    other = pytorch("Adam")
    from torch.optim import lr_scheduler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plan = lr_scheduler.SequentialLR(
            other,
            [
                lr_scheduler.LinearLR(other, 0.25, 1.0, 4),
                lr_scheduler.ExponentialLR(other, 0.9),
            ],
            [4],
        )
        optimizer = made()
        then = optim.ExponentialSchedule(optimizer, 0.9, per="step")
        schedule = optim.WarmUpSchedule(optimizer, 4, 0.25, then)
        for _ in range(15):
            for a, b in zip(optimizer.groups, other.param_groups, strict=True):
                assert a["lr"] == pytest.approx(b["lr"], rel=1e-12)
            plan.step()
            schedule.step()


def test_warm_up_counts_steps_over_a_schedule_that_counts_epochs() -> None:
    optimizer = made(bases=(1.0,))
    then = optim.StepSchedule(optimizer, 1, 0.5)
    schedule = optim.WarmUpSchedule(optimizer, 4, then=then)
    seen = []
    for epoch in range(3):
        for _ in range(3):
            seen.append(optimizer.lr)
            schedule.after_step()
        schedule.after_epoch(float(epoch))
    assert seen == [0, 0.25, 0.5, 0.375, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_warm_up_goes_before_a_plateau() -> None:
    optimizer = made(bases=(1.0,))
    schedule = optim.WarmUpSchedule(
        optimizer, 2, then=optim.PlateauSchedule(optimizer, 0.5, patience=0)
    )
    seen = []
    for metric in (3.0, 4.0, 5.0):
        seen.append(optimizer.lr)
        schedule.after_step()
        schedule.after_epoch(metric)
    assert [*seen, optimizer.lr] == [0, 0.5, 0.5, 0.25]


def test_warm_up_of_a_cycle_starts_from_its_peaks() -> None:
    optimizer = made(bases=(1.0,))
    then = optim.OneCycleSchedule(optimizer, 10)
    assert optimizer.lr == 1 / 25
    schedule = optim.WarmUpSchedule(optimizer, 3, then=then)
    assert schedule.bases == [1.0]


@pytest.mark.parametrize(
    ("given", "unit"),
    [({}, "epoch"), ({"per": "step"}, "step"), ({"per": "epoch"}, "epoch")],
)
def test_only_its_own_unit_counts(given: dict[str, Any], unit: str) -> None:
    schedule = optim.schedule("exponential", made(), gamma=0.5, **given)
    assert schedule.per == unit
    schedule.after_step()
    schedule.after_step()
    schedule.after_epoch()
    assert schedule.count == {"step": 2, "epoch": 1}[unit]


GIVEN: dict[str, dict[str, Any]] = {
    "step": {"size": 3},
    "exponential": {"gamma": 0.9},
    "cosine": {"total_steps": 15},
    "one_cycle": {"total_steps": 15, "momentum": (0.8, 0.95)},
    "plateau": {"patience": 1, "cooldown": 1},
    "warm_up": {"steps": 5},
}


@pytest.mark.parametrize("name", optim.schedule_names())
def test_every_schedule_resumes(name: str) -> None:
    metrics = [1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    given = GIVEN.get(name, {})

    def advance(schedule: Schedule, part: list[float]) -> list[list[Any]]:
        seen = []
        for metric in part:
            schedule.after_step()
            schedule.after_epoch(metric)
            seen.append([dict(group.settings()) for group in schedule.optimizer.groups])
        return seen

    whole = optim.schedule(name, made(), **given)
    expected = advance(whole, metrics)[7:]
    first = optim.schedule(name, made(), **given)
    advance(first, metrics[:7])
    state = json.loads(json.dumps(first.state_dict()))
    assert state["kind"] == name
    second = optim.schedule(name, made(bases=(9.0, 9.0)), **given)
    second.load_state_dict(state)
    assert [g.settings() for g in second.optimizer.groups] == [
        g.settings() for g in first.optimizer.groups
    ]
    assert advance(second, metrics[7:]) == expected
    assert second.state_dict() == whole.state_dict()
    assert "count=12" in repr(second)


def test_settings_without_a_default_are_told() -> None:
    needed = {name: optim.schedule_needs(name) for name in optim.schedule_names()}
    assert needed["cosine"] == needed["one_cycle"] == ("total_steps",)
    assert needed["exponential"] == ("gamma",)
    assert needed["plateau"] == needed["constant"] == ()


def test_states_that_do_not_fit_are_refused() -> None:
    cosine = optim.CosineSchedule(made(), 9)
    with pytest.raises(ValueError, match=r"state of 'constant'; .* the schedule 'cosine'"):
        cosine.load_state_dict(optim.ConstantSchedule(made()).state_dict())
    with pytest.raises(ValueError, match="a state for 1 groups: the optimizer has 2"):
        cosine.load_state_dict(optim.CosineSchedule(made(bases=(0.1,)), 9).state_dict())
    alone = optim.WarmUpSchedule(made(), 3)
    optimizer = made()
    joined = optim.WarmUpSchedule(optimizer, 3, then=optim.ConstantSchedule(optimizer))
    with pytest.raises(ValueError, match="goes on with 'constant': this one goes on with None"):
        alone.load_state_dict(joined.state_dict())
    with pytest.raises(ValueError, match="goes on with None: this one goes on with 'constant'"):
        joined.load_state_dict(alone.state_dict())


def test_groups_added_later_are_not_scheduled_silently() -> None:
    optimizer = made()
    schedule = optim.ExponentialSchedule(optimizer, 0.9)
    optimizer.add_group({"params": [gn.asarray(np.ones(2), requires_grad=True)]})
    with pytest.raises(ValueError, match="made for 2 groups and the optimizer has 3 now"):
        schedule.step()


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_can_be_scheduled(name: str) -> None:
    p = gn.asarray(np.array([2.0, -1.0]), requires_grad=True)
    optimizer = optim.create(name, [p], lr=0.5)
    schedule = optim.schedule("exponential", optimizer, gamma=0.5)

    def closure() -> gn.Tensor:
        loss = (p**2).sum()
        loss.backward()
        return loss

    for t in range(3):
        assert optimizer.lr == 0.5 * 0.5**t
        optimizer.step(closure)
        schedule.after_epoch()
