"""Saving and resuming: the same bits as a run that was never interrupted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import optim
from gradnet.errors import DTypeError, ShapeError
from gradnet.optim.optimizer import Optimizer

X = np.random.default_rng(0).normal(size=(24, 3))


class Model:
    """A small network whose second output weight has no gradient in every third step."""

    def __init__(self, name: str, dtype: Any, **given: Any) -> None:
        rng = np.random.default_rng(1)
        shapes = ((3, 4), (4,), (4,), (4,))
        self.p = [gn.asarray(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]
        self.x = gn.asarray(X.astype(dtype))
        self.optimizer = optim.create(
            name, [{"params": self.p, **given}] if given else [{"params": self.p}]
        )
        self.schedule = optim.schedule(
            "warm_up",
            self.optimizer,
            steps=4,
            start=0.25,
            then=optim.schedule("cosine", self.optimizer, total_steps=20),
        )

    def step(self, i: int) -> None:
        def closure() -> gn.Tensor:
            h = gn.tanh(self.x @ self.p[0] + self.p[1])
            y = (h * self.p[2]).sum(axis=1)
            if i % 3:
                y = y + (h * self.p[3]).sum(axis=1)
            loss = ((y - 1) ** 2).mean()
            loss.backward()
            return loss

        self.optimizer.step(closure)
        self.schedule.after_step()

    def values(self) -> list[np.ndarray]:
        return [p.detach().numpy().copy() for p in self.p]


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it comes back from a file: arrays, and all else through JSON."""
    tensors = {
        k: gn.asarray(v.numpy().copy()) for k, v in state.items() if isinstance(v, gn.Tensor)
    }
    rest = json.loads(json.dumps({k: v for k, v in state.items() if k not in tensors}))
    # A file may keep its tensors in any order.
    return {**rest, **{key: tensors[key] for key in sorted(tensors, reverse=True)}}


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in optim.names()),
    ("sgd", {"momentum": 0.9}),
    ("sgd", {"momentum": 0.9, "nesterov": True}),
    ("rmsprop", {"momentum": 0.9}),
    ("rmsprop", {"centered": True}),
    ("adagrad", {"initial": 0.1}),
    ("conjugate_gradient", {"method": "fletcher-reeves", "max_iterations": 1}),
    ("lbfgs", {"history_size": 2, "max_iterations": 3}),
]


@pytest.mark.parametrize(("name", "given"), VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(
    name: str, given: dict[str, Any], dtype: Any
) -> None:
    whole = Model(name, dtype, **given)
    for i in range(12):
        whole.step(i)

    first = Model(name, dtype, **given)
    for i in range(5):
        first.step(i)
    saved = stored(first.optimizer.state_dict())
    plan = json.loads(json.dumps(first.schedule.state_dict()))
    values = first.values()
    first.step(5)  # a snapshot: what happens later does not reach it

    second = Model(name, dtype, **given)
    second.step(0)
    for p, value in zip(second.p, values, strict=True):
        p.assign_(value)
    second.optimizer.load_state_dict(saved)
    second.schedule.load_state_dict(plan)
    for i in range(5, 12):
        second.step(i)
    for a, b in zip(whole.values(), second.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    again = stored(second.optimizer.state_dict())
    expected = stored(whole.optimizer.state_dict())
    assert again.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, gn.Tensor):
            np.testing.assert_array_equal(again[key].numpy(), value.numpy())
        else:
            assert again[key] == value


@pytest.mark.parametrize("name", optim.names())
def test_a_state_holds_numbers_and_tensors_only(name: str) -> None:
    model = Model(name, np.float32)
    for i in range(3):
        model.step(i)
    state = model.optimizer.state_dict()
    assert state["kind"] == name
    assert state["groups"][0]["shapes"] == [[3, 4], [4], [4], [4]]
    json.dumps({k: v for k, v in state.items() if not isinstance(v, gn.Tensor)})


def test_steps_are_counted_for_each_parameter() -> None:
    model = Model("adam", np.float32)
    for i in range(4):
        model.step(i)
    group = model.optimizer.state_dict()["groups"][0]
    assert group["progress"] == [[4], [4], [4], [2]]
    assert group["moments"] == ["m", "v"]


def trained(*shapes: tuple[int, ...], kind: str = "adam", dtype: Any = np.float32) -> Optimizer:
    ps = [gn.asarray(np.ones(shape, dtype), requires_grad=True) for shape in shapes]
    optimizer = optim.create(kind, ps)

    def closure() -> gn.Tensor:
        loss = (ps[0] ** 2).sum()
        for p in ps[1:]:
            loss = loss + (p**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer


def without(state: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in keys}


BAD_STATES: list[tuple[str, Any, Any, type[Exception], str]] = [
    ("another kind", "adam", lambda: trained((2,), kind="adamw"), ValueError, "state of 'adamw'"),
    ("another shape", "adam", lambda: trained((3,)), ShapeError, r"\[\[\[3\]\]\].*\[\[\[2\]\]\]"),
    ("another count", "adam", lambda: trained((2,), (2,)), ShapeError, "a list per group"),
    ("another dtype", "adam", lambda: trained((2,), dtype=np.float64), DTypeError, "float64"),
    (
        "another vector",
        "lbfgs",
        lambda: trained((2,), kind="lbfgs", dtype=np.float64),
        ShapeError,
        "vector",
    ),
]


@pytest.mark.parametrize(
    ("kind", "other", "error", "message"),
    [row[1:] for row in BAD_STATES],
    ids=[row[0] for row in BAD_STATES],
)
def test_a_state_that_does_not_fit_changes_nothing(
    kind: str, other: Any, error: type[Exception], message: str
) -> None:
    optimizer = trained((2,), kind=kind)
    before = stored(optimizer.state_dict())
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(other().state_dict())
    after = stored(optimizer.state_dict())
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, gn.Tensor):
            np.testing.assert_array_equal(value.numpy(), after[key].numpy())
        else:
            assert value == after[key]


def test_a_state_with_parts_missing_or_wrong_is_refused() -> None:
    optimizer = trained((2,))
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"missing or unknown moments: 0\.0\.v"):
        optimizer.load_state_dict(without(state, "0.0.v"))
    with pytest.raises(ValueError, match=r"missing or unknown moments: 0\.0\.w"):
        optimizer.load_state_dict({**state, "0.0.w": state["0.0.v"]})
    with pytest.raises(ValueError, match="without 'groups'"):
        optimizer.load_state_dict(without(state, "groups"))
    with pytest.raises(ShapeError, match=r"'0\.0\.v' of shape \(3,\)"):
        optimizer.load_state_dict({**state, "0.0.v": gn.ones((3,))})
    wrong = {**state["groups"][0], "settings": {**state["groups"][0]["settings"], "lr": -1.0}}
    with pytest.raises(ValueError, match=r"lr must be .* got -1\.0"):
        optimizer.load_state_dict({**state, "groups": [wrong]})
    wrong = {**state["groups"][0], "progress": []}
    with pytest.raises(ValueError, match="progress of 0 parameters"):
        optimizer.load_state_dict({**state, "groups": [wrong]})
