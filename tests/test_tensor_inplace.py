"""Changes in place: operators, `assign_`, shared memory, and the versions that guard the graph."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DTypeError, GraphError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")

IN_PLACE = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
}


@pytest.mark.parametrize("sign", IN_PLACE)
@pytest.mark.parametrize("other", [2.0, np.array([1.0, 2.0, 0.5]), np.array(3.0)], ids=str)
def test_operators_write_into_the_same_memory(sign: str, other: Any) -> None:
    do = IN_PLACE[sign]
    host = np.array([1.5, 2.5, 3.5])
    x = gn.asarray(host.copy())
    same = x.detach()
    y = do(x, gn.asarray(other) if isinstance(other, np.ndarray) else other)
    assert y is x
    np.testing.assert_allclose(y.numpy(), do(host, other))
    np.testing.assert_array_equal(same.numpy(), y.numpy())
    assert x.version == 1


def test_operators_on_integers() -> None:
    a = np.array([5, 6, 7])
    for do in (operator.iand, operator.ior, operator.ixor, operator.ilshift, operator.irshift):
        x = gn.asarray(a.copy())
        assert do(x, 3) is x
        np.testing.assert_array_equal(x.numpy(), do(a.copy(), 3))


def test_matmul_in_place() -> None:
    x = gn.asarray(np.arange(4.0).reshape(2, 2))
    y = x
    x @= gn.eye(2, dtype=gn.float64) * 2
    assert x is y
    np.testing.assert_array_equal(y.numpy(), [[0, 2], [4, 6]])


@pytest.mark.parametrize("tracked", [False, True])
def test_what_cannot_be_written(tracked: bool) -> None:
    x = gn.asarray([1.0, 2.0])
    x = x.requires_grad_() * 1 if tracked else x
    before = x.tolist()
    with pytest.raises(ShapeError, match=r"cannot give shape \(3, 2\) to a tensor of shape \(2,\)"):
        x += gn.ones((3, 2))
    with pytest.raises(DTypeError, match="cannot store complex64 values in a float32 tensor"):
        x *= gn.ones((2,), dtype=gn.complex64)
    assert x.tolist() == before
    whole = gn.asarray([1, 2])
    with pytest.raises(DTypeError, match="cannot store float32 values in a int64 tensor"):
        whole /= 2
    with pytest.raises(DTypeError, match="cannot store float32 values in a int64 tensor"):
        whole += 0.5
    wide = gn.broadcast_to(gn.ones((1,)), (3,))
    with pytest.raises(ShapeError, match="read-only, or one value that a broadcast repeats"):
        wide += 1


def test_a_wider_float_is_rounded_to_the_dtype_of_the_tensor() -> None:
    wide = gn.asarray([1 / 3, 2.0], dtype=gn.float64, requires_grad=True)
    x = y = gn.asarray([1.0, 3.0])
    x += wide.detach()
    assert x is y
    assert x.dtype == gn.float32
    np.testing.assert_array_equal(x.numpy(), np.asarray([4 / 3, 5], np.float32))
    z = gn.asarray([1.0, 3.0])
    z *= wide
    assert z.dtype == gn.float32
    gn.sum(z).backward()
    assert wide.grad is not None
    assert wide.grad.dtype == gn.float64
    assert wide.grad.tolist() == [1.0, 3.0]


def test_assign() -> None:
    x = gn.asarray([1.0, 2.0]).requires_grad_()
    memory = x.detach()
    assert x.assign_([3, 4]) is x
    assert memory.tolist() == [3, 4]
    assert x.is_leaf
    assert x.requires_grad
    x.assign_(gn.asarray(5.0, dtype=gn.float64))
    assert memory.tolist() == [5, 5]
    assert x.version == 2
    other = gn.asarray([7.0, 8.0], requires_grad=True) * 1
    x.assign_(other)
    assert x.is_leaf
    with pytest.raises(ShapeError, match="broadcast_to"):
        x.assign_([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="read-only"):
        gn.broadcast_to(gn.ones((1,)), (3,)).assign_(0.0)


def test_gradients_through_changes_in_place() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        y += x
        y -= 1.5
        z = gn.sin(y)
        z *= 3.0
        z /= 2.0
        z += y * x
        return z

    gn.gradcheck(f, np.array([0.3, -0.8, 1.7]), order=2)


def test_a_constant_takes_part_in_the_graph_once_changed() -> None:
    x, y = gn.asarray([1.0, 2.0], requires_grad=True), gn.zeros((2,))
    y += x * 3
    assert y.requires_grad
    y.sum().backward()
    assert x.grad.tolist() == [3, 3]


# Versions


def leaf(*values: float) -> gn.Tensor:
    return gn.asarray(list(values), requires_grad=True)


def test_changing_a_saved_operand_is_found() -> None:
    x, w = leaf(1.0, 2.0), gn.asarray([3.0, 4.0])
    y = (x * w).sum()
    w += 1
    with pytest.raises(
        GraphError, match=r"operand of multiply, shape \(2,\), was changed in place"
    ):
        y.backward()


def test_changing_a_saved_output_is_found() -> None:
    x = leaf(1.0, 2.0)
    y = gn.exp(x)
    z = y.sum()
    with gn.no_grad():
        y += 1
    with pytest.raises(GraphError, match=r"output of exp, shape \(2,\), was changed in place"):
        z.backward()


def test_changing_what_was_not_saved_is_fine() -> None:
    x, w = leaf(1.0, 2.0), gn.asarray([3.0, 4.0])
    y = x + w
    w += 1
    y += 1
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_changing_a_parameter_between_forward_and_backward_is_found() -> None:
    w = leaf(2.0)
    y = (w * w).sum()
    with gn.no_grad():
        w -= 0.1
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()
    (w * w).sum().backward()
    assert w.grad is not None


def test_views_share_their_version() -> None:
    x = gn.zeros((2, 3))
    views = [x[0], x.reshape(3, 2), x.T, gn.expand_dims(x, axis=0), x[:, None], x.detach()]
    views.append(gn.broadcast_to(x, (4, 2, 3)))
    x += 1
    for view in views:
        assert view.version == 1
        assert float(view.min()) == 1
    assert x.copy().version == 0
    assert x[[0]].version == 0


def test_changing_memory_through_a_view_of_a_result_is_found() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    row = y[:2]
    row *= 3
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        y.sum()
    z = x * 2
    part = z[:2]
    z *= 3
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        part.sum()


def test_a_gradient_that_came_into_shared_memory_is_not_lost() -> None:
    w, memory = leaf(1.0, 2.0), gn.zeros((2,))
    view = memory[:]
    memory[:] = w
    # The view holds w's values now, but is no function of w to the graph.
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        view * w
    assert (memory * w).requires_grad
    # A change without a gradient makes no such difference.
    plain = gn.zeros((2,))
    view = plain[:]
    plain += 1
    (view * w).sum().backward()
    assert w.grad.tolist() == [1, 1]


def test_leaves_are_not_changed_while_recording() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"a leaf that requires a gradient, shape \(2,\)"):
        x += 1
    for view in (x[:1], x.reshape(1, 2), x[None][0], gn.broadcast_to(x, (1, 2))):
        with pytest.raises(GraphError, match="a view of a leaf"):
            view += 1
    assert x.tolist() == [1, 2]
    with gn.no_grad():
        x += 1
        x[0] = 7
    assert x.tolist() == [7, 3]
    x.detach().assign_(0.0)
    assert x.tolist() == [0, 0]


# Gradients are memory of their own


def test_gradients_do_not_share_memory() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    g = gn.ones((2,))
    (a + b).backward(g)
    a.grad *= 2
    assert b.grad.tolist() == [1, 1]
    assert g.tolist() == [1, 1]
    a.grad = None
    a.sum().backward()
    a.grad += 1
    assert a.grad.tolist() == [2, 2]


def test_gradients_of_functions_do_not_share_memory() -> None:
    a, b = gn.ones((2,)), gn.ones((2,))
    ga, gb = gn.grad(lambda a, b: (a + b).sum(), argnums=(0, 1))(a, b)
    ga += 1
    assert gb.tolist() == [1, 1]
    seed = gn.ones((2,))
    _, pull = gn.vjp(lambda a: a + 0, a)
    pull(seed).assign_(5.0)
    assert seed.tolist() == [1, 1]


def test_gradients_add_up_over_calls() -> None:
    x = leaf(1.0, 2.0)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.tolist() == [6, 12]
    first = x.grad
    (x * x).sum().backward()
    assert first.tolist() == [6, 12]
    x.grad = gn.asarray([1.0, 1.0])
    x.sum().backward()
    assert x.grad.tolist() == [2, 2]
    x.grad = None
    assert x.grad is None
    for bad in (gn.ones((3,)), gn.ones((2,), dtype=gn.float64)):
        with pytest.raises(ShapeError, match="they must be equal"):
            x.grad = bad


def test_a_gradient_buffer_is_filled_in_place() -> None:
    x = leaf(1.0, 2.0)
    buffer = gn.full((2,), np.nan)
    x.use_grad_buffer(buffer.array)
    (x * x).sum().backward()
    assert buffer.tolist() == [2, 4]
    (x * x).sum().backward()
    assert buffer.tolist() == [4, 8]
    assert x.grad.array is buffer.array
    x.grad = gn.asarray([1.0, 2.0])
    assert buffer.tolist() == [1, 2]
    x.grad = None
    (x * 3).sum().backward()
    assert buffer.tolist() == [3, 3]
    late = leaf(1.0)
    late.sum().backward()
    late_buffer = gn.zeros((1,))
    late.use_grad_buffer(late_buffer.array)
    assert late_buffer.tolist() == [1]
    # A gradient with a graph of its own cannot live in the buffer.
    x.grad = None
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    assert buffer.tolist() == [3, 3]


# x[index] += y: Python reads the view, changes it, and assigns it to where it is from


def test_adding_to_a_part() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[1:] += x[:2] * 10
    y[0] *= x[2]
    y[0] -= 1.0
    assert y.tolist() == [5, 14, 26]
    y.sum().backward()
    assert x.grad.tolist() == [10 + 6, 12, 2 + 2]


def test_adding_to_a_part_of_a_constant() -> None:
    w, total = leaf(1.0, 2.0), gn.zeros((3,))
    for i in range(2):
        total[i] += w[i] * 3
        total[i:] += w[0]
    assert total.tolist() == [4, 8, 2]
    (total * gn.asarray([1.0, 10.0, 100.0])).sum().backward()
    assert w.grad.tolist() == [1 * (3 + 1) + 20 + 200, 30]


@pytest.mark.parametrize("index", [0, -1, slice(1, None), (slice(None), 1), (..., None), [0, 2]])
def test_derivatives_of_changed_parts(index: Any) -> None:
    def f(x: Any, y: Any) -> Any:
        z = x * y
        z[index] += gn.sin(x[index])
        z[index] *= y[index]
        z *= z
        z @= y
        return z

    x = np.random.default_rng(0).standard_normal((3, 3))
    gn.gradcheck(f, x, x.T + 0.3, order=2)


def test_a_part_assigned_elsewhere_is_no_such_change() -> None:
    for touch in (lambda y, v: y.__setitem__(1, v), lambda y, v: y.sum()):
        y = leaf(1.0, 2.0, 3.0) * 2
        v = y[0]
        v += 1
        with pytest.raises(GraphError, match="changed in place through another tensor"):
            touch(y, v)
    # Two changes through two views: the first is lost to the graph.
    y = leaf(1.0, 2.0, 3.0) * 2
    first, second = y[0], y[1]
    first += 1
    with pytest.raises(GraphError, match="changed in place through another tensor"):
        y[1] = second.__iadd__(1)


def test_forward_mode_finds_changes_through_another_tensor_too() -> None:
    def stale(x: Any) -> Any:
        y = x * 2
        row = y[:2]
        row *= 3
        return y.sum()

    def view_of_a_constant(x: Any) -> Any:
        memory = gn.zeros((3,))
        view = memory[:]
        memory[:] = x
        return (view * x).sum()

    x = gn.asarray([1.0, 2.0, 3.0])
    for f in (stale, view_of_a_constant):
        with pytest.raises(GraphError, match="changed in place through another tensor"):
            gn.jvp(f, x, x)
        with pytest.raises(GraphError, match="changed in place through another tensor"):
            gn.grad(f)(x)


def test_old_values_are_kept_for_the_derivative() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    z = x.copy()
    z *= y
    z **= 2
    z /= y
    z.sum().backward()
    a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    np.testing.assert_allclose(x.grad.numpy(), 2 * a * b)
    np.testing.assert_allclose(y.grad.numpy(), a * a)
    square = leaf(3.0) * 1
    square *= square
    assert square.tolist() == [9]
