"""Functions on whole arrays in machine code: what they give, and what they leave to Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from eager_ops import BUILTIN, holds_nothing, leaf

import gradnet as gn
from gradnet import backends, precision
from gradnet.errors import AxisError, DTypeError, ShapeError
from gradnet.ops import quick as eager
from gradnet.ops.direct import Whole
from gradnet.tensor import Tensor

pytest.importorskip("numba")

backends.get("numba")
if eager._code() is None:
    pytest.skip("this interpreter has its objects otherwise", allow_module_level=True)

NAN = float("nan")
FAILURES = (AxisError, DTypeError, IndexError, ShapeError, TypeError, ValueError)


def array(*values: Any, dtype: Any = np.float32) -> Tensor:
    return gn.asarray(np.array(values, dtype))


def leaves(dtype: Any) -> dict[str, Tensor]:
    """Operands of a call: vectors, matrices, conditions and indices."""
    x = leaf(7, dtype=dtype).detach()
    m = leaf(3, 5, dtype=dtype).detach()
    return {"x": x, "y": gn.flip(x), "m": m, "s": leaf(dtype=dtype).detach()}


CALLS: dict[str, Callable[..., Any]] = {
    "where": lambda x, y, m, s: [gn.where(x < y, x, y), gn.where(m > 0.5, m, -m)],
    "where, no axes": lambda x, y, m, s: [gn.where(s > 0.5, s, -s), gn.where(s > 9.0, s, -s)],
    "where, other operands": lambda x, y, m, s: [
        gn.where(x < y, x, 2.0), gn.where(m > 0.5, m, s), gn.where(x < y, x, gn.astype(y, int)),
        gn.where(gn.asarray([1, 0] * 3 + [1]), x, y), gn.where(x < y)[0],
    ],
    "products": lambda x, y, m, s: [
        x @ y, m.T @ m, m @ m.T, m[:, :1] @ m[:1], m[:2] @ m[:2].T, gn.matmul(x, y), m @ m[0],
        m[0] @ m.T, x[:1] @ y[:1], x[:0] @ y[:0], gn.full((4, 4), 2.0) @ gn.full((4, 4), 3.0),
    ],
    "products, other operands": lambda x, y, m, s: [
        x.numpy() @ y, gn.stack([m, m]) @ m.T, gn.arange(3) @ gn.arange(3),
        gn.astype(x, gn.float16) @ gn.astype(y, gn.float16),
    ],
    "arguments": lambda x, y, m, s: [
        *(gn.argmax(x), gn.argmin(x), x.argmax(), gn.argmax(m), gn.argmax(m, axis=1)),
        *(gn.argmax(x, keepdims=True), gn.argmax(x, axis=0), gn.argmax(s), gn.argmin(gn.arange(3))),
        *(gn.argmax(array(1, NAN, 2, NAN)), gn.argmin(array(1, NAN, 2)), gn.argmax(array(2, 2, 1))),
        *(gn.argmax(gn.concat([x] * 9)), gn.argmin(array(0.0, -0.0)), gn.argmax(array(-0.0, 0.0))),
    ],
    "sort": lambda x, y, m, s: [
        *(gn.sort(x), gn.sort(m), gn.sort(m, axis=0), gn.sort(m.T), gn.sort(x, descending=True)),
        *(gn.sort(array(2, NAN, -0.0, 0.0, -1, NAN)), gn.sort(x, stable=False), gn.sort(x[:0])),
        gn.sort(gn.asarray([3, 1, 2])),
    ],
    "concat": lambda x, y, m, s: [
        *(gn.concat([x, y]), gn.concat((m, m)), gn.concat([x]), gn.concat([m, m], axis=1)),
        *(gn.concat([m, x[:0]], axis=None), gn.concat([m, m[:1]]), gn.concat([x, gn.arange(3)])),
        gn.concat([m.T, m.T]),
    ],
    "astype": lambda x, y, m, s: [
        *(gn.astype(x, gn.float64), gn.astype(m.T, gn.float32), gn.astype(s, gn.float32)),
        *(gn.astype(x * 1e38, gn.float32), gn.astype(x, gn.float64, copy=False), gn.astype(x, int)),
        *(gn.astype(gn.arange(3), gn.float32), gn.astype(x, "float64"), x.astype(gn.float32)),
        *(gn.astype(x, gn.float32, device="cpu"), gn.astype(gn.concat([x] * 900), gn.float64)),
    ],
    "getitem": lambda x, y, m, s: [
        *(x[2], x[-1], m[1], x[1:-1], x[::2], x[::-1], x[:0], m[1:], m[..., 1], m[None], x[True]),
        *(m[1, 2], x[gn.asarray([2, 0, 2])], m[gn.asarray([1, -1])], m[gn.asarray([[0, 1]])]),
        *(x[x > 0.5], x[np.array([1, 2])], x[[1, 2]], x[gn.asarray(2)], m[gn.asarray([0]), 1]),
        *(x[gn.asarray([1], dtype=gn.int32)], x[np.int64(1)], x[slice(np.int64(1), None)]),
        x[gn.asarray(1) : gn.asarray(3)],
    ],
}  # fmt: skip

WRONG: dict[str, Callable[..., Any]] = {
    "where, shapes": lambda x, y, m, s: gn.where(x < y, x, m),
    "where, none": lambda x, y, m, s: gn.where(s),
    "product, lengths": lambda x, y, m, s: x @ y[1:],
    "product, matrices": lambda x, y, m, s: m @ m,
    "product, no axes": lambda x, y, m, s: s @ s,
    "product, text": lambda x, y, m, s: x @ "y",
    "argument of nothing": lambda x, y, m, s: gn.argmax(x[:0]),
    "argument, axis": lambda x, y, m, s: gn.argmin(x, axis=1),
    "sort, no axes": lambda x, y, m, s: gn.sort(s),
    "sort, axis": lambda x, y, m, s: gn.sort(x, axis=2),
    "concat of nothing": lambda x, y, m, s: gn.concat([]),
    "concat, no axes": lambda x, y, m, s: gn.concat([s, s]),
    "concat, shapes": lambda x, y, m, s: gn.concat([m, x]),
    "concat, a tensor": lambda x, y, m, s: gn.concat(s),
    "index, too large": lambda x, y, m, s: x[7],
    "index, far too large": lambda x, y, m, s: x[10**30],
    "index, step": lambda x, y, m, s: x[::0],
    "index, no axes": lambda x, y, m, s: s[0],
    "index, array": lambda x, y, m, s: x[gn.asarray([7])],
    "index, float": lambda x, y, m, s: x[0.5],
}


def both_ways(f: Callable[..., Any], dtype: Any = np.float32) -> tuple[Any, Any]:
    """What a function gives in Python, and in machine code."""
    eager.remove()
    expected = f(**leaves(dtype))
    assert eager.install()
    return expected, f(**leaves(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", CALLS)
def test_functions_give_the_bits_of_python(name: str, dtype: Any) -> None:
    expected, found = both_ways(CALLS[name], dtype)
    for a, b in zip(found, expected, strict=True):
        assert type(a) is Tensor
        assert type(a.array) is np.ndarray
        assert (a.dtype, a.shape, a.backend, a.version) == (b.dtype, b.shape, b.backend, b.version)
        assert a.array.tobytes() == b.array.tobytes()
        assert not a.requires_grad
        assert (a._seen, a.tangents, a.grad, a.counter) == (0, None, None, [0, 0])


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_those_of_python(name: str) -> None:
    def told(**operands: Tensor) -> tuple[str, str]:
        with pytest.raises(FAILURES) as caught:
            WRONG[name](**operands)
        return type(caught.value).__name__, str(caught.value)

    expected, found = both_ways(told)
    assert found == expected


def test_all_are_machine_code_and_python_takes_over_again(quick: None) -> None:
    def kinds() -> set[bool]:
        found = [Tensor.__matmul__, Tensor.__getitem__, *[x.direct for x in Whole.made.values()]]
        return {isinstance(f, BUILTIN) for f in found}

    assert set(Whole.made) == {*eager._WHOLE, "matmul"}
    assert kinds() == {True}
    eager.remove()
    assert kinds() == {False}


def test_a_view_is_one_of_its_base(quick: None) -> None:
    x = array(1, 2, 3, 4)
    for index in (slice(1, 3), 2):
        view = x[index]
        assert view.counter is x.counter
        base, parsed, version = view.origin
        assert (base is x.array, parsed, version) == (True, (index,), x.version)
        assert np.shares_memory(view.array, x.array)
        before = x.version
        x[index] += 1
        assert (x.version, view.version) == (before + 2, before + 2)
        view += 1
        assert x.version == before + 3
    np.testing.assert_array_equal(x.numpy(), [1, 4, 7, 4])
    copied = x[gn.asarray([0, 1])]
    copied += 1
    np.testing.assert_array_equal(x.numpy(), [1, 4, 7, 4])


def test_what_is_differentiated_goes_to_python(quick: None) -> None:
    x, y = leaf(4), array(4, 3, 2, 1)
    c = array(1, 0, 1, 0) > 0.5
    for f in (
        lambda: x @ y, lambda: y @ x, lambda: gn.where(c, x, y), lambda: gn.where(c, y, x),
        lambda: gn.sort(x), lambda: gn.concat([y, x]), lambda: x[1], lambda: x[1:],
        lambda: x[gn.asarray([1, 1])],
    ):  # fmt: skip
        made = f()
        assert made.requires_grad
        gn.sum(made).backward()
        assert x.grad is not None
        x.grad = None
    assert not gn.argmax(x).requires_grad
    for f in (lambda z: z @ y, lambda z: gn.sort(z)[1:], lambda z: gn.where(c, z, y)):
        _, t = gn.jvp(f, (y,), (gn.ones(4),))
        assert float(gn.sum(t)) > 0
    step = gn.capture(lambda a, b: gn.concat([a, b])[1:] @ gn.sort(gn.concat([b, a]))[1:])
    expected = np.r_[y, y][1:] @ np.sort(np.r_[y, y])[1:]
    for _ in range(3):
        assert float(step(y, y)) == expected
    with precision.use("bfloat16"):
        assert float(array(1.001, 1) @ array(1, 1)) == 2.0
    assert float(array(1.001, 1) @ array(1, 1)) > 2.0


def test_other_tensors_go_to_python(quick: None) -> None:
    class Marked(Tensor):
        pass

    x, marked = array(1, 2), Marked([1.0, 2.0])
    for found in (marked @ x, x @ marked, marked[0], gn.sort(marked), gn.concat([x, marked])):
        assert type(found) is Tensor
    with backends.use("numpy"):
        other = array(1, 2)
    for found in (other @ other, other[0], gn.argmax(other), gn.concat([other, other])):
        assert found.backend is other.backend
    for wrong in (
        lambda: x @ other,
        lambda: gn.concat([x, other]),
        lambda: gn.where(x > 1, x, other),
    ):
        with pytest.raises(gn.errors.DeviceError):
            wrong()
    bare = array(1, 2)
    del bare.counter
    with pytest.raises(AttributeError, match="counter"):
        bare[0]


def test_large_products_overflow_without_a_warning(quick: None) -> None:
    x = array(1e30, 1e30)
    assert float(x @ x) == np.inf
    assert np.isnan(float(array(np.inf, 1) @ array(0, 1)))


def test_nothing_is_held_or_let_go_that_should_not(quick: None) -> None:
    x, m, places, several = leaf(5).detach(), leaf(2, 3).detach(), gn.asarray([1, 0]), []
    several += [x, x]
    c, tracked, mixed = x > 0.5, leaf(5), [x, m]
    basic, far = (2, slice(1, 3), slice(None, None, -1)), places + 9

    def turn() -> None:
        _ = gn.where(c, x, x), x @ x, m @ m.T, gn.argmax(x), gn.argmin(x), gn.sort(x), gn.sort(m)
        _ = (
            gn.astype(x, gn.float64),
            gn.concat(several),
            x[places],
            [x[index] for index in basic],
            tracked[places],
            m[1],
        )
        for wrong in (
            lambda: x[9],
            lambda: x @ m,
            lambda: gn.concat(mixed),
            lambda: x[far],
        ):
            with pytest.raises((IndexError, ShapeError)):
                wrong()

    objects = (
        *(x, m, places, c, x.array, m.array, places.array, x.backend, x.counter, several, mixed),
        *(None, True, False, 0, -1, (), ..., np.where, np.concatenate, *basic, precision.state),
        *(Tensor, np.ndarray, slice, *eager._known(), *[w.direct for w in Whole.made.values()]),
    )
    for _ in range(80):  # loops become ufuncs when they have been called often
        turn()
    holds_nothing(turn, objects)


def test_threads_call_at_once(quick: None) -> None:
    x = gn.asarray(np.random.default_rng(0).permutation(2000).astype(np.float32))
    small = x[:8]
    several = [small] * 3
    wrong: list[Any] = []

    def compute() -> None:
        for _ in range(40):
            several[1] = several[1][:]
            fine = float(gn.sort(x)[-1]) == 1999 == float(x[gn.argmax(x)])
            if not fine or gn.concat(several).shape != (24,) or (small @ small).shape:
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=compute) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
