"""Ops on random shapes, axes and indices: values against NumPy, derivatives against differences.

Shapes include empty axes, axes of length 1 that broadcast, and no axes at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import gradnet as gn

pytestmark = pytest.mark.usefixtures("backend")
examples = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

lengths = st.integers(0, 4)
shapes = st.lists(lengths, max_size=3).map(tuple)


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Distinct values, none of them 0, at most 2."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    grid = (rng.permutation(count) + 1.0) / (count + 1) * 2
    return np.asarray(grid * np.where(rng.random(count) < 0.5, -1, 1)).reshape(shape)


def agree(
    ours: Callable[..., Any], theirs: Callable[..., Any], *xs: np.ndarray[Any, Any], order: int = 1
) -> None:
    """The same values as NumPy's function, and derivatives that gradcheck accepts."""
    found, expected = ours(*(gn.asarray(x) for x in xs)), theirs(*xs)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)
    if np.isfinite(expected).all():
        gn.gradcheck(ours, *xs, order=order, directions=1)


broadcastable = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)


@examples
@given(broadcastable, st.sampled_from(["add", "subtract", "multiply", "maximum", "divide"]))
def test_binary_ops_broadcast(pair: Any, name: str) -> None:
    a, b = (values(shape, i) + 0.01 * i for i, shape in enumerate(pair.input_shapes))
    agree(getattr(gn, name), getattr(np, name), a, b)
    assert gn.broadcast_shapes(*pair.input_shapes) == pair.result_shape


@examples
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0))
def test_where_broadcasts(pair: Any) -> None:
    c, a, b = (values(shape, i) for i, shape in enumerate(pair.input_shapes))
    agree(lambda a, b: gn.where(gn.asarray(c > 0), a, b), lambda a, b: np.where(c > 0, a, b), a, b)


@st.composite
def with_axes(draw: Any) -> tuple[tuple[int, ...], Any, bool]:
    shape = draw(shapes)
    axes = draw(
        st.none()
        | st.lists(
            st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % len(shape)
        ).map(tuple)
        if shape
        else st.none() | st.just(())
    )
    if axes is not None and len(axes) == 1 and draw(st.booleans()):
        axes = axes[0]
    return shape, axes, draw(st.booleans())


@examples
@given(with_axes(), st.sampled_from(["sum", "prod"]))
def test_sums_and_products(case: Any, name: str) -> None:
    shape, axis, keepdims = case
    agree(
        lambda x: getattr(gn, name)(x, axis=axis, keepdims=keepdims),
        lambda x: getattr(np, name)(x, axis=axis, keepdims=keepdims),
        values(shape),
        order=2,
    )


@examples
@given(with_axes(), st.sampled_from(["mean", "var", "max", "min", "std"]))
def test_statistics(case: Any, name: str) -> None:
    shape, axis, keepdims = case
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    count = int(np.prod([shape[a] for a in axes]))
    assume(count > (name == "std"))
    agree(
        lambda x: getattr(gn, name)(x, axis=axis, keepdims=keepdims),
        lambda x: getattr(np, name)(x, axis=axis, keepdims=keepdims),
        values(shape),
    )


@examples
@given(with_axes())
def test_logsumexp(case: Any) -> None:
    shape, axis, keepdims = case
    with np.errstate(divide="ignore"):
        agree(
            lambda x: gn.ops.logsumexp(x, axis=axis, keepdims=keepdims),
            lambda x: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims)),
            values(shape),
        )


@st.composite
def products(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    n, k, m = draw(lengths), draw(lengths), draw(lengths)
    batch = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3))
    left, right = batch.input_shapes
    a = (k,) if draw(st.booleans()) and not left else (*left, n, k)
    b = (k,) if draw(st.booleans()) and not right else (*right, k, m)
    return a, b


@examples
@given(products())
def test_matmul(pair: Any) -> None:
    a, b = (values(shape, i) for i, shape in enumerate(pair))
    agree(gn.matmul, np.matmul, a, b, order=2)


@st.composite
def subscripts(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    sizes = {letter: draw(st.integers(0, 3)) for letter in "abcd"}
    terms = draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(terms)))
    output = draw(st.permutations(used)) if used else []
    output = output[: draw(st.integers(0, len(output)))]
    dims = []
    for term in terms:
        # A letter may have length 1 in one operand and more in another.
        short = set(term) if draw(st.integers(0, 5)) == 0 else set()
        dims.append(tuple(1 if letter in short else sizes[letter] for letter in term))
    ellipsis = draw(st.booleans())
    if ellipsis:
        wide = draw(st.integers(1, 2))
        terms = ["..." + terms[0], *terms[1:]]
        dims[0] = (wide, *dims[0])
        output = ["...", *output]
    return f"{','.join(terms)}->{''.join(output)}", dims


@settings(examples, max_examples=60)
@given(subscripts())
def test_einsum(case: Any) -> None:
    spec, dims = case
    xs = [values(shape, i) for i, shape in enumerate(dims)]
    try:
        expected = np.einsum(spec, *xs)
    except ValueError:
        with pytest.raises(gn.errors.ShapeError, match="einsum"):
            gn.ops.einsum(spec, *(gn.asarray(x) for x in xs))
        return
    agree(lambda *xs: gn.ops.einsum(spec, *xs), lambda *xs: expected, *xs, order=2)


@pytest.mark.parametrize(
    ("spec", "dims"),
    [
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ba", [(2, 3)]),
        ("ii", [(3, 3)]),
        ("...ij->...ji", [(2, 3, 4)]),
        ("...i,...i", [(2, 3), (4, 1, 3)]),
        ("ij,jk,kl,lm->im", [(2, 3), (3, 4), (4, 2), (2, 3)]),
        ("abc,bad->", [(2, 3, 4), (3, 2, 5)]),
        (" i j , j -> i ", [(2, 3), (3,)]),
        ("i,i->", [(1,), (3,)]),
        ("ij,ij->", [(1, 3), (2, 3)]),
        ("iij,jk->ki", [(2, 2, 3), (3, 4)]),
        (",->", [(), ()]),
    ],
)
def test_einsum_as_numpy(spec: str, dims: Any) -> None:
    xs = [values(shape, i) for i, shape in enumerate(dims)]
    agree(lambda *xs: gn.ops.einsum(spec, *xs), lambda *xs: np.einsum(spec, *xs), *xs, order=2)


@examples
@given(st.data())
def test_concatenation_and_stacking(data: Any) -> None:
    shape = data.draw(st.lists(lengths, min_size=1, max_size=3))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    xs = []
    for i in range(data.draw(st.integers(1, 3))):
        lengths_here = list(shape)
        lengths_here[axis] = data.draw(lengths)
        xs.append(values(tuple(lengths_here), i))
    agree(lambda *xs: gn.concat(xs, axis=axis), lambda *xs: np.concatenate(xs, axis=axis), *xs)
    alike = [values(tuple(shape), i) for i in range(2)]
    agree(lambda *xs: gn.stack(xs, axis=axis), lambda *xs: np.stack(xs, axis=axis), *alike)
    agree(lambda *xs: gn.concat(xs, axis=None), lambda *xs: np.concatenate(xs, axis=None), *alike)


@examples
@given(st.data())
def test_moves_of_axes(data: Any) -> None:
    shape = data.draw(shapes)
    x = values(shape)
    order = data.draw(st.permutations(range(len(shape))))
    agree(lambda x: gn.permute_dims(x, order), lambda x: np.transpose(x, order), x)
    agree(lambda x: gn.reshape(x, (-1,)), lambda x: np.reshape(x, (-1,)), x)
    agree(lambda x: gn.flip(x), lambda x: np.flip(x), x)
    if shape:
        a, b = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
        agree(lambda x: gn.ops.swapaxes(x, a, b), lambda x: np.swapaxes(x, a, b), x)
        agree(lambda x: gn.moveaxis(x, a, b), lambda x: np.moveaxis(x, a, b), x)
        agree(lambda x: gn.expand_dims(x, axis=a), lambda x: np.expand_dims(x, axis=a), x)
        shift = data.draw(st.integers(-5, 5))
        agree(lambda x: gn.roll(x, shift, axis=a), lambda x: np.roll(x, shift, axis=a), x)
        agree(lambda x: gn.roll(x, shift), lambda x: np.roll(x, shift), x)
        agree(lambda x: gn.repeat(x, 2, axis=a), lambda x: np.repeat(x, 2, axis=a), x)
        agree(lambda x: gn.cumulative_sum(x, axis=a), lambda x: np.cumsum(x, axis=a), x)
        agree(lambda x: gn.cumulative_prod(x, axis=a), lambda x: np.cumprod(x, axis=a), x, order=2)
    counts = tuple(data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3)))
    agree(lambda x: gn.tile(x, counts), lambda x: np.tile(x, counts), x)


@settings(examples, max_examples=60)
@given(st.data())
def test_basic_and_advanced_indices(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple))
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True) | hnp.integer_array_indices(shape)
        if 0 not in shape
        else hnp.basic_indices(shape, allow_newaxis=True)
    )
    agree(lambda x: x[index], lambda x: np.asarray(x[index]), values(shape))
    mask = values(shape, 3) > 0
    agree(lambda x: x[gn.asarray(mask)], lambda x: x[mask], values(shape))


@examples
@given(st.data())
def test_ordering_and_gathering(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = values(shape)
    agree(lambda x: gn.sort(x, axis=axis), lambda x: np.sort(x, axis=axis), x)
    down = np.flip(np.argsort(x, axis=axis), axis=axis)
    agree(
        lambda x: gn.sort(x, axis=axis, descending=True),
        lambda x: np.take_along_axis(x, down, axis=axis),
        x,
    )
    agree(
        lambda x: gn.take_along_axis(x, gn.asarray(down), axis=axis),
        lambda x: np.take_along_axis(x, down, axis=axis),
        x,
    )
    k = data.draw(st.integers(0, shape[axis]))
    agree(
        lambda x: gn.ops.top_k(x, k, axis=axis)[0],
        lambda x: np.take(np.take_along_axis(x, down, axis=axis), range(k), axis=axis),
        x,
    )
    picks = data.draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), max_size=5))
    picked = np.array(picks, np.int64)
    agree(
        lambda x: gn.take(x, gn.asarray(picked), axis=axis),
        lambda x: np.take(x, picked, axis=axis),
        x,
    )


@examples
@given(st.data())
def test_scatter_add_adds_repeated_places_up(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    index = data.draw(hnp.integer_array_indices(shape))
    target = np.zeros(shape)[index].shape

    def theirs(x: Any, v: Any) -> Any:
        y = x.copy()
        np.add.at(y, index, v)
        return y

    agree(lambda x, v: gn.ops.scatter_add(x, index, v), theirs, values(shape), values(target, 1))


def test_products_of_all_kinds() -> None:
    a, b, c = values((3, 4)), values((4, 2), 1), values((4,), 2)
    agree(gn.ops.dot, np.dot, a, b)
    agree(gn.ops.dot, np.dot, a, np.asarray(2.0))
    agree(gn.ops.dot, np.dot, a, values((2, 4, 3), 3))
    agree(gn.ops.dot, np.dot, c, c)
    agree(gn.ops.outer, np.outer, a, c)
    agree(gn.ops.vecdot, np.vecdot, a, c)
    agree(lambda x: gn.ops.trace(x, offset=1), lambda x: np.trace(x, offset=1), a)
    for axes in (1, 0, ((1,), (0,)), ((-1, 0), (0, 1))):
        other = values((4, 3), 1) if axes == ((-1, 0), (0, 1)) else b
        agree(
            lambda a, b, axes=axes: gn.tensordot(a, b, axes=axes),
            lambda a, b, axes=axes: np.tensordot(a, b, axes=axes),
            a,
            other,
        )


@pytest.mark.parametrize("order", [1, 2, 3, 0.5, np.inf])
def test_norms(order: float) -> None:
    x = values((3, 4))
    for axis in (None, 0, -1):
        for keepdims in (False, True):
            agree(
                lambda x, axis=axis, keepdims=keepdims: gn.ops.vector_norm(
                    x, ord=order, axis=axis, keepdims=keepdims
                ),
                lambda x, axis=axis, keepdims=keepdims: np.linalg.vector_norm(
                    x, ord=order, axis=axis, keepdims=keepdims
                ),
                x,
            )


@pytest.mark.parametrize("offset", [-4, -2, 0, 1, 5])
def test_diagonals(offset: int) -> None:
    agree(
        lambda x: gn.ops.diagonal(x, offset=offset),
        lambda x: np.diagonal(x, offset, -2, -1).copy(),
        values((2, 3, 4)),
    )


def test_splitting_and_unstacking() -> None:
    x = values((6, 4))
    for sections, axis in ((3, 0), (2, 1), ([1, 4], 0), ([], 1), ([2, 2, 9], 0)):
        found = gn.ops.split(gn.asarray(x), sections, axis=axis)
        for mine, theirs in zip(found, np.split(x, sections, axis=axis), strict=True):
            np.testing.assert_array_equal(mine.numpy(), theirs)
    for axis in (0, -1):
        for mine, theirs in zip(
            gn.unstack(gn.asarray(x), axis=axis), np.unstack(x, axis=axis), strict=True
        ):
            np.testing.assert_array_equal(mine.numpy(), theirs)
    gn.gradcheck(lambda x: gn.ops.split(x, 3)[1] * gn.unstack(x, axis=1)[2][0], x, order=2)


def test_reshape_copies_when_asked() -> None:
    x = gn.asarray(values((2, 3)))
    assert gn.reshape(x, (2, 3)) is x
    before = x.tolist()
    for shape in ((3, 2), (2, 3)):
        copied = gn.reshape(x, shape, copy=True)
        copied += 1
        assert x.tolist() == before
    shared = gn.reshape(x, (3, 2))
    shared += 1
    assert x.tolist() != before


def test_softmax_of_integers_and_of_any_axis() -> None:
    x = np.array([[1, 2, 3], [0, 5, -1]])
    e = np.exp(x - x.max(0))
    found = gn.ops.softmax(gn.asarray(x), axis=0)
    assert found.dtype == gn.float32
    np.testing.assert_allclose(found.numpy(), e / e.sum(0), rtol=1e-6)
    assert gn.ops.softmax(gn.ones((2, 0, 3)), axis=1).shape == (2, 0, 3)
    assert gn.ops.log_softmax(gn.ones((2, 0)), axis=-1).shape == (2, 0)
    np.testing.assert_allclose(gn.ops.softmax(gn.ones((4,))).numpy(), [0.25] * 4)
