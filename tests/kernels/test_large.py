"""Work on large arrays that threads share: NumPy's own loops, copies, places and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends, dtypes, numpy_calls
from gradnet.dtypes import DType

pytest.importorskip("numba")

from gradnet.kernels import handles, large, numpy_loops, tables, threads
from replays import team_of

BACKEND: Any = backends.get("numba")
SIZE = 3 * numpy_loops.LINE * 2 + 5
DTYPES = [dtypes.float32, dtypes.float64]
UFUNCS = ("exp", "sin", "tanh", "floor", "isfinite", "divide", "maximum", "pow", "less")

if not handles.DIRECT:
    pytest.skip("arrays are not as NumPy's C API says", allow_module_level=True)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A team of two, to which small work goes too."""
    crew = team_of(2)
    monkeypatch.setattr(threads, "team_for", lambda size, least: crew)
    monkeypatch.setattr(threads, "lent", lambda habits, size, least: crew)
    monkeypatch.setattr(threads, "launch", lambda kernel, parts, rest, size, least: (
        threads.run(crew, kernel, parts, rest)
    ))  # fmt: skip
    monkeypatch.setattr(large, "LARGE", 64)
    monkeypatch.setattr(tables, "LONG_ROW", 300)


def operands(dtype: DType) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.integers(-8, 9, SIZE)
    x = (rng.standard_normal(SIZE) * scale).astype(dtype)
    for i, value in enumerate((np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42)):
        x[i :: 31 + i] = value
    return x, rng.permutation(x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", UFUNCS)
def test_loops_of_numpy_give_its_bits(shared: None, name: str, dtype: DType) -> None:
    ufunc = numpy_calls.UFUNCS[name]
    x, y = operands(dtype)
    given = (x, y), (x, 0.7), (2.0, y), (x, 1e300), (x, y[6:7]), (x[7, ...], y)
    for xs in given if ufunc.nin == 2 else ((x,),):
        with np.errstate(all="ignore"):
            expected = ufunc(*xs)
        first = next(z for z in xs if isinstance(z, np.ndarray) and z.size > 1)
        found = large.by_threads(ufunc, xs, first, expected.dtype)
        assert found is not None
        assert found.dtype is expected.dtype
        assert found.tobytes() == expected.tobytes()


def test_what_has_no_such_loop_goes_to_numpy(shared: None) -> None:
    x = np.linspace(0, 1, SIZE, dtype=np.float32)
    run = BACKEND.mapper(gn.formulas.FORMULAS["add"], x.dtype, x.dtype)
    np.testing.assert_array_equal(run(x[:70], x[:70, None]), x[:70] + x[:70, None])
    np.testing.assert_array_equal(run(x, x[:1, None]), x + x[:1, None])
    np.testing.assert_array_equal(run(x[::2], x[::2]), x[::2] + x[::2])
    np.testing.assert_array_equal(run(x[:1], x), x[:1] + x)
    assert large.by_threads(np.add, (x, x[::-1]), x, x.dtype) is None
    assert numpy_loops.kernel(np.bitwise_and, x.dtype, x.dtype, "xx") is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["max", "min"])
def test_places_of_extremes_are_those_of_numpy(shared: None, kind: str, dtype: DType) -> None:
    rng = np.random.default_rng(1)
    theirs: Callable[[Any], Any] = getattr(np, f"arg{kind}")
    for size in (512, 1000, 1023):
        x = rng.integers(0, 9, size).astype(dtype)
        last, missing, zeros = x.copy(), x.copy(), np.zeros(size, dtype)
        last[-1], zeros[size // 2] = (99, -0.0) if kind == "max" else (-99, -0.0)
        missing[rng.integers(0, size, 3)] = np.nan
        for z in (x, last, missing, zeros, x[::-1], np.full(size, -np.inf, dtype)):
            found = BACKEND.argreduce(kind, z, 0)
            assert (found.dtype, found.shape) == (np.int64, ())
            assert found == theirs(z)
    out = np.empty((), np.int64)
    assert BACKEND.argreduce(kind, x, 0, out=out) is out
    assert out == theirs(x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_products_of_long_vectors_are_near(shared: None, dtype: DType) -> None:
    rng = np.random.default_rng(2)
    for size in (512, 777):
        x, y = rng.standard_normal((2, size)).astype(dtype)
        found = BACKEND.matmul(x, y)
        assert (found.dtype, found.shape) == (dtype, ())
        exact = np.sum(x.astype(np.longdouble) * y)
        assert abs(found - exact) < np.finfo(dtype).eps * np.abs(x * y).sum()
        np.testing.assert_allclose(BACKEND.matmul(x[::-1], y), x[::-1] @ y, rtol=1e-4)
        x[3], y[5] = np.inf, np.nan
        assert np.isnan(BACKEND.matmul(x, y))
        y[5] = 0
        assert BACKEND.matmul(x, np.abs(y)) == np.inf
    large = np.full(size, 1e30, np.float32)
    assert BACKEND.matmul(large, large) == np.inf


@pytest.mark.parametrize("into", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_casts_are_those_of_numpy(shared: None, dtype: DType, into: DType) -> None:
    x, _ = operands(dtype)
    x[7] = np.finfo(dtype).max
    with np.errstate(all="ignore"):
        expected = x.astype(into)
    made, out = BACKEND.cast(x, into), np.empty(x.shape, into)
    assert BACKEND.cast(x, into, out=out) is out
    for found in (made, out):
        assert found.dtype is into
        assert found.tobytes() == expected.tobytes()
        assert not np.shares_memory(found, x)
    np.testing.assert_array_equal(BACKEND.cast(x[::2], into), expected[::2])
    y = expected.copy()
    BACKEND.cast(y[:-1], into, out=y[1:])
    np.testing.assert_array_equal(y[1:], expected[:-1])


def test_arrays_are_joined_as_by_numpy(shared: None) -> None:
    x = np.arange(512, dtype=np.float32).reshape(128, 4)
    y = x[::-1].copy()
    for xs in ([x, y, x], [x], [x, y[:3]], [x, y[:, ::-1]], [x, y.astype(np.float64)]):
        found = BACKEND.concatenate(xs, 0)
        expected = np.concatenate(xs)
        assert found.dtype is expected.dtype
        np.testing.assert_array_equal(found, expected)
        assert not np.shares_memory(found, x)
    np.testing.assert_array_equal(BACKEND.concatenate([x, y], 1), np.concatenate([x, y], 1))
    out = np.empty((256, 4), np.float32)
    assert BACKEND.concatenate([x, y], 0, out=out) is out
    np.testing.assert_array_equal(out, np.concatenate([x, y]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_thread_and_several_give_the_same_bits(
    dtype: DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LONG_ROW", 300)
    crew, bits = team_of(2), 8 * dtype.itemsize
    rng = np.random.default_rng(3)

    def spread(*shape: int) -> Any:
        return (rng.standard_normal(shape) * 10.0 ** rng.integers(-5, 6, shape)).astype(dtype)

    zeros = np.zeros(1000, dtype)
    zeros[::3] = -0.0
    x, z, table, wide = spread(5003), spread(5003), spread(700, 33), spread(300, 5000)
    found = []
    for shared in (True, False):
        monkeypatch.setattr(
            threads, "either", lambda work, size, least, alone, together, shared=shared: (
                together(crew) if shared else alone()
            )
        )  # fmt: skip
        run: dict[str, Any] = {
            "sum": BACKEND.reduce("sum", table, (0,), False, dtype=dtype),
            "sum, wide": BACKEND.reduce("sum", wide, (0,), False, dtype=dtype),
            "product": tables.vectors(x, z),
            "cast": BACKEND.cast(x, dtypes.float32),
        }
        for kind in ("max", "min"):
            run[kind] = BACKEND.reduce(kind, x, (0,), False, dtype=dtype)
            run[f"{kind} of zeros"] = BACKEND.reduce(kind, zeros, (0,), False, dtype=dtype)
            run[f"arg{kind}"] = BACKEND.argreduce(kind, x, 0)
        found.append({name: value.tobytes() for name, value in run.items()})
    assert found[0] == found[1]
    columns = [tables.of_columns(t[None], bits, crew)[0].tobytes() for t in (table, wide)]
    assert columns == [tables._of_long_columns(t, bits).tobytes() for t in (table, wide)]
