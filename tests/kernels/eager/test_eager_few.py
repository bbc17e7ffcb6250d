"""Eager ops on few elements: loops called within ufuncs, sums, and whole walks in machine code."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from eager_ops import leaf

import gradnet as gn
from gradnet import backends, graph, walk
from gradnet.errors import GraphError
from gradnet.numpy_calls import FEW
from gradnet.ops import quick as eager
from gradnet.ops import reduce
from gradnet.tensor import Tensor

pytest.importorskip("numba")

from gradnet.kernels import numpy_loops
from gradnet.kernels.eager import arrays, loops

backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)

FLOATS = [np.float32, np.float64]
IDS = ["float32", "float64"]
ONE = ("sin", "exp", "tanh", "negative", "sqrt", "sigmoid", "isfinite", "sign")
TWO = ("add", "subtract", "multiply", "divide", "pow", "less", "equal", "maximum")
# Calls until a compiled loop is a ufunc.
OFTEN = 70

Case = Callable[[], Tensor]


def bits(cases: Sequence[Case]) -> list[tuple[Any, ...]]:
    """What functions give, to the bit."""
    found = []
    for case in cases:
        y = case().detach().numpy()
        found.append((y.dtype, y.shape, y.strides, y.tobytes()))
    return found


def assert_same_bits(cases: Sequence[Case]) -> None:
    """That functions give in machine code what they give in Python, and warn of nothing."""
    eager.remove()
    expected = bits(cases)
    assert eager.install()
    bits(cases)
    with np.errstate(all="raise"):
        assert bits(cases) == expected
        np.ones(3) / 2  # finds nothing that an earlier loop has left


def layouts(dtype: Any) -> list[Tensor]:
    """Arrays of few elements, side by side and not."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=(6, 4)).astype(dtype)
    special = np.array((0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, 1e30, -1e30, 0.5, 2.0), dtype)
    found = [special, special[::-1], table, table.T, table[:, ::2], table[2:], special[:1]]
    found += [rng.normal(size=n).astype(dtype) for n in (arrays.SHORT, arrays.SHORT + 1, 1, 0)]
    return [gn.asarray(x, copy=False) for x in (*found, np.array(0.3, dtype))]


def loop_of(op: Any, dtype: Any) -> Any:
    """What machine code has found within the function of an op."""
    plan = op.direct.__self__[2][FLOATS.index(dtype)]
    return plan[4][0]


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
@pytest.mark.parametrize("name", ONE)
def test_loops_of_one_operand_give_the_bits_of_ufuncs(name: str, dtype: Any) -> None:
    op, x = getattr(gn.ops, name), leaf(5, dtype=dtype).detach()
    for _ in range(OFTEN):
        op(x)
    assert_same_bits([lambda x=x: op(x) for x in layouts(dtype)])
    assert isinstance(loop_of(op, dtype), bytes)


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
@pytest.mark.parametrize("name", TWO)
def test_loops_of_two_operands_give_the_bits_of_ufuncs(name: str, dtype: Any) -> None:
    op, cases = getattr(gn.ops, name), []
    for x in layouts(dtype):
        others = (x, gn.flip(x), 2, -0.75, 1e300, float("nan"), gn.asarray(0.5, dtype=x.dtype))
        for y in others:
            cases += [lambda x=x, y=y: op(x, y), lambda x=x, y=y: op(y, x)]
    assert_same_bits(cases)
    assert isinstance(loop_of(op, dtype), bytes)


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_derivatives_by_loops_give_the_bits_of_python(dtype: Any) -> None:
    def gradient(f: Callable[[Any], Any], x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        gn.sum(f(x)).backward()
        assert x.grad is not None
        return x.grad

    functions: list[Callable[[Any], Any]] = [
        *(gn.sin, gn.tanh, gn.square, gn.sqrt, gn.abs, gn.nn.sigmoid, lambda x: x * x),
        *(lambda x: 3 - x * 2, lambda x: x / 3 + x, lambda x: gn.exp(-x) * 0.5, lambda x: x),
    ]
    inputs = [x for x in layouts(dtype) if x.size]
    cases = [lambda f=f, x=x: gradient(f, x) for f in functions for x in inputs]
    for f in functions:
        for _ in range(OFTEN):
            gradient(f, inputs[2])
    assert_same_bits(cases)


@pytest.mark.parametrize("dtype", FLOATS, ids=IDS)
def test_sums_give_the_bits_of_python(dtype: Any) -> None:
    shapes = (
        (1,),
        (7,),
        (2, 5),
        (3, 1, 4),
        (2, 2, 2, 3),
        (2, 1, 2, 1, 2),
        (FEW,),
        (FEW + 1,),
        (0,),
        (),
    )
    xs = [leaf(*shape, dtype=dtype) for shape in shapes] + layouts(dtype)
    assert_same_bits([lambda x=x: gn.sum(x) for x in xs])
    assert reduce.total is not None
    for x in xs:
        y = gn.sum(x)
        assert y.requires_grad is x.requires_grad
        few = 0 < x.size <= FEW and x.ndim <= 4
        assert (reduce.total(x) is not None) is (few and x.array.flags.c_contiguous)
        if y.node is not None:
            expected = {"axes": tuple(range(x.ndim)), "keepdims": False, "dtype": x.dtype}
            assert y.node[0].parameters == expected


def test_sums_of_others_are_left_to_python(quick: None) -> None:
    assert reduce.total is not None
    x = leaf(3)
    with backends.use("numpy"):
        other = gn.asarray([1.0, 2.0])
    for y in (other, gn.asarray([1, 2]), [1.0, 2.0], gn.asarray([1j]), leaf(FEW + 1)):
        assert reduce.total(y) is None
        values = y.detach().numpy() if isinstance(y, Tensor) else y
        np.testing.assert_allclose(gn.sum(y).item(), np.sum(values), rtol=1e-6)
    with gn.no_grad():
        assert not gn.sum(x).requires_grad
    with graph.keeping():
        assert reduce.total(x) is None
    view = gn.exp(x)
    part = view[:2]
    view += 1
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        gn.sum(part)


def test_what_is_not_as_numpy_says_has_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def block(ufunc: Any, given: Any = gn.float32, dtype: Any = gn.float32) -> Any:
        return loops.block(ufunc, given, dtype, numbers=True)

    assert block(np.sin) is not None
    assert block(np.less, dtype=gn.bool) is not None
    assert block(np.frompyfunc(abs, 1, 1)) is None
    assert block(np.modf) is None
    assert block(np.add, gn.int32, gn.int32) is None
    assert block(np.sin, gn.float32, gn.float64) is None
    other = numpy_loops.loop(np.subtract, "ff->f")
    monkeypatch.setattr(numpy_loops, "loop", lambda ufunc, types: other)
    assert block(np.subtract) is not None
    assert block(np.add) is None


def test_leaves_have_gradients_of_their_own(quick: None) -> None:
    for _ in range(3):
        a, b, held = leaf(4), leaf(4), leaf(4)
        held.grad = gn.ones(4)
        before = held.grad
        assert before is not None
        gn.sum(a + b + held).backward()
        assert a.grad is not None
        assert b.grad is not None
        assert held.grad is not None
        for x, expected in ((a, 1.0), (b, 1.0), (held, 2.0), (before, 1.0)):
            grad = x if x is before else x.grad
            assert grad is not None
            np.testing.assert_array_equal(grad.numpy(), np.full(4, expected))
            grad.assign_(7.0)  # in no other's memory
        ended = leaf(4)
        reference = weakref.ref(ended)
        y = gn.sum(ended * 2 + a)
        del ended
        assert reference() is None
        a.grad = None
        y.backward()
        assert a.grad is not None


def test_gradients_go_where_an_optimizer_wants_them(quick: None) -> None:
    x = leaf(4)
    optimizer = gn.optim.SGD([x], lr=0.5)
    start = x.detach().numpy().copy()
    for turn in range(3):
        optimizer.zero_grad()
        gn.sum(x * 2.0).backward()
        assert x.grad_is_in_buffer
        optimizer.step()
        np.testing.assert_allclose(x.detach().numpy(), start - (turn + 1), rtol=1e-6)


def test_whole_walks_are_left_to_python_where_they_must(quick: None) -> None:
    assert walk.whole is not None
    x = leaf(3)
    one, hooked = leaf(1), gn.sum(gn.exp(x))
    hooked.register_hook(lambda g: g * 2)
    for y, keep in (
        *((one, False), (gn.exp(x), False), (gn.sum(x), 1), (gn.sum(x), None)),
        *((gn.sum(x).detach(), False), (gn.sum(gn.asarray([1j], requires_grad=True)), False)),
    ):
        assert walk.whole(y, keep) is None
    assert x.grad is None
    assert one.grad is None
    hooked.backward()
    assert_gradient(x, 2 * np.exp(x.detach().numpy()))
    x.register_hook(lambda g: g * 3)
    gn.sum(x).backward()
    assert_gradient(x, np.full(3, 3.0))
    one.backward()
    assert_gradient(one, np.ones(1))


def assert_gradient(x: Tensor, expected: Any) -> None:
    """That a leaf has a gradient, which is then taken away."""
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6)
    x.grad = None


def test_walks_go_on_in_python_where_they_stop(quick: None) -> None:
    x, w = leaf(3), leaf(3, 2)
    for keep in (False, True):
        for _ in range(3):
            y = gn.sum(gn.tanh(gn.sin(x) @ w) * 2)  # stops at the product
            y.backward(retain_graph=keep)
            z = np.cos(x.detach().numpy())
            t = 2 / np.cosh(np.sin(x.detach().numpy()) @ w.detach().numpy()) ** 2
            assert_gradient(x, z * (w.detach().numpy() @ t))
            assert_gradient(w, np.outer(np.sin(x.detach().numpy()), t))
        y = gn.sum(gn.exp(x) * gn.sin(x))  # stops where two nodes wait
        y.backward(retain_graph=keep)
        v = x.detach().numpy()
        assert_gradient(x, np.exp(v) * (np.sin(v) + np.cos(v)))
        if keep:
            y.backward()
            assert_gradient(x, np.exp(v) * (np.sin(v) + np.cos(v)))
        with pytest.raises(GraphError, match="was freed by an earlier backward"):
            y.backward()
