"""Our own matrix products, against NumPy's in float64, and the choice of what they take."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")
from gradnet.kernels import gemm, numba_cpu
from gradnet.kernels.gemm import arrays, build, choice, deep, driver
from gradnet.kernels.gemm.choice import Blocks
from gradnet.kernels.gemm.tile import Shape
from gradnet.kernels.replay import team
from replays import team_of

Array = np.ndarray[Any, Any]
DTYPES = [np.dtype("float32"), np.dtype("float64")]
HOST = build.host()


def targets(large: bool) -> list[Any]:
    """This processor's tiles, and those of AVX2 as they are without AVX-512."""
    return [
        pytest.param(found, target, id=f"{found.width}x{found.bits}")
        for target in (HOST, build.Processor("haswell", ""))
        for dtype in DTYPES
        for features in ["+avx2,+fma" if target.cpu == "haswell" else target.features]
        for found in [build.shape(dtype, features, large)]
        if found is not None and build.shape(dtype, HOST.features) is not None
    ]


TARGETS, LARGE = targets(False), targets(True)
pytestmark = pytest.mark.skipif(not TARGETS, reason="the processor has no fused products")
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows": lambda x: x,
    "columns": lambda x: np.ascontiguousarray(x.T).T,
    "part of rows": lambda x: np.pad(x, ((1, 2), (3, 1)), constant_values=np.nan)[1:-2, 3:-1],
    "part of columns": lambda x: (
        np.pad(x, ((2, 1), (1, 5)), constant_values=np.nan).T.copy().T[2:-1, 1:-5]
    ),
}
WHOLE = 1 << 20


def address(x: Array) -> int:
    return int(x.__array_interface__["data"][0])


class Product:
    """A tile's machine code on arrays, in given blocks, into the middle of poisoned memory."""

    def __init__(self, shape: Shape, target: build.Processor) -> None:
        self.shape = shape
        self.code = build.made(shape, target)
        self.call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(driver.ARGUMENTS))(
            self.code.product
        )

    def __call__(
        self, a: Array, b: Array, blocks: Blocks, packs: tuple[bool, bool] = (True, True)
    ) -> Array:
        (n, k), m, size = a.shape, b.shape[1], a.itemsize
        found = [choice.strides(x.shape, x.strides, size) or (size, size) for x in (a, b)]
        if self.shape.deep:
            depth = min(-(-k // blocks.k) * blocks.k, blocks.columns)
            need = deep.scratch(self.shape, min(n, blocks.rows), depth, blocks.k)
            plan = choice.Plan(blocks, 0, need)
        else:
            taken = packs[0], packs[1] or found[1][1] != size
            plan = choice.planned(self.shape, blocks, n, k, m, found[0], found[1], taken)
        around = np.full((n + 4, m + 40), 7.25, a.dtype)
        c = around[2:-2, 20:-20]
        c[...] = np.nan
        zone = np.full(plan.scratch + 192, 0xFF, np.uint8)
        start = -(-address(zone) // 64) * 64
        self.call(n, m, k, address(a), *found[0], address(b), *found[1], address(c),
                  c.strides[0], *plan.blocks, plan.mode, start)  # fmt: skip
        whole = np.ones(around.shape, bool)
        whole[2:-2, 20:-20] = False
        assert (around[whole] == 7.25).all(), "written outside of the result"
        ahead, used = start - address(zone), start - address(zone) + plan.scratch
        assert (zone[:ahead] == 0xFF).all()
        assert (zone[used:] == 0xFF).all(), "written outside of the scratch"
        return c


def operands(n: int, k: int, m: int, dtype: Any, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng([seed, n, k, m])
    return rng.normal(size=(n, k)).astype(dtype), rng.normal(size=(k, m)).astype(dtype)


def close(c: Array, a: Array, b: Array) -> None:
    """Whether each value is as near as rounding k products and sums allows."""
    wide = np.longdouble if a.dtype == np.float64 else np.float64
    exact = a.astype(wide) @ b.astype(wide)
    bound = np.abs(a).astype(wide) @ np.abs(b).astype(wide)
    limit = (a.shape[1] + 1) * np.finfo(a.dtype).eps / 2 * bound
    assert (np.abs(c - exact) <= limit).all()


@pytest.mark.parametrize(("shape", "target"), TARGETS)
def test_sizes_round_every_edge(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), f"f{shape.size}"
    rows, columns, width = shape.rows, shape.columns, shape.width
    heights = {1, 2, 3, rows - 1, rows, rows + 1, rows + 2, 2 * rows + 1, 3 * rows + 5}
    widths = {1, width - 1, width, width + 1, columns - 1, columns, columns + 1, 3 * columns - 3}
    for n in sorted(heights):
        for m in sorted(widths):
            k = (n * 7 + m * 3) % 37 + 1
            a, b = operands(n, k, m, dtype)
            for packs in ((False, False), (True, False), (False, True), (True, True)):
                close(product(a, b, Blocks(WHOLE, WHOLE, WHOLE), packs), a, b)


@pytest.mark.parametrize(("shape", "target"), TARGETS)
def test_blocks_and_layouts(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), f"f{shape.size}"
    width = shape.width
    blocks = Blocks(width, shape.rows * 2, shape.columns)
    for n, k, m in ((4 * shape.rows + 3, 2 * width + 1, 2 * shape.columns + 5), (3, 1, 2),
                    (shape.rows * 2, width, shape.columns), (1, 3 * width - 1, 1)):  # fmt: skip
        a, b = operands(n, k, m, dtype)
        for left in LAYOUTS.values():
            for right in LAYOUTS.values():
                for packs in ((False, False), (True, False), (False, True), (True, True)):
                    x, y = left(a), right(b)
                    close(product(x, y, blocks, packs), a, b)


@pytest.mark.parametrize(("shape", "target"), TARGETS)
def test_a_value_depends_on_its_row_and_column_alone(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), f"f{shape.size}"
    n, k, m = 3 * shape.rows + 1, 5 * shape.width + 3, 2 * shape.columns + 7
    a, b = operands(n, k, m, dtype)
    depth = 2 * shape.width
    whole = product(a, b, Blocks(depth, WHOLE, WHOLE))
    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            for packs in ((False, False), (True, True)):
                small = Blocks(depth, shape.rows, shape.columns)
                np.testing.assert_array_equal(product(left(a), right(b), small, packs), whole)
    part = product(a[5:9], b[:, 11:19], Blocks(depth, WHOLE, WHOLE))
    np.testing.assert_array_equal(part, whole[5:9, 11:19])


@pytest.mark.parametrize(("shape", "target"), TARGETS)
def test_values_that_are_no_numbers(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), np.dtype(f"f{shape.size}")
    n, k, m = shape.rows + 2, 19, shape.columns + 3
    a, b = (np.ones(x, dtype) for x in ((n, k), (k, m)))
    a[3, 4], b[7, 5], b[4, 8], a[1, 7] = np.nan, np.inf, 0, 0
    with np.errstate(invalid="ignore"):
        expected = a @ b
    for left in LAYOUTS.values():
        for right in LAYOUTS.values():
            c = product(left(a), right(b), Blocks(shape.width, WHOLE, WHOLE))
            np.testing.assert_array_equal(c, expected)
    assert np.isnan(expected[1, 5])  # 0 * inf
    assert np.isnan(expected[3]).all()
    tiny = np.finfo(dtype).smallest_subnormal
    c = product(np.full((n, 2), tiny), np.ones((2, m), dtype), Blocks(16, WHOLE, WHOLE))
    np.testing.assert_array_equal(c, np.full((n, m), 2 * tiny))


@pytest.mark.parametrize(("shape", "target"), TARGETS)
def test_a_sum_of_nothing_is_zero(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), f"f{shape.size}"
    for n, m in ((5, 3), (shape.rows * 2, shape.columns * 2), (0, 4), (4, 0)):
        c = product(np.ones((n, 0), dtype), np.ones((0, m), dtype), Blocks(16, WHOLE, WHOLE))
        np.testing.assert_array_equal(c, np.zeros((n, m)))


@pytest.mark.parametrize(("shape", "target"), LARGE)
def test_large_ones(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), f"f{shape.size}"
    rows, columns, width = shape.rows, shape.columns, shape.width
    sizes = [(n, 2 * width + 5, m) for n in (1, rows, 2 * rows + 1)
             for m in (width, width + 1, columns - 1, columns + 1)]  # fmt: skip
    many = 8 * width + 2 * rows + 1  # more lines than are copied at once
    sizes += [(many, 1, 2 * columns), (4 * rows, 6 * width, columns)]
    for n, k, m in sizes:
        a, b = operands(n, k, m, dtype)
        whole = product(a, b, Blocks(width, 16 * rows * many, WHOLE // width * width))
        close(whole, a, b)
        for left in LAYOUTS.values():
            for right in LAYOUTS.values():
                for blocks in (Blocks(width, 2 * rows, 2 * width), Blocks(width, many, width)):
                    c = product(left(a), right(b), blocks)
                    np.testing.assert_array_equal(c, whole)


@pytest.mark.parametrize(("shape", "target"), LARGE)
def test_large_ones_of_what_is_no_number(shape: Shape, target: build.Processor) -> None:
    product, dtype = Product(shape, target), np.dtype(f"f{shape.size}")
    n, k, m = shape.rows + 2, 19, shape.columns + 3
    a, b = (np.ones(x, dtype) for x in ((n, k), (k, m)))
    a[3, 4], b[7, 5] = np.nan, np.inf
    for left in LAYOUTS.values():
        c = product(left(a), b, Blocks(shape.width, WHOLE, WHOLE))
        np.testing.assert_array_equal(c, a @ b)
    for n, m in ((5, 3), (0, 4), (4, 0)):
        c = product(np.ones((n, 0), dtype), np.ones((0, m), dtype), Blocks(16, WHOLE, 16))
        np.testing.assert_array_equal(c, np.zeros((n, m)))


@pytest.mark.parametrize("large", [False, True])
def test_the_scratch_is_never_more_than_said(large: bool) -> None:
    rng = np.random.default_rng(3)
    for dtype in DTYPES:
        shape = build.shape(dtype, HOST.features, large)
        assert shape is not None
        for _ in range(300):
            n, k, m = (int(x) for x in 2 ** rng.uniform(0, 16, 3))
            a = [(k * shape.size, shape.size), (shape.size, n * shape.size)][n % 2]
            b = [(m * shape.size, shape.size), (shape.size, k * shape.size)][m % 2]
            assert choice.plan(shape, n, k, m, a, b).scratch <= gemm.most_scratch()
            joint = choice.joint(shape, n, k, m, 2)
            if joint is not None:
                assert joint.scratch <= gemm.most_scratch()
                assert joint.packed <= choice.most_packed()


# Products of arrays


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[team.Team]:
    found: team.Team = team_of(3)
    monkeypatch.setattr(team, "current", lambda: found)
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays(dtype: Any) -> None:
    for n, k, m in ((32, 64, 32), (32, 32, 10), (33, 1, 5), (70, 900, 41)):
        a, b = operands(n, k, m, dtype)
        for left in LAYOUTS.values():
            for right in LAYOUTS.values():
                c = arrays.matmul(left(a), right(b))
                assert c is not None
                assert c.dtype == dtype
                close(c, a, b)
        out = np.full((n, m), np.nan, dtype)
        assert arrays.matmul(a, b, out) is out
        np.testing.assert_array_equal(out, c)
        beside = np.full((n, 2 * m), np.nan, dtype)[:, ::2]
        assert arrays.matmul(a, b, beside) is beside
        np.testing.assert_array_equal(beside, c)


def test_a_result_over_its_operand() -> None:
    a, _ = operands(40, 40, 40, "f4")
    expected = arrays.matmul(a, a)
    assert arrays.matmul(a, a, a) is a
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((100, 32, 2), (100, 2, 16)),
        ((7, 32, 16), (7, 16, 5)),
        ((7, 9, 16), (16, 5)),
        ((9, 16), (6, 16, 5)),
        ((1, 9, 300), (6, 300, 5)),
        ((2, 3, 9, 4), (3, 4, 8)),
        ((2, 1, 9, 4), (1, 3, 4, 8)),
    ],
)
def test_stacks(first: tuple[int, ...], second: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(8)
    a, b = (rng.normal(size=shape).astype(dtype) for shape in (first, second))
    for x, y in ((a, b), (a.swapaxes(-1, -2).copy().swapaxes(-1, -2), b)):
        c = arrays.matmul(x, y)
        assert c is not None
        np.testing.assert_allclose(c, np.matmul(x, y), rtol=1e-3, atol=1e-4)
        # Each is as it would be alone.
        left, right = (np.broadcast_to(z, (*c.shape[:-2], *z.shape[-2:])) for z in (x, y))
        for index in np.ndindex(c.shape[:-2]):
            np.testing.assert_array_equal(c[index], arrays.matmul(left[index], right[index]))


@pytest.mark.parametrize(
    "sizes", [(300, 40, 61), (61, 300, 300), (5, 600, 900), (900, 7, 5), (301, 180, 320)]
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_give_what_one_gives(
    sizes: tuple[int, int, int], dtype: Any, crew: team.Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = operands(*sizes, dtype)
    for left in LAYOUTS.values():
        x, y = left(a), LAYOUTS["columns"](b)
        arrays._ways.clear()
        alone = arrays.matmul(x, y)
        assert alone is not None
        arrays._ways.clear()
        monkeypatch.setattr(arrays.blas, "SHARED", 1)
        np.testing.assert_array_equal(arrays.matmul(x, y), alone)
        monkeypatch.undo()
        monkeypatch.setattr(team, "current", lambda: crew)
    arrays._ways.clear()


def test_python_threads_at_once() -> None:
    a, b = operands(90, 300, 600, "f4")
    x = np.ascontiguousarray(b.T).T
    expected = arrays.matmul(a, x)
    results: list[Any] = []

    def work() -> None:
        for _ in range(20):
            results.append(arrays.matmul(a, x))

    members = [threading.Thread(target=work) for _ in range(3)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert len(results) == 60
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_what_is_left_to_numpy() -> None:
    a, b = operands(20, 20, 20, "f4")
    assert arrays.matmul(a[:, ::2], b[::2]) is None
    assert arrays.matmul(a, b.astype("f8")) is None
    assert arrays.matmul(a.astype("i4"), b.astype("i4")) is None
    assert arrays.matmul(a.astype(">f4"), b.astype(">f4")) is None
    assert arrays.matmul(a[0], b) is None
    assert arrays.matmul(a[:0], b) is None
    assert arrays.matmul(a[:, :0], b[:0]) is None
    assert arrays.matmul(a[:1], b) is None
    assert arrays.matmul(np.ones((2, 5, 4)), np.ones((3, 4, 6))) is None
    for x, y in ((a[:, ::2], b[::2]), (a[:, :0], b[:0]), (a[:0], b), (a[0], b)):
        np.testing.assert_allclose(numba_cpu.BACKEND.matmul(x, y), x @ y, rtol=1e-4)
    with pytest.raises(ValueError, match="mismatch"):
        numba_cpu.BACKEND.matmul(a, b[:7])


def test_the_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path))
    shape = Shape(4, 2, 64)
    target = build.Processor("haswell", "")
    written: list[int] = []
    text = driver.text

    def spy(shape: Shape) -> str:
        written.append(1)
        return text(shape)

    monkeypatch.setattr(driver, "text", spy)
    build.Code(shape, target)
    (path,) = tmp_path.iterdir()
    assert len(written) == 1
    build.Code(shape, target)
    assert len(written) == 1
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    build.Code(shape, target)
    assert len(written) == 2
    assert path.read_bytes() != bytes(data)
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(path))
    build.Code(shape, target)
    assert len(written) == 3
