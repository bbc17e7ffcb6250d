"""Eager ops in machine code: what they give, hold, let go of and leave to Python."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from eager_ops import BUILTIN, FAILURES, chain, leaf

import gradnet as gn
from gradnet import backends, graph
from gradnet.errors import GraphError
from gradnet.ops import direct
from gradnet.ops import quick as eager
from gradnet.ops.elementwise import Elementwise
from gradnet.tensor import Tensor

pytest.importorskip("numba")

from gradnet.kernels.eager import words

backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)

ONE = ("exp", "log", "tanh", "sin", "sqrt", "negative", "square", "sigmoid", "floor", "relu", "abs")
TWO = ("add", "subtract", "multiply", "divide", "maximum", "pow", "less", "equal", "hypot")


def both_ways(f: Callable[[], Any]) -> tuple[Any, Any]:
    """What a function gives in Python, and the third time in machine code."""
    eager.remove()
    expected = f()
    assert eager.install()
    f()
    f()
    return expected, f()


def told(f: Callable[[], Any]) -> Callable[[], tuple[str, str]]:
    """A function as one that gives the kind and the words of the error that it raises."""

    def found() -> tuple[str, str]:
        with pytest.raises(FAILURES) as caught:
            f()
        return type(caught.value).__name__, str(caught.value)

    return found


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(found, Tensor):
        assert found.dtype is expected.dtype
        found, expected = found.detach().numpy(), expected.detach().numpy()
    np.testing.assert_array_equal(found, expected)


def derivative(f: Callable[..., Tensor], *xs: Any) -> list[Any]:
    """A function's value, and its gradient in every Tensor that takes one."""
    y = f(*xs)
    found: list[Any] = [y]
    if y.requires_grad:
        y.backward(gn.ones_like(y.detach()))
        for x in xs:
            if isinstance(x, Tensor) and x.requires_grad:
                found.append(x.grad)
                x.grad = None
    return found


def compare(f: Callable[..., Tensor], *xs: Any) -> None:
    expected, found = both_ways(lambda: derivative(f, *xs))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ONE)
def test_ops_of_one_operand_give_the_bits_of_python(name: str, dtype: Any) -> None:
    for shape in ((7,), (), (0,), (2, 3)):
        compare(getattr(gn.ops, name), leaf(*shape, dtype=dtype))
    compare(getattr(gn.ops, name), leaf(5000, dtype=dtype))
    compare(getattr(gn.ops, name), leaf(7, dtype=dtype).detach())


@pytest.mark.parametrize("name", TWO)
def test_ops_of_two_operands_give_the_bits_of_python(name: str) -> None:
    f = getattr(gn.ops, name)
    a, b = leaf(2, 3), leaf(2, 3)
    other: tuple[Any, ...] = (b, b.detach(), a, leaf(3), leaf(2, 1), leaf(), 2, 0.5, leaf(1, 2, 3))
    for x in other:
        compare(f, a, x)
        compare(f, x, a)
    compare(f, leaf(5000), leaf(5000))
    compare(f, leaf(3, dtype=np.float64), leaf(3, dtype=np.float64))


def test_operators_are_machine_code_and_take_what_python_takes(quick: None) -> None:
    assert isinstance(gn.Tensor.__mul__, BUILTIN)
    a, b = leaf(3), leaf(3).detach()
    for f in (
        *(lambda: a + b, lambda: a - b, lambda: a * b, lambda: a / b, lambda: a**b),
        *(lambda: 2 + a, lambda: 2.5 - a, lambda: 2 * a, lambda: 2 / a, lambda: 2**a),
        *(lambda: -a, lambda: abs(a), lambda: a < b, lambda: a == 0.5, lambda: a >= b),
        *(lambda: np.ones(3, np.float32) * a, lambda: a + np.ones(3), lambda: a * True),
        *(lambda: a + gn.asarray([1, 2, 3]), lambda: a * leaf(3, dtype=np.float64)),
        *(lambda: gn.exp(x=a), lambda: gn.leaky_relu(a, alpha=0.3), lambda: gn.leaky_relu(a)),
    ):
        expected, found = both_ways(f)
        assert_same(found, expected)


def test_errors_are_those_of_python() -> None:
    a, b = leaf(3), leaf(4)
    for f in (
        *(lambda: a * b, lambda: a + "x", lambda: a * None, lambda: a * 10**400),
        *(lambda: gn.exp(), lambda: gn.exp(a, a), lambda: gn.add(a), lambda: gn.exp("x")),
        *(lambda: gn.add(a, other=b), lambda: gn.add(2, 3, 4)),
    ):
        expected, found = both_ways(told(f))
        assert found == expected
    for count in (0, 2):
        with pytest.raises(TypeError):
            a.__mul__(*[1] * count)
        with pytest.raises(TypeError):
            a.__radd__(*[1] * count)


def test_walks_give_the_gradients_of_python() -> None:
    a, b = leaf(4), leaf(4)
    for f in (
        lambda x, w: chain(x, w),
        lambda x, w: gn.sum(x * x),  # one leaf twice
        lambda x, w: gn.sum((y := gn.exp(x)) * y + y),  # nodes that wait
        lambda x, w: gn.sum(gn.exp(x) @ gn.tanh(w) + x / w),
        lambda x, w: gn.sum(gn.exp(x)[1:] * w[:3] * 2 - 1 / x[0]),
        lambda x, w: gn.sum(-x) + gn.mean(gn.where(x < w, x * w, w - x)),
        lambda x, w: gn.sum(gn.tanh(x + leaf(3, 1)) * w),  # broadcast: summed back
        lambda x, w: gn.sum(gn.abs(gn.asarray([1j, 1, 2, 3]) * x) * w),
    ):
        compare(f, a, b)
        compare(f, a, b.detach())


def test_graphs_are_kept_freed_and_refused_as_in_python(quick: None) -> None:
    x = leaf(3)
    for _ in range(3):
        y = gn.sum(gn.exp(gn.sin(x)) * x)
        y.backward(retain_graph=True)
        first = x.grad
        y.backward()
        assert first is not None
        assert_same(x.grad, first + first)
        x.grad = None
        with pytest.raises(GraphError, match="was freed by an earlier backward"):
            y.backward()
    y = gn.sum(gn.exp(x) * x)
    yes: Any = 1  # what is true, if not True itself
    y.backward(retain_graph=yes)
    y.backward(create_graph=yes)
    assert x.grad is not None
    assert x.grad.requires_grad
    x.grad = None
    z = gn.exp(x)
    y = gn.sum(z * z)
    with gn.no_grad():
        z += 1
    with pytest.raises(GraphError, match="was changed in place"):
        y.backward()
    view = gn.exp(x)
    part = view[:2]
    view += 1
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        gn.exp(part)
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        _ = part * part


def test_an_output_that_was_changed_is_refused(quick: None) -> None:
    x = leaf(3)
    for f in (gn.exp, gn.tanh, gn.sigmoid):
        for _ in range(3):
            y = f(x)
            s = gn.sum(y)
            y.detach().assign_(0.0)
            with pytest.raises(GraphError, match="was changed in place"):
                s.backward()


def test_hooks_modes_and_higher_derivatives_are_as_in_python() -> None:
    def hooked() -> list[Any]:
        x = leaf(3)
        y = gn.exp(x)
        seen: list[Any] = []
        y.register_hook(lambda g: g * 2)
        x.register_hook(seen.append)
        gn.sum(gn.tanh(y) * x).backward()
        return [x.grad, *seen]

    def forward() -> list[Any]:
        return list(gn.jvp(lambda x: gn.sin(x) * x, (leaf(3),), (gn.ones(3),)))

    def twice() -> list[Any]:
        x = leaf(3)
        gn.sum(gn.sin(x) * x).backward(create_graph=True)
        g, x.grad = x.grad, None
        assert g is not None
        gn.sum(g * g).backward()
        return [g, x.grad, gn.hessian(lambda z: gn.sum(gn.exp(z) * z))(leaf(2))]

    def unrecorded() -> list[Any]:
        with gn.no_grad():
            y = gn.exp(leaf(3)) * leaf(3)
        assert not y.requires_grad
        return [y]

    def captured() -> list[Any]:
        f = gn.capture(lambda x, w: gn.sin(gn.tanh(x) * w + x))
        return [f(leaf(3).detach(), leaf(3).detach()) for _ in range(3)]

    def kept() -> list[Any]:
        with graph.keeping():
            y = gn.exp(leaf(3)) * 2
        assert y.node is not None
        return list(y.node[0].inputs or ())[:1]

    for f in (hooked, forward, twice, unrecorded, captured, kept):
        expected, found = both_ways(f)
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)


def test_other_tensors_go_to_python(quick: None) -> None:
    class Marked(Tensor):
        pass

    x = Marked([1.0, 2.0], requires_grad=True)
    assert type(x * 2) is Tensor
    assert_same(gn.exp(x).detach(), gn.exp(gn.asarray([1.0, 2.0])))
    assert_same(gn.exp(gn.asarray([1, 2])), gn.exp(gn.asarray([1.0, 2.0])))
    half = gn.asarray([1.0, 2.0], dtype=gn.float16)
    assert (half * 2).dtype is gn.float16
    with backends.use("numpy"):
        other = gn.asarray([1.0, 2.0], requires_grad=True)
        for _ in range(2):
            assert gn.exp(other * other).backend is other.backend
    bare = gn.asarray([1.0])
    del bare.counter
    with pytest.raises(AttributeError, match="counter"):
        gn.exp(gn.asarray([1.0], requires_grad=True) * bare)


def test_ops_made_later_are_machine_code_and_end(quick: None) -> None:
    def twice(x: float) -> float:
        return x * 2

    def twice_dx() -> float:
        return 2

    made = gn.elementwise(twice, derivatives=[twice_dx])
    assert isinstance(made.direct, BUILTIN)
    for _ in range(3):
        x = leaf(3)
        gn.sum(made(x)).backward()
        assert_same(x.grad, gn.full(3, 2.0))
    traced = gn.elementwise(twice)
    for _ in range(3):
        x = leaf(3)
        gn.sum(traced(x)).backward()
        assert_same(x.grad, gn.full(3, 2.0))
    ended = weakref.ref(made)
    del made
    gc.collect()
    assert ended() is None


def test_python_takes_over_again() -> None:
    assert eager.install()
    assert eager.install()
    eager.remove()
    assert not isinstance(gn.add.direct, BUILTIN)
    assert not isinstance(gn.Tensor.__mul__, BUILTIN)
    assert not isinstance(vars(Elementwise)["__call__"], BUILTIN)
    x = leaf(3)
    gn.sum(gn.exp(x) * x).backward()
    assert x.grad is not None


def test_what_is_called_often_is_made_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    eager.remove()
    begun: list[str] = []
    monkeypatch.setattr(direct, "SWITCH", "")
    monkeypatch.setattr(direct, "_left", iter(range(3, -3, -1)))
    monkeypatch.setattr(eager, "begin", lambda: begun.append("now"))
    op = gn.add
    op.direct = op.pair = direct.counted(op)
    x = leaf(3)
    for turn in range(6):
        assert begun == ["now"] * (turn > 3)
        _ = x + x
    assert op.direct is op.in_python


@pytest.mark.parametrize(("switch", "quick"), [("0", False), ("1", True)], ids=["off", "on"])
def test_the_switch(switch: str, quick: bool) -> None:
    code = (
        "import gradnet as gn\n"
        "x = gn.ones(3)\n"
        "for _ in range(1100): x * x\n"
        "print(type(gn.multiply.direct).__name__)"
    )
    environment = {**os.environ, "GRADNET_EAGER": switch, "GRADNET_BACKEND": "numba"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["builtin_function_or_method" if quick else "function"]


def test_what_is_no_function_of_words_is_refused() -> None:
    for body in ("x = [1]", "for i in x: pass", "c.system(x)", "x @= 2", "c.Py_IncRef(x, x)"):
        with pytest.raises(SyntaxError):
            words.lowered(f"def f(x: int) -> int:\n    c.Py_IncRef(x)\n    {body}\n", {}, {})


@pytest.mark.parametrize("name", ["__getitem__", "__add__", "__rsub__", "__matmul__", "__neg__"])
def test_methods_tell_their_operands(name: str) -> None:
    eager.remove()
    expected = [*inspect.signature(getattr(Tensor, name)).parameters]
    assert eager.install()
    method = getattr(Tensor, name)
    assert not hasattr(method, "__code__")
    assert [*inspect.signature(method).parameters] == expected
    assert [*inspect.signature(getattr(leaf(3), name)).parameters] == expected[1:]
    assert method.__name__ == name
