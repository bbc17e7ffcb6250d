"""The compiled CPU backend against the NumPy backend: reductions, gathering, random, threads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradnet import backends, dtypes, formulas

pytest.importorskip("numba")

from gradnet.kernels import threads
from gradnet.kernels.numba_cpu import NumbaBackend
from numba_arrays import (
    F4,
    F8,
    FLOATS,
    HALVES,
    INF,
    LAYOUTS,
    NAN,
    NUMBA,
    NUMPY,
    TOLERANCE,
    adam_like,
    laid_out,
    random,
    rational,
    same,
    seed,
    swish_like,
)

# Along axes


@given(
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6),
    axes=st.sets(st.integers(0, 3)),
    kind=st.sampled_from(["sum", "max", "min", "prod", "any"]),
    layout=st.sampled_from(sorted(LAYOUTS)),
    keepdims=st.booleans(),
    dtype=st.sampled_from(FLOATS),
    wild=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_reduce(
    shape: tuple[int, ...],
    axes: set[int],
    kind: str,
    layout: str,
    keepdims: bool,
    dtype: Any,
    wild: bool,
) -> None:
    chosen = tuple(axis for axis in sorted(axes) if axis < len(shape))
    x = laid_out(random(seed(shape, kind), shape, dtype, wild), layout)
    if kind in ("max", "min") and not x.size:
        return
    result = dtypes.bool_ if kind == "any" else dtype
    expected = NUMPY.reduce(kind, x, chosen, keepdims, dtype=result)
    found = NUMBA.reduce(kind, x, chosen, keepdims, dtype=result)
    if kind == "sum":
        terms = np.abs(np.where(np.isfinite(x), x, 0)).astype(F8).sum(chosen, keepdims=keepdims)
        finite = np.isfinite(expected) & (terms < 1e30)
        error = np.abs(found[finite].astype(F8) - expected[finite])
        assert found.shape == expected.shape
        assert np.all(error <= TOLERANCE[dtype] * terms[finite])
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    else:
        same(found, expected)
    out = np.empty_like(expected)
    assert NUMBA.reduce(kind, x, chosen, keepdims, dtype=result, out=out) is out
    same(out, found)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3000, 7), (0,)),
        ((7, 3000), (1,)),
        ((700_001,), (0,)),
        ((1, 700_001), (0, 1)),
        ((700, 1001), (0, 1)),
        ((700, 1001), (0,)),
        ((700, 1001), (1,)),
        ((9, 500, 129), (1,)),
        ((50, 9, 1300), (0, 2)),
        ((300_001, 2), (0,)),
    ],
)
def test_long_sums(shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> None:
    x = seed(shape).random(shape).astype(dtype)
    exact = x.astype(np.longdouble).sum(axis=axes)
    found = NUMBA.reduce("sum", x, axes, False, dtype=dtype)
    bound = 1e-6 if dtype == F4 else 1e-14
    assert np.max(np.abs(found / exact - 1)) < bound
    for kind in ("max", "min"):
        same(
            NUMBA.reduce(kind, x, axes, False, dtype=dtype),
            getattr(x, kind)(axis=axes, keepdims=False),
        )
    x.reshape(-1)[x.size // 2] = NAN
    for kind in ("max", "sum"):
        found = NUMBA.reduce(kind, x, tuple(range(x.ndim)), False, dtype=dtype)
        assert found.shape == ()
        assert np.isnan(found)


def test_ten_million_positive_terms() -> None:
    for x in (seed("long").random(10**7, np.float32), np.full(10**7, 0.1, np.float32)):
        exact = x.sum(dtype=np.float64)
        total = NUMBA.reduce("sum", x, (0,), False, dtype=F4)
        assert abs(float(total) / exact - 1) <= 1e-6
        rows = NUMBA.reduce("sum", x.reshape(10, -1), (1,), False, dtype=F4)
        assert abs(float(rows.sum(dtype=np.float64)) / exact - 1) <= 1e-6


def test_sums_of_infinities() -> None:
    x = np.zeros((4, 600), np.float32)
    x[0, 3], x[1, 5], x[1, 599], x[2, 0] = INF, INF, -INF, NAN
    found = NUMBA.reduce("sum", x, (1,), False, dtype=F4)
    np.testing.assert_array_equal(found, [INF, NAN, NAN, 0])
    same(NUMBA.reduce("sum", np.ascontiguousarray(x.T), (0,), False, dtype=F4), found)


# Gathering


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES, dtypes.int64])
@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (4, 2, 3), (6,), (3, 0)])
def test_put_adds_up_repeated_rows(shape: tuple[int, ...], dtype: Any) -> None:
    rng = seed("put", shape)
    for count in (0, 1, 40):
        x = random(rng, shape, F4).astype(dtype)
        rows = rng.integers(-shape[0], shape[0], count)
        values = random(rng, (count, *shape[1:]), F4).astype(dtype)
        for given_values in (values, values[:1] if count else values, 2.0):
            expected, found = x.copy(), x.copy()
            NUMPY.put(expected, (rows,), given_values, add=True)
            NUMBA.put(found, (rows,), given_values, add=True)
            same(found, expected)


def test_put_in_other_ways() -> None:
    rng = seed("ways")
    x, values = random(rng, (6, 4), F4), random(rng, (3, 4), F4)
    rows = np.array([0, 5, 0])
    indices: list[tuple[Any, ...]] = [
        (rows,),
        (rows.astype(np.int32),),
        (slice(0, 3),),
        (x[:, 0] > -100, slice(None)),
        (rows, slice(None)),
        (rows[:, None], np.arange(4)),
    ]
    for index, add in itertools.product(indices, (True, False)):
        given_values = np.broadcast_to(values[:1], x[index].shape)
        expected, found = x.copy(), x.copy()
        NUMPY.put(expected, index, given_values, add=add)
        NUMBA.put(found, index, given_values, add=add)
        same(found, expected)
    view, expected = x.copy().T, x.copy().T
    NUMPY.put(expected, (np.array([1, 1]),), 1.0, add=True)
    NUMBA.put(view, (np.array([1, 1]),), 1.0, add=True)
    same(np.ascontiguousarray(view), np.ascontiguousarray(expected))
    own = x.copy()
    NUMBA.put(own, (np.array([1, 0, 0, 2, 3, 4]),), own, add=True)
    np.testing.assert_allclose(own[0], x[0] + x[1] + x[2], rtol=1e-6)


@pytest.mark.parametrize("bad", [6, -7])
def test_put_refuses_indices_out_of_range(bad: int) -> None:
    x = np.zeros((6, 2), np.float32)
    with pytest.raises(IndexError, match=f"index {bad} is out of bounds for axis 0 with size 6"):
        NUMBA.put(x, (np.array([0, bad]),), 1.0, add=True)
    np.testing.assert_array_equal(x, 0)


# Random

KINDS = [("bits", dtypes.uint32), ("bits", dtypes.uint64)] + [
    (kind, dtype) for kind in ("uniform", "normal") for dtype in (*FLOATS, *HALVES)
]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_random_has_the_same_bits(kind: str, dtype: Any) -> None:
    for shape in ((), (0,), (1,), (2, 3), (1025,), (3, 5000)):
        for key, counter in ((0, 0), (2**64 - 1, 2**128 - 2), (12345 << 40, 2**64 - 3)):
            expected = NUMPY.random(kind, key, counter, shape, dtype)
            found = NUMBA.random(kind, key, counter, shape, dtype)
            assert (found.shape, found.dtype) == (shape, dtype)
            assert found.tobytes() == expected.tobytes()
    out = np.empty((2, 7), dtype)
    assert NUMBA.random(kind, 1, 2, (2, 7), dtype, out=out) is out
    view = np.empty((2, 14), dtype)[:, ::2]
    assert NUMBA.random(kind, 1, 2, (2, 7), dtype, out=view) is view
    assert out.tobytes() == view.tobytes() == NUMPY.random(kind, 1, 2, (2, 7), dtype).tobytes()


def test_random_refuses_what_does_not_come() -> None:
    for kind, dtype in (("bits", F4), ("uniform", dtypes.int32), ("poisson", F4)):
        with pytest.raises((TypeError, ValueError), match=kind):
            NUMBA.random(kind, 0, 0, (2,), dtype)


# Threads


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_result_depends_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    monkeypatch.setattr("gradnet.kernels.threads.SHARE", 64)
    monkeypatch.setattr("gradnet.kernels.threads.SHARE_HEAVY", 64)
    rng = seed("threads")
    x, g = random(rng, (401, 37), dtype), random(rng, (401, 37), dtype)
    bias, column = random(rng, (37,), dtype), random(rng, (401, 1), dtype)
    classes, each = rng.integers(0, 37, 401), rng.random(401).astype(dtype)

    def results() -> list[Any]:
        p, m, v = x.reshape(-1).copy(), g.reshape(-1).copy(), np.abs(g.reshape(-1))
        NUMBA.update(adam_like, (p, g.reshape(-1), m, v), (0.01, 0.9))
        kept = x.copy()
        found = [
            NUMBA.map(swish_like, x, dtype=dtype),
            NUMBA.map(rational, x, bias, 0.5, dtype=dtype),
            NUMBA.map(rational, column, x, 0.5, dtype=dtype),
            NUMBA.bias_activation(kept, bias, swish_like, (), out=np.empty_like(x)),
            kept,
            NUMBA.bias_activation(x.copy(), bias, formulas.relu, (), out=(y := x.copy())),
            y,
            *NUMBA.bias_activation_backward(g, x, formulas.tanh_dx, (), with_bias=True),
            NUMBA.softmax(x, False),
            *NUMBA.softmax_cross_entropy(x, classes, each, 0.1),
            *(NUMBA.reduce("sum", x, axes, False, dtype=dtype) for axes in ((0,), (1,), (0, 1))),
            NUMBA.reduce("sum", x.reshape(-1, 401, 1), (0,), False, dtype=dtype),
            NUMBA.random("normal", 1, 2, (5, 5000), dtype),
            p,
            m,
            v,
        ]
        return [array.tobytes() for array in found]

    monkeypatch.setattr(threads._pool, "size", 1)
    expected = results()
    for count in (2, 3, 8):
        monkeypatch.setattr(threads._pool, "size", count)
        assert results() == expected


def test_unaligned_arrays_are_copied() -> None:
    x = np.zeros(41, np.uint8)[1:].view(np.float32)
    assert not x.flags.aligned
    taken = NUMBA.from_host(x, copy=False)
    assert taken.flags.aligned
    aligned = np.zeros(4, np.float32)
    assert NUMBA.from_host(aligned, copy=False) is aligned
    assert NUMBA.from_host(aligned, copy=True) is not aligned


def test_the_registry_has_it() -> None:
    backend = backends.get("numba")
    assert isinstance(backend, NumbaBackend)
    assert (backend.name, backend.device) == ("numba", "cpu")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [2, 4, 7, 10, 40])
def test_rows_have_the_same_bits_wherever_they_are(k: int, dtype: str) -> None:
    backend = backends.get("numba")
    x = np.random.default_rng(k).normal(size=(3, k)).astype(dtype)
    memory = np.zeros(40 * x.size + 64, dtype)
    found = []
    for start in (0, 1, 3, x.size, x.size + 5, 30 * x.size):
        for end in (0, x.size, 2 * x.size + 3, 34 * x.size):
            if abs(end - start) < x.size:
                continue
            given = memory[start : start + x.size].reshape(x.shape)
            out = memory[end : end + x.size].reshape(x.shape)
            given[...] = x
            both = [backend.softmax(given, log, out=out).copy() for log in (False, True)]
            losses, dx = backend.softmax_cross_entropy(given, np.arange(3) % k, 1.0, 0.1)
            found.append((*both, losses, dx))
    for one in found[1:]:
        for y, expected in zip(one, found[0], strict=True):
            np.testing.assert_array_equal(y, expected)


def test_a_class_out_of_range_is_named_wherever_it_is() -> None:
    def error(i: int, value: Any) -> Exception:
        return LookupError(f"{value} at {i}")

    for n in (1, 7, 8, 200):
        x = np.arange(n)
        NUMBA.flag(x, 0, n - 1, error, ())
        for place, bad in ((0, -1), (n // 2, n), (n - 1, 2**62)):
            y = x.copy()
            y[place] = bad
            with pytest.raises(LookupError, match=rf"^{bad} at {place}$"):
                NUMBA.flag(y, 0, n - 1, error, ())
    with pytest.raises(LookupError, match=r"^8 at 4$"):
        NUMBA.flag(np.arange(10)[::2], 0, 7, error, ())
