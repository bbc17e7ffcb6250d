"""Reductions, order and search: axes, ties, NaN, infinities and empty axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import AxisError, DTypeError, ShapeError

pytestmark = pytest.mark.usefixtures("backend")

NAN = np.array([[1.0, np.nan, 3.0], [-np.inf, 2.0, np.inf]])


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 1), (), [0]])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "min", "any", "all", "var", "std"])
def test_axes(name: str, axis: Any, keepdims: bool) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    given = tuple(axis) if isinstance(axis, list) else axis
    expected = getattr(np, name)(x, axis=given, keepdims=keepdims)
    found = getattr(gn, name)(gn.asarray(x), axis=axis, keepdims=keepdims)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("name", ["sum", "prod", "any", "all", "count_nonzero"])
def test_reductions_of_nothing(name: str) -> None:
    for shape, axis in (((0,), None), ((3, 0), 1), ((0, 3), 0), ((0, 3), 1)):
        expected = getattr(np, name)(np.ones(shape), axis=axis)
        np.testing.assert_array_equal(
            getattr(gn, name)(gn.ones(shape), axis=axis).numpy(), expected
        )


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_no_extreme_of_nothing(name: str) -> None:
    for shape, axis in (((0,), None), ((3, 0), 1)):
        with pytest.raises(ShapeError, match=rf"{name} of no values: shape \({shape[0]},"):
            getattr(gn, name)(gn.ones(shape), axis=axis)
    found = getattr(gn, name)(gn.ones((0, 3)), axis=1)
    assert found.shape == (0,)
    with pytest.raises(DTypeError, match=f"{name} has no order for complex64"):
        getattr(gn, name)(gn.ones((2,), dtype=gn.complex64))


def test_means_of_nothing_are_nan() -> None:
    assert np.isnan(gn.mean(gn.ones((0,))).item())
    assert np.isnan(gn.var(gn.ones((1,)), correction=1).item())


@pytest.mark.parametrize("name", ["max", "min", "sum", "prod"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_nan_wins(name: str, dtype: str) -> None:
    found = getattr(gn, name)(gn.asarray(NAN).astype(dtype), axis=1)
    with np.errstate(invalid="ignore"):
        expected = getattr(np, name)(NAN, axis=1)
    np.testing.assert_array_equal(found.numpy().astype(float), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_arg_extremes(dtype: str) -> None:
    x = gn.asarray(NAN).astype(dtype)
    assert gn.argmax(x, axis=1).tolist() == [1, 2]
    assert gn.argmin(x, axis=1).tolist() == [1, 0]
    assert int(gn.argmax(x)) == 1
    assert gn.argmax(x, axis=0, keepdims=True).shape == (1, 3)
    assert gn.argmax(x, keepdims=True).shape == (1, 1)
    ties = gn.asarray([2.0, 5.0, 5.0, 2.0]).astype(dtype)
    assert int(gn.argmax(ties)) == 1
    assert int(gn.argmin(ties)) == 0


def test_ties_share_the_gradient() -> None:
    x = gn.asarray([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    gn.max(x, axis=1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    a, b = (gn.asarray([1.0, 2.0], requires_grad=True) for _ in range(2))
    gn.maximum(a, b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [0.5, 0.5]


def test_products_with_zeros_have_gradients() -> None:
    x = gn.asarray([[0.0, 2.0, 3.0], [0.0, 0.0, 3.0]], requires_grad=True)
    gn.prod(x, axis=1).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [[6, 0, 0], [0, 0, 0]])


def test_variance_takes_the_mean_off_first() -> None:
    x = gn.asarray([1e4 + 1, 1e4 + 2, 1e4 + 3])
    assert float(gn.var(x)) == pytest.approx(2 / 3, rel=1e-6)
    assert float(gn.var(x, correction=1)) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
def test_logsumexp_does_not_overflow(shift: float) -> None:
    x = gn.asarray([[1.0, 2.0, 3.0]]) + shift
    expected = np.log(np.exp([1.0, 2.0, 3.0]).sum()) + shift
    assert float(gn.ops.logsumexp(x)) == pytest.approx(expected, rel=1e-6)


def test_logsumexp_of_infinities_and_of_nothing() -> None:
    inf = np.inf
    assert float(gn.ops.logsumexp(gn.asarray([-inf, -inf]))) == -inf
    assert float(gn.ops.logsumexp(gn.asarray([inf, 0.0]))) == inf
    assert gn.ops.logsumexp(gn.ones((2, 0)), axis=1).tolist() == [-inf, -inf]


def test_long_sums_are_accurate() -> None:
    # Added up one by one, 100,000 times 0.1 is off by a thousandth.
    x = np.full((100_000, 3), 0.1, np.float32)
    assert abs(np.cumsum(x[:, 0])[-1] / 10_000 - 1) > 1e-4
    for axis in (0, None):
        exact = x.sum(axis=axis, dtype=np.float64)
        found = gn.sum(gn.asarray(x), axis=axis)
        np.testing.assert_allclose(found.numpy(), exact, rtol=3e-6)


# Order


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_sorting_puts_nan_last(dtype: str) -> None:
    values = np.array([[3.0, np.nan, 1.0, 2.0], [np.inf, 0.0, -np.inf, np.nan]])
    x = gn.asarray(values).astype(dtype)
    up = [[1, 2, 3, np.nan], [-np.inf, 0, np.inf, np.nan]]
    down = [[3, 2, 1, np.nan], [np.inf, 0, -np.inf, np.nan]]
    np.testing.assert_array_equal(gn.sort(x).numpy().astype(float), up)
    np.testing.assert_array_equal(gn.sort(x, descending=True).numpy().astype(float), down)
    assert gn.argsort(x).tolist() == [[2, 3, 0, 1], [2, 1, 0, 3]]
    assert gn.argsort(x, descending=True).tolist() == [[0, 3, 2, 1], [0, 1, 2, 3]]
    many = np.arange(300) * 7 % 100
    np.testing.assert_array_equal(
        gn.argsort(gn.asarray(many)).numpy(), np.argsort(many, kind="stable")
    )
    both = gn.ops.top_k(x, 2)
    np.testing.assert_array_equal(both[0].numpy().astype(float), [[3, 2], [np.inf, 0]])
    assert both[1].tolist() == [[0, 3], [0, 1]]
    smallest, places = gn.ops.top_k(x, 2, largest=False)
    np.testing.assert_array_equal(smallest.numpy().astype(float), [[1, 2], [-np.inf, 0]])
    assert places.tolist() == [[2, 3], [2, 1]]


@pytest.mark.parametrize("low", [1, 1 << 40, 1 << 63])
@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 3000])
def test_integers_that_differ_little_or_not(count: int, dtype: Any, low: int) -> None:
    """Whether they differ in their high bits, in their low ones, or are equal."""
    generator = np.random.default_rng(count)
    high = generator.integers(0, 2**63, count, dtype=np.uint64) // np.uint64(low) * np.uint64(low)
    for x in (high, high + np.arange(count)[::-1].astype(np.uint64), high.repeat(2)):
        keys = x.astype(dtype)
        found = gn.argsort(gn.asarray(keys)).numpy()
        np.testing.assert_array_equal(found, np.argsort(keys, stable=True))


@pytest.mark.parametrize("alike", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [2048, 4096, 5001, 8192])
def test_random_integers_some_of_which_are_alike(count: int, alike: int) -> None:
    """In their first bits, so that sorting by those leaves them as they were, or in all bits."""
    generator = np.random.default_rng(count)
    for last in (0, 1, 1 << 20):
        x = generator.integers(0, 2**64, count, dtype=np.uint64)
        for start in range(0, count - alike, 200):
            x[start : start + alike] = x[start] - np.arange(alike).astype(np.uint64) * last
        x = generator.permutation(x)
        np.testing.assert_array_equal(gn.argsort(gn.asarray(x)).numpy(), np.argsort(x, stable=True))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, bool])
@pytest.mark.parametrize("axis", [0, 1])
def test_sorting_is_stable_in_both_directions(dtype: Any, axis: int) -> None:
    x = np.random.default_rng(1).integers(0, 2, (30, 20)).astype(dtype)
    order = gn.argsort(gn.asarray(x), axis=axis)
    np.testing.assert_array_equal(order.numpy(), np.argsort(x, axis=axis, stable=True))
    down = gn.argsort(gn.asarray(x), axis=axis, descending=True)
    expected = np.argsort(-x.astype(np.int64), axis=axis, stable=True)
    np.testing.assert_array_equal(down.numpy(), expected)
    np.testing.assert_array_equal(
        gn.sort(gn.asarray(x), axis=axis, descending=True).numpy(),
        np.take_along_axis(x, expected, axis),
    )


def test_sorting_nothing() -> None:
    assert gn.sort(gn.ones((0,))).shape == (0,)
    assert gn.argsort(gn.ones((2, 0)), descending=True).shape == (2, 0)
    assert gn.ops.top_k(gn.ones((2, 0)), 0)[0].shape == (2, 0)
    with pytest.raises(ShapeError, match="top_k got k=4 for 3 values"):
        gn.ops.top_k(gn.ones((3,)), 4)


def test_gradients_follow_sorted_values() -> None:
    x = gn.asarray([3.0, 1.0, 2.0], requires_grad=True)
    (gn.sort(x) * gn.asarray([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [100, 1, 10]


def test_searching() -> None:
    edges = np.array([0.0, 1.0, 1.0, 2.0])
    x = np.array([[-1.0, 1.0], [1.5, 3.0]])
    for side in ("left", "right"):
        found = gn.searchsorted(gn.asarray(edges), gn.asarray(x), side=side)
        np.testing.assert_array_equal(found.numpy(), np.searchsorted(edges, x, side=side))
    mixed = edges[::-1].copy()
    order = gn.asarray(np.argsort(mixed))
    found = gn.searchsorted(gn.asarray(mixed), gn.asarray(x), sorter=order)
    np.testing.assert_array_equal(found.numpy(), np.searchsorted(edges, x))
    with pytest.raises(ShapeError, match="sorted values of one axis"):
        gn.searchsorted(gn.asarray(x), gn.asarray(x))


def test_nonzero() -> None:
    x = np.array([[0, 1, 0], [2, 0, 3]])
    for mine, theirs in zip(gn.nonzero(gn.asarray(x)), np.nonzero(x), strict=True):
        assert mine.dtype == gn.int64
        np.testing.assert_array_equal(mine.numpy(), theirs)
    with pytest.raises(ShapeError, match="at least one axis"):
        gn.nonzero(gn.asarray(1.0))
    assert int(gn.count_nonzero(gn.asarray(x))) == 3


# Running


@pytest.mark.parametrize("name", ["sum", "prod"])
def test_running_reductions(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    ours, theirs = getattr(gn, f"cumulative_{name}"), getattr(np, f"cumulative_{name}")
    for axis in (0, 1, -1):
        for start in (False, True):
            found = ours(gn.asarray(x), axis=axis, include_initial=start)
            expected = theirs(x, axis=axis, include_initial=start)
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)
    assert ours(gn.asarray([2, 3])).tolist() == theirs(np.array([2, 3])).tolist()
    with pytest.raises(ShapeError, match=f"cumulative_{name} needs an axis"):
        ours(gn.asarray(x))


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "argmax", "sort", "flip", "var"])
def test_axes_out_of_range(name: str) -> None:
    with pytest.raises(ShapeError, match=r"got axis 2 for a tensor of 2 dimension\(s\)"):
        getattr(gn, name)(gn.ones((2, 3)), axis=2)
    if name not in ("argmax", "sort"):
        with pytest.raises(ShapeError, match="got an axis twice"):
            getattr(gn, name)(gn.ones((2, 3)), axis=(1, -1))


def test_std_of_equal_values_has_a_gradient_of_zero() -> None:
    x = gn.asarray([[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]], requires_grad=True)
    gn.std(x, axis=1).sum().backward()
    third = 1 / (3 * np.std([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 0], [-third, 0, third]], atol=1e-6)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "prod", "any", "logsumexp"])
def test_a_tensor_without_axes_is_reduced_over_none(name: str) -> None:
    x = gn.asarray(2.0)
    with pytest.raises(AxisError, match="0 dimensions"):
        getattr(gn, name)(x, axis=0)
    assert getattr(gn, name)(x, axis=()).ndim == 0


@pytest.mark.parametrize(
    "name", ["cumulative_sum", "cumulative_prod", "sort", "argsort", "argmax", "take", "flip"]
)
@pytest.mark.parametrize("axis", [0, -1])
def test_a_tensor_without_axes_has_no_axis_to_go_along(name: str, axis: int) -> None:
    more = (gn.asarray([0]),) if name == "take" else ()
    with pytest.raises(AxisError, match=rf"{name} got axis {axis} for a tensor of 0 dimensions"):
        getattr(gn, name)(gn.asarray(2.0), *more, axis=axis)
