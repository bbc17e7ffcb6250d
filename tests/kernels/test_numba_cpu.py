"""Every kernel of the compiled CPU backend against the NumPy backend, on fresh random operands."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradnet import backends, binding, dtypes, formulas
from gradnet.backends import Backend
from gradnet.numpy_backend import NumpyBackend

pytest.importorskip("numba")

from gradnet.kernels import threads
from gradnet.kernels.numba_cpu import NumbaBackend
from gradnet.kernels.templates import softmax

Array = Any

NUMBA: Backend = NumbaBackend()
NUMPY: Backend = NumpyBackend()
F4, F8 = dtypes.float32, dtypes.float64
FLOATS = [F4, F8]
HALVES = [dtypes.float16, dtypes.bfloat16()]
INF, NAN = np.inf, np.nan
EXTREMES = [0.0, -0.0, 1.0, -1.0, 300.0, -300.0, 1e30, -1e30, 1e-40, -1e-40, INF, -INF, NAN]
TOLERANCE = {F4: 2e-6, F8: 4e-15}


def where(c: Any, a: Any, b: Any) -> Any:
    return where(c, a, b)


def exp(x: Any) -> Any:
    return exp(x)


def rational(a: Any, b: Any, alpha: Any) -> Any:
    """Exact to the bit on any target that neither contracts nor reorders."""
    return where(a > b, a * b + alpha, a - b / (alpha + 0.1))


def between(a: Any, b: Any) -> Any:
    return (a < b) & (b < 1.0) | (a != a)


def masked(c: Any, a: Any, b: Any) -> Any:
    return where(c, a * 2.0 + b, b)


def tripled(x: Any) -> Any:
    return x * 3.0 - 1.0


def swish_like(x: Any) -> Any:
    return x / (1.0 + exp(-x))


def seed(*parts: Any) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(parts).encode()))


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, wild: bool = False) -> Any:
    x = rng.normal(size=shape) * 3
    if wild:
        x = np.where(rng.random(shape) < 0.3, rng.choice(EXTREMES, size=shape), x)
    with np.errstate(over="ignore"):
        return np.asarray(x).astype(dtype)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda x: x,
    "fortran": lambda x: np.asfortranarray(x) if x.ndim else x,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "reversed": lambda x: x[..., ::-1].copy()[..., ::-1] if x.ndim else x,
    "offset": lambda x: np.concatenate([x[:1], x])[1:] if x.ndim else x,
}


def laid_out(x: Array, layout: str, *, writable: bool = False) -> Array:
    y = LAYOUTS[layout](x)
    np.testing.assert_array_equal(x, y)
    if not writable:
        y = y.view()
        y.flags.writeable = False
    return y


def same(found: Array, expected: Array) -> None:
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype in HALVES:
        # NumPy's comparison does not know the NaN of bfloat16.
        found, expected = found.astype(F4), expected.astype(F4)
    np.testing.assert_array_equal(found, expected)


def close(found: Array, expected: Array, factor: float = 1.0, scale: float = 1.0) -> None:
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    tolerance = TOLERANCE[found.dtype] * factor
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


# Elementwise


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


# Fused training kernels

SHAPES = [(1, 1), (1, 7), (5, 1), (3, 8), (33, 17), (128, 10), (129, 16), (300, 70), (0, 4), (4, 0)]


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_activation(shape: tuple[int, int], dtype: Any) -> None:
    rng = seed("bias", shape)
    z, bias = random(rng, shape, dtype, wild=True), random(rng, shape[1:], dtype)
    leaky = formulas.row("leaky_relu").formula
    cases: list[tuple[Any, tuple[float, ...]]] = [
        (formulas.relu, ()),
        (formulas.tanh, ()),
        (leaky, (0.1,)),
        (None, ()),
    ]
    for (formula, parameters), given_bias, in_place in itertools.product(
        cases, (bias, None), (False, True)
    ):
        results = []
        for backend in (NUMPY, NUMBA):
            own = z.copy()
            out = own if in_place else np.empty_like(z)
            with np.errstate(all="ignore"):
                y = backend.bias_activation(own, given_bias, formula, parameters, out=out)
            assert y is out
            results.append((y, own))
        same(results[1][0], results[0][0])
        same(results[1][1], results[0][1])


@pytest.mark.parametrize("layout", ["fortran", "strided"])
def test_bias_activation_of_other_layouts(layout: str) -> None:
    rng = seed("layout")
    z, bias = random(rng, (6, 5), F4), random(rng, (5,), F4)
    expected = NUMPY.bias_activation(z.copy(), bias, formulas.relu, (), out=np.empty_like(z))
    view = laid_out(z, layout, writable=True)
    same(NUMBA.bias_activation(view, bias, formulas.relu, (), out=view), expected)
    out = np.empty((5, 6), np.float32).T
    repeated = np.repeat(bias, 2)[::2]
    same(NUMBA.bias_activation(z, repeated, formulas.relu, (), out=out), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_activation_backward(shape: tuple[int, int], dtype: Any) -> None:
    rng = seed("backward", shape)
    g, saved = random(rng, shape, dtype), random(rng, shape, dtype)
    leaky = formulas.row("leaky_relu").derivatives[0]
    for derivative, parameters in ((formulas.tanh_dx, ()), (leaky, (0.1,))):
        expected, _ = NUMPY.bias_activation_backward(
            g, saved, derivative, parameters, with_bias=False
        )
        for out in (None, np.empty_like(g), np.empty((*shape, 2), dtype)[..., 0]):
            dz, dbias = NUMBA.bias_activation_backward(
                laid_out(g, "fortran"),
                laid_out(saved, "strided"),
                derivative,
                parameters,
                with_bias=True,
                out=out,
            )
            same(dz, expected)
            close(dbias, expected.sum(axis=0), 4, 1 + np.abs(expected).sum(initial=0))
            total = NUMBA.reduce("sum", dz, (0,), False, dtype=dtype)
            if shape[1] != 1:
                same(dbias, total)
            assert out is None or dz is out
        alone, none = NUMBA.bias_activation_backward(
            g, saved, derivative, parameters, with_bias=False
        )
        same(alone, expected)
        assert none is None


def test_bias_activation_backward_of_a_broadcast_gradient() -> None:
    saved = random(seed("broadcast"), (20, 6), F4)
    g = np.broadcast_to(np.float32(0.5), (20, 6))
    dz, _ = NUMBA.bias_activation_backward(g, saved, formulas.tanh_dx, (), with_bias=True)
    same(dz, NUMPY.map(binding.vjp(formulas.tanh_dx), g, saved, dtype=F4))


LOGITS = [(1, 1), (1, 5), (7, 1), (6, 10), (40, 3), (5, 33), (3, 1000), (2, 513)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", LOGITS)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(shape: tuple[int, int], log: bool, dtype: Any) -> None:
    x = random(seed(shape), shape, dtype)
    expected = NUMPY.softmax(x, log)
    for layout in LAYOUTS:
        close(NUMBA.softmax(laid_out(x, layout), log), expected, 4)
    for out in (np.empty_like(x), np.empty((*shape, 2), dtype)[..., 0], x):
        assert NUMBA.softmax(x, log, out=out) is out
        close(np.ascontiguousarray(out), expected, 4)


EXTREME_LOGITS = [
    [0.0, -INF, 0.0],
    [-INF, -INF, -INF],
    [INF, 0.0, -INF],
    [INF, INF, 1e30],
    [NAN, 0.0, 1.0],
    [1e30, -1e30, 1e30],
    [300.0, -300.0, 0.0],
    [-1e30, -1e30, -1e30],
    [1e-40, -1e-40, 0.0],
    [88.0, 89.0, 1000.0],
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("log", [False, True])
def test_softmax_of_extremes(log: bool, dtype: Any) -> None:
    x = np.array(EXTREME_LOGITS, dtype)
    close(NUMBA.softmax(x, log), NUMPY.softmax(x, log), 4)
    probabilities = NUMBA.softmax(np.delete(x, [1, 4], axis=0), False)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_softmax_of_nothing_and_of_halves() -> None:
    for shape in ((0, 3), (3, 0), (0, 0)):
        x = np.zeros(shape, np.float32)
        same(NUMBA.softmax(x, False), NUMPY.softmax(x, False))
        found = NUMBA.softmax_cross_entropy(x, np.zeros(shape, np.float32), 1.0, 0.0)
        expected = NUMPY.softmax_cross_entropy(x, np.zeros(shape, np.float32), 1.0, 0.0)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    for dtype in HALVES:
        x = random(seed("half"), (3, 4), dtype)
        same(NUMBA.softmax(x, True), NUMPY.softmax(x, True))
        t = np.array([0, 3, 1])
        for a, b in zip(
            NUMBA.softmax_cross_entropy(x, t, 1.0, 0.0),
            NUMPY.softmax_cross_entropy(x, t, 1.0, 0.0),
            strict=True,
        ):
            same(a, b)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", LOGITS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["classes", "probabilities", "weights"])
def test_softmax_cross_entropy(
    shape: tuple[int, int], smoothing: float, kind: str, dtype: Any
) -> None:
    rng = seed(shape, smoothing, kind)
    x = random(rng, shape, dtype)
    targets = rng.integers(0, shape[1], shape[0])
    if kind != "classes":
        targets = rng.random(shape).astype(dtype)
        targets[0, 0] = 0
        if kind == "probabilities":
            targets /= np.maximum(targets.sum(axis=1, keepdims=True), 0.1)
    each = rng.random(shape[0]).astype(dtype)
    each[-1] = 0
    for scale in (1 / shape[0], each, np.asarray(0.5, dtype), 0.0):
        expected = NUMPY.softmax_cross_entropy(x, targets, scale, smoothing)
        found = NUMBA.softmax_cross_entropy(
            laid_out(x, "fortran"), laid_out(targets, "strided"), scale, smoothing
        )
        close(found[0], expected[0], 8, 10)
        close(found[1], expected[1], 8, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy_of_extremes(smoothing: float, dtype: Any) -> None:
    x = np.array(EXTREME_LOGITS, dtype)
    for column in range(3):
        classes = np.full(len(x), column)
        one_hot = np.eye(3, dtype=dtype)[classes]
        for targets in (classes, one_hot):
            expected = NUMPY.softmax_cross_entropy(x, targets, 0.5, smoothing)
            found = NUMBA.softmax_cross_entropy(x, targets, 0.5, smoothing)
            close(found[0], expected[0], 8)
            close(found[1], expected[1], 8)
    unused = np.zeros(len(x), dtype)
    for part in NUMBA.softmax_cross_entropy(x, one_hot, unused, smoothing):
        np.testing.assert_array_equal(part, 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17])
@pytest.mark.parametrize("masks", [True, False], ids=["vectors with masks", "without"])
def test_cross_entropy_of_a_row_is_the_same_in_any_table(
    masks: bool, classes: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few classes are a vector, and rows go in blocks: neither shows in a row's bits."""
    monkeypatch.setattr(softmax, "short", lambda k: masks and k <= softmax.SHORT)
    rng = seed("row", classes)
    x, targets = random(rng, (35, classes), dtype), rng.integers(0, classes, 35)
    losses, dx = NUMBA.softmax_cross_entropy(x, targets, 0.25, 0.0)
    expected = NUMPY.softmax_cross_entropy(x, targets, 0.25, 0.0)
    close(losses, expected[0], 8, 10)
    close(dx, expected[1], 8, 1)
    for start, stop in ((0, 1), (1, 16), (3, 19), (34, 35)):
        part = NUMBA.softmax_cross_entropy(x[start:stop], targets[start:stop], 0.25, 0.0)
        same(part[0], losses[start:stop])
        same(part[1], dx[start:stop])


def test_a_class_out_of_range_gives_nan() -> None:
    """It is not checked; but it neither writes beyond the row nor passes for a loss."""
    x = random(seed("range"), (3, 4), F4)
    losses, dx = NUMBA.softmax_cross_entropy(x, np.array([4, -1, 1]), 1.0, 0.0)
    np.testing.assert_array_equal(np.isnan(losses), [True, True, False])
    np.testing.assert_array_equal(np.isnan(dx).all(axis=1), [True, True, False])


def adam_like(p: Any, g: Any, m: Any, v: Any, lr: Any, beta: Any) -> Any:
    m = beta * m + (1.0 - beta) * g
    v = beta * v + (1.0 - beta) * g * g
    return p - lr * m / (v + 1e-8), m, v


def sgd_like(p: Any, g: Any, lr: Any) -> Any:
    return (p - lr * g,)


@pytest.mark.parametrize("dtype", [*FLOATS, *HALVES])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_update_is_exact(size: int, dtype: Any) -> None:
    rng = seed("update", size)
    arrays = [random(rng, (size,), dtype) for _ in range(4)]
    arrays[3] = np.abs(arrays[3])
    for formula, count, scalars in ((adam_like, 4, (0.01, 0.9)), (sgd_like, 2, (0.5,))):
        expected = [x.copy() for x in arrays[:count]]
        NUMPY.update(formula, tuple(expected), scalars)
        found = [x.copy() for x in arrays[:count]]
        NUMBA.update(formula, tuple(found), scalars)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
        same(found[1], arrays[1])


def test_update_of_strided_buffers() -> None:
    memory = random(seed("strided"), (20, 2), F4)
    expected = memory.copy()
    expected[:, 0] -= np.float32(0.5) * expected[:, 1]
    NUMBA.update(sgd_like, (memory[:, 0], memory[:, 1]), (0.5,))
    same(memory, expected)


def test_the_catalogue_of_updates() -> None:
    rng = seed("updates")
    for update in formulas.UPDATES.values():
        names = binding.arguments(update.formula)
        arrays = [
            np.abs(random(rng, (50,), F8)) for _ in range(1 + binding.results(update.formula))
        ]
        scalars = tuple(0.5 for _ in names[len(arrays) :])
        expected = [x.copy() for x in arrays]
        NUMPY.update(update.formula, tuple(expected), scalars)
        NUMBA.update(update.formula, tuple(arrays), scalars)
        for a, b in zip(arrays, expected, strict=True):
            close(a, b)


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
