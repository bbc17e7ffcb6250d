"""Python values that a captured function reads, wherever they are: a change is seen."""

from __future__ import annotations

import argparse
from array import array
from collections import deque
from collections.abc import Callable
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.errors import CaptureError

RATE = 2.0
Case = tuple[Callable[..., Any], tuple[Any, ...], Callable[[], Any]]


class Scale(gn.nn.Module):
    """A module with a value of its class, one of a global, and one of its own."""

    most = 3.0
    rate = 2.0

    def forward(self, x: gn.Tensor) -> gn.Tensor:
        return x * RATE * self.most

    @property
    def twice(self) -> float:
        return 2.0 * RATE


class Slots:
    __slots__ = ("rate",)

    def __init__(self, rate: float) -> None:
        self.rate = rate


def _items(make: Callable[[], Any], put: Callable[[Any], Any], key: Any = 0) -> Case:
    held = make()
    return lambda x: x * float(held[key]), (), lambda: put(held)


def _attribute(held: Any) -> Case:
    return lambda x: x * held.rate, (), lambda: setattr(held, "rate", 5.0)


def _given(held: Any) -> Case:
    return lambda x, h: x * h.rate, (held,), lambda: setattr(held, "rate", 5.0)


def _global(function: Callable[..., Any], *given: Any) -> Callable[[pytest.MonkeyPatch], Case]:
    return lambda patch: (function, given, lambda: patch.setattr(f"{__name__}.RATE", 5.0))


def _of_class(name: str, value: Any) -> Callable[[pytest.MonkeyPatch], Case]:
    model = Scale()
    return lambda patch: (lambda x: model(x), (), lambda: patch.setattr(Scale, name, value))


def _hidden(patch: pytest.MonkeyPatch) -> Case:
    model = Scale()
    return lambda x: model(x), (), lambda: setattr(model, "most", 7.0)


def _chosen(patch: pytest.MonkeyPatch) -> Case:
    names = {"a"}
    return lambda x: x * (2.0 if "a" in names else 3.0), (), lambda: _swap(names)


def _swap(names: set[str]) -> None:
    names.clear()
    names.add("b")


def _ordered(patch: pytest.MonkeyPatch) -> Case:
    rates = {"a": 1.0, "b": 2.0}

    def function(x: gn.Tensor) -> gn.Tensor:
        for name, rate in rates.items():
            x = x * rate + (name == "a")
        return x

    return function, (), lambda: rates.update(a=rates.pop("a"))


def _defaults(patch: pytest.MonkeyPatch) -> Case:
    def function(x: gn.Tensor, rate: float = 2.0) -> gn.Tensor:
        return x * rate

    return function, (), lambda: setattr(function, "__defaults__", (5.0,))


def _module(patch: pytest.MonkeyPatch) -> Case:
    outer, inner = ModuleType("of_a_test"), ModuleType("of_a_test.inner")
    outer.inner, inner.rate = inner, 2.0  # type: ignore[attr-defined]
    patch.setitem(globals(), "SETTINGS", outer)
    return lambda x: x * SETTINGS.inner.rate, (), lambda: setattr(inner, "rate", 5.0)  # type: ignore[name-defined]  # noqa: F821


def _helper(patch: pytest.MonkeyPatch) -> Case:
    rate = [2.0]
    return lambda x, f: f(x), (lambda x: x * rate[0],), lambda: rate.insert(0, 5.0)


def _mode(patch: pytest.MonkeyPatch) -> Case:
    dropout = gn.nn.Dropout(0.99)
    return lambda x, model: model(x), (dropout,), dropout.eval


def _small(patch: pytest.MonkeyPatch) -> Case:
    return _items(lambda: np.array([2.0, 3.0]), lambda held: held.put(0, 5.0))


CASES: dict[str, Callable[[pytest.MonkeyPatch], Case]] = {
    "global of a forward": _global(lambda x, model: model(x), Scale()),
    "global of a property": _global(lambda x, model: x * model.twice, Scale()),
    "of a class": _of_class("most", 7.0),
    "method of a class": _of_class("forward", lambda self, x: x * 7.0),
    "hides that of its class": _hidden,
    "slot": lambda patch: _attribute(Slots(2.0)),
    "namespace": lambda patch: _attribute(SimpleNamespace(rate=2.0)),
    "arguments of a command": lambda patch: _attribute(argparse.Namespace(rate=2.0)),
    "class itself": lambda patch: _attribute(type("Own", (), {"rate": 2.0})),
    "set": _chosen,
    "order of a dict": _ordered,
    "deque": lambda patch: _items(lambda: deque([2.0]), lambda held: held.appendleft(5.0)),
    "array": lambda patch: _items(lambda: array("d", [2.0]), lambda held: held.insert(0, 5.0)),
    "bytearray": lambda patch: _items(lambda: bytearray(b"a"), lambda held: held.insert(0, 5)),
    "NumPy array": _small,
    "defaults": _defaults,
    "module in a module": _module,
    "argument": lambda patch: _given(Scale()),
    "argument with slots": lambda patch: _given(Slots(2.0)),
    "function as an argument": _helper,
    "mode of a model as an argument": _mode,
}


@pytest.mark.parametrize("case", CASES)
def test_a_change_is_seen(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, given, change = CASES[case](monkeypatch)
    captured, x = gn.capture(function), gn.asarray([1.0, 2.0])
    before = captured(x, *given).numpy()
    np.testing.assert_array_equal(captured(x, *given).numpy(), before)
    assert captured.replays == 1
    change()
    after = captured(x, *given).numpy()
    np.testing.assert_array_equal(after, function(x, *given).numpy())
    assert (after != before).any()


def test_a_change_behind_a_proxy_is_seen() -> None:
    rates = {"a": 2.0}
    proxy = MappingProxyType(rates)
    captured, x = gn.capture(lambda x: x * proxy["a"]), gn.asarray([1.0])
    assert [captured(x).item(), captured(x).item()] == [2.0, 2.0]
    rates["a"] = 5.0
    assert captured(x).item() == 5.0


def test_a_zero_below_zero_is_another_value() -> None:
    rate = 0.0
    by_value = gn.capture(lambda x, rate: x / rate)
    by_name = gn.capture(lambda x: x / rate)
    x = gn.asarray([1.0])
    assert [by_value(x, np.float32(z)).item() for z in (0.0, -0.0)] == [np.inf, -np.inf]
    assert by_name(x).item() == np.inf
    rate = -0.0
    assert by_name(x).item() == -np.inf


def test_gradients_of_a_model_that_is_an_argument_are_added_up(backend: Backend) -> None:
    def backward(model: gn.nn.MLP, x: gn.Tensor) -> None:
        gn.sum(model(x) ** 2).backward()

    captured = gn.capture(backward)
    x, found = gn.ones((4, 3)), []
    for function in (backward, captured):
        model = gn.nn.MLP((3, 2), seed=0)
        for _ in range(3):
            function(model, x)
        (gradient, _) = (p.grad for p in model.parameters())
        assert gradient is not None
        found.append(gradient.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_a_count_in_an_array_is_refused() -> None:
    calls = np.zeros(1)

    def counts(x: gn.Tensor) -> gn.Tensor:
        calls[0] += 1
        return x * 2.0

    with pytest.raises(CaptureError, match="changes the Python value 'calls'"):
        gn.capture(counts)(gn.asarray([1.0]))


def test_a_gradient_that_a_hand_written_step_reads_is_the_latest(backend: Backend) -> None:
    def descend() -> None:
        with gn.no_grad():
            w.assign_(w - 0.1 * w.grad)

    def descended(w: gn.Tensor) -> None:
        w.assign_(w - 0.1 * w.grad)

    found = []
    for step in (descend, gn.capture(descend), gn.no_grad()(gn.capture(descended))):
        w = gn.asarray([1.0, 2.0], requires_grad=True)
        for i in range(4):
            gn.sum(w**3).backward()
            step(w) if step.__name__ == "descended" else step()
            if i % 2:
                w.grad = None
        found.append(w.detach().numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-6)
