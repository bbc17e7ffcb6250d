"""Elementwise formulas on Numba, against the NumPy backend."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradnet import dtypes, formulas

pytest.importorskip("numba")

from numba_arrays import (
    F4,
    FLOATS,
    HALVES,
    INF,
    LAYOUTS,
    NAN,
    NUMBA,
    NUMPY,
    close,
    laid_out,
    random,
    rational,
    same,
    seed,
    swish_like,
    where,
)


def between(a: Any, b: Any) -> Any:
    return (a < b) & (b < 1.0) | (a != a)


def masked(c: Any, a: Any, b: Any) -> Any:
    return where(c, a * 2.0 + b, b)


def tripled(x: Any) -> Any:
    return x * 3.0 - 1.0


@st.composite
def operands(draw: st.DrawFn) -> tuple[list[Any], tuple[int, ...], Any]:
    """Two arrays and a number, an array or an element, that broadcast together."""
    dtype = draw(st.sampled_from(FLOATS))
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=3, max_side=5)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layouts = draw(st.tuples(*[st.sampled_from(sorted(LAYOUTS))] * 2))
    arrays = [
        laid_out(random(rng, shape, dtype, wild=True), layout)
        for shape, layout in zip(shapes.input_shapes, layouts, strict=True)
    ]
    last = draw(st.sampled_from([0.5, 2, np.asarray(0.25, dtype)]))
    return [*arrays, last], shapes.result_shape, dtype


@given(drawn=operands(), into=st.sampled_from(["new", "out", "view", "first", "second"]))
@settings(max_examples=150, deadline=None)
def test_map_is_exact(drawn: tuple[list[Any], tuple[int, ...], Any], into: str) -> None:
    xs, shape, dtype = drawn
    expected = NUMPY.map(rational, *xs, dtype=dtype)
    if into in ("first", "second"):
        place = 0 if into == "first" else 1
        if xs[place].shape != shape:
            return
        xs[place] = xs[place].copy()
        out = xs[place]
    elif into == "view":
        out = np.full((*shape, 2), 7, dtype)[..., 0]
    else:
        out = np.full(shape, 7, dtype) if into == "out" else None
    found = NUMBA.map(rational, *xs, dtype=dtype, out=out)
    same(found, expected)
    assert out is None or found is out


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4,)),
        ((3, 4), (3, 1)),
        ((2, 3, 4), (3, 4)),
        ((2, 3, 4), (2, 1, 1)),
        ((2, 3, 4), (2, 3, 1)),
        ((2, 3, 4), (2, 1, 4)),
        ((3, 1), (1, 4)),
        ((3, 1), (5, 1, 4)),
        ((1, 4), (3, 1)),
        ((4, 1), (1,)),
        ((), (2, 2)),
        ((1, 1), ()),
        ((0, 3), (3,)),
        ((0, 1), (1, 0)),
        ((1000,), (1,)),
    ],
)
def test_map_broadcasts(a: tuple[int, ...], b: tuple[int, ...], dtype: Any) -> None:
    rng = seed(a, b)
    x, y = random(rng, a, dtype), random(rng, b, dtype)
    for operands in ((x, y), (y, x)):
        same(
            NUMBA.map(rational, *operands, 0.5, dtype=dtype),
            NUMPY.map(rational, *operands, 0.5, dtype=dtype),
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_map_of_masks(dtype: Any) -> None:
    rng = seed("mask")
    a, b = random(rng, (6, 5), dtype, wild=True), random(rng, (6, 5), dtype, wild=True)
    same(NUMBA.map(between, a, b, dtype=dtypes.bool_), NUMPY.map(between, a, b, dtype=dtypes.bool_))
    for mask in (a > 0, a[:1] > 0, a[:, :1] > 0, np.asarray(True)):
        same(NUMBA.map(masked, mask, a, b, dtype=dtype), NUMPY.map(masked, mask, a, b, dtype=dtype))
        picked = NUMBA.map(formulas.where, mask, a, 0.0, dtype=dtype)
        same(picked, np.where(mask, a, dtype.type(0)))
    out = np.zeros((6, 5), bool)
    assert NUMBA.map(between, a, b, dtype=dtypes.bool_, out=out) is out
    same(out, NUMPY.map(between, a, b, dtype=dtypes.bool_))


def test_map_into_overlapping_memory() -> None:
    memory = random(seed("overlap"), (50,), F4)
    expected = memory[:-1] * np.float32(3) - np.float32(1)
    NUMBA.map(tripled, memory[:-1], dtype=F4, out=memory[1:])
    same(memory[1:], expected)
    memory = random(seed("flip"), (50,), F4)
    expected = memory[::-1] * np.float32(3) - np.float32(1)
    NUMBA.map(tripled, memory[::-1], dtype=F4, out=memory)
    same(memory, expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_formula_has_one_result(dtype: Any) -> None:
    """The same bits for any size, layout, pattern of operands and number of threads."""
    x = random(seed("bits"), (64, 33), dtype, wild=True)
    whole = NUMBA.map(swish_like, x, dtype=dtype)
    for layout in LAYOUTS:
        same(NUMBA.map(swish_like, laid_out(x, layout), dtype=dtype), whole)
    for i, j in itertools.product(range(0, 64, 7), range(0, 33, 5)):
        same(NUMBA.map(swish_like, x[i : i + 1, j], dtype=dtype), whole[i : i + 1, j])
    same(NUMBA.map(swish_like, x.T, dtype=dtype), whole.T)
    alone = NUMBA.map(swish_like, np.asarray(x[0, 0]), dtype=dtype)
    same(alone, np.asarray(whole[0, 0]))
    z = np.zeros((64, 33), dtype)
    NUMBA.bias_activation(x, z[0].copy(), swish_like, (), out=z)
    same(z, whole)


@pytest.mark.parametrize("dtype", [*HALVES, dtypes.int32, dtypes.uint8, dtypes.complex64])
def test_map_of_other_dtypes(dtype: Any) -> None:
    x = random(seed("other"), (4, 5), F4).astype(np.uint8).astype(dtype)
    for formula in (formulas.square, formulas.add, tripled):
        xs = (x, x[:1]) if formula is formulas.add else (x,)
        if formula is tripled and dtype.kind in "iu":
            continue
        same(NUMBA.map(formula, *xs, dtype=dtype), NUMPY.map(formula, *xs, dtype=dtype))


def test_map_warns_of_nothing() -> None:
    x = np.array([0.0, -1.0, INF, NAN, 1e30], np.float32)
    for formula in (formulas.log, formulas.reciprocal, formulas.square, formulas.sqrt, tripled):
        NUMBA.map(formula, x, dtype=F4)
    NUMBA.map(formulas.subtract, x, x, dtype=F4)
    NUMBA.bias_activation(x[None].copy(), x, None, (), out=x[None].copy())


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_of_the_catalogue_that_compile(dtype: Any) -> None:
    """A few formulas of every make; their accuracy is tested in test_formulas."""
    x = random(seed("catalogue"), (300,), dtype, wild=True)
    for name in ("sigmoid", "relu", "identity", "erf", "softplus", "gelu", "mish"):
        row = formulas.row(name)
        found = NUMBA.map(row.formula, x, dtype=dtype)
        close(found, NUMPY.map(row.formula, x, dtype=dtype), 4)
