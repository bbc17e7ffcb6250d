"""Products by cublasLt against float64 NumPy, over a cublasLt made of NumPy; plans are kept."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import numpy as np
import pytest
from fakes import cublaslt_over_numpy
from fakes.compare import BF16, F16, F32, F64, normal
from fakes.cublaslt_over_numpy import Bindings, attach, close, wide
from fakes.cupy_over_numpy import CaptureError, fake_backend
from gradnet.kernels import cublaslt
from gradnet.kernels.cublaslt import CublasLt
from gradnet.kernels.cublaslt_layout import Matrix, Problem, problem_of, stored
from gradnet.kernels.cuda_backend import CudaBackend

from gradnet.errors import DeviceError

C64 = np.dtype(np.complex64)


@pytest.fixture
def lt(cuda: CudaBackend) -> Bindings:
    """The library of the backend under test."""
    return attach(cuda)


SIZES = ((1, 1, 1), (3, 4, 5), (7, 1, 2), (1, 9, 1), (33, 17, 65), (8, 16, 24))


@pytest.mark.parametrize("dtype", [F32, F64, F16, BF16], ids=str)
@pytest.mark.parametrize("turned", list(itertools.product((0, 1), (0, 1), (0, 1))), ids=str)
def test_products(cuda: CudaBackend, lt: Bindings, dtype: Any, turned: Any) -> None:
    for n, k, m in SIZES:
        a, b = normal(n, k, dtype=dtype), normal(k, m, dtype=dtype)
        x, y = (
            cuda.permute(cuda.from_host(v.T.copy(), copy=True), (1, 0))
            if turn
            else cuda.from_host(v, copy=True)
            for v, turn in zip((a, b), turned, strict=False)
        )
        out = None
        if turned[2]:
            out = cuda.permute(cuda.empty((m, n), dtype), (1, 0))
        found = cuda.matmul(x, y, out=out)
        assert out is None or found is out
        assert found.dtype == dtype
        close(cuda.to_host(found), wide(a) @ wide(b))
    assert len(lt.epilogues) == len(SIZES)
    assert "cupy.matmul" not in cuda._device.cupy.done


def test_sums_of_16_bits_are_told_in_32(cuda: CudaBackend, lt: Bindings) -> None:
    for dtype in (F16, BF16):
        a, b = normal(5, 300, dtype=dtype), normal(300, 4, dtype=dtype)
        out = cuda.empty((5, 4), F32)
        cuda.matmul(*(cuda.from_host(v, copy=True) for v in (a, b)), out=out)
        close(cuda.to_host(out), wide(a) @ wide(b))
    assert lt.epilogues == [1, 1]


def test_empty_products(cuda: CudaBackend, lt: Bindings) -> None:
    for left, right in (((0, 4), (4, 2)), ((3, 0), (0, 2)), ((2, 0, 4), (4, 2)), ((3, 4), (4, 0))):
        a, b = (cuda.from_host(normal(*shape), copy=True) for shape in (left, right))
        found = cuda.to_host(cuda.matmul(a, b))
        np.testing.assert_array_equal(found, np.zeros(left) @ np.zeros(right))
    part = cuda.permute(cuda.empty((2, 3), BF16), (1, 0))
    nothing = [cuda.empty(shape, BF16) for shape in ((3, 0), (0, 2))]
    assert not cuda.to_host(cuda.matmul(*nothing, out=part)).any()
    assert not lt.epilogues


def test_parts_of_larger_arrays(cuda: CudaBackend, lt: Bindings) -> None:
    base = cuda.from_host(normal(12, 20), copy=True)
    host = cuda.to_host(base)
    whole = cuda.full((9, 16), 7.0, F32)
    a, b = cuda.view(base, (slice(2, 7), slice(3, 9))), cuda.view(base, (slice(6), slice(9, 20)))
    out = cuda.view(whole, (slice(1, 6), slice(2, 13)))
    cuda.matmul(a, b, out=out)
    expected = np.full((9, 16), 7.0)
    expected[1:6, 2:13] = wide(host)[2:7, 3:9] @ wide(host)[:6, 9:]
    close(cuda.to_host(whole), expected)
    assert len(lt.epilogues) == 1
    assert "launch map" not in cuda._device.cupy.done
    # Strides of 2, reversed rows, one row for all: these are copied first.
    for index in (np.s_[:, ::2], np.s_[::-1], np.s_[::2, ::3]):
        x, y = cuda.view(base, index), cuda.permute(cuda.view(base, index), (1, 0))
        close(cuda.to_host(cuda.matmul(x, y)), wide(host)[index] @ wide(host)[index].T)
    rows = cuda.broadcast(cuda.view(base, (slice(0, 1),)), (5, 20))
    found = cuda.matmul(rows, cuda.permute(base, (1, 0)))
    close(cuda.to_host(found), wide(host[:1]).repeat(5, 0) @ wide(host).T)
    out = cuda.view(cuda.full((12, 24), 0.0, F32), (slice(None), slice(None, None, 2)))
    cuda.matmul(base, cuda.permute(base, (1, 0)), out=out)
    close(cuda.to_host(out), wide(host) @ wide(host).T)
    assert "cupy.matmul" not in cuda._device.cupy.done


BATCHES = (
    ((4,), (4,)),
    ((4,), ()),
    ((), (4,)),
    ((1,), (3,)),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((1, 1), (2, 3)),
)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("batches", BATCHES, ids=str)
def test_batches(cuda: CudaBackend, lt: Bindings, dtype: Any, batches: Any) -> None:
    left, right = batches
    for turned in (False, True):
        a, b = normal(*left, 3, 5, dtype=dtype), normal(*right, 5, 2, dtype=dtype)
        x, y = cuda.from_host(a, copy=True), cuda.from_host(b, copy=True)
        if turned:
            flipped = cuda.from_host(a.swapaxes(-1, -2).copy(), copy=True)
            x = cuda.permute(flipped, (*range(len(left)), len(left) + 1, len(left)))
        close(cuda.to_host(cuda.matmul(x, y)), wide(a) @ wide(b))
    assert "cupy.matmul" not in cuda._device.cupy.done
    assert len(lt.epilogues) == 2


def test_a_batch_with_one_matrix_is_one_product() -> None:
    a, b, out = ((4, 3, 5), (15, 5, 1)), ((5, 2), (2, 1)), ((4, 3, 2), (6, 2, 1))
    assert problem_of(a, b, out) == Problem(
        12, 2, 5, 1, Matrix(5, False, 0), Matrix(2, False, 0), Matrix(2, False, 0)
    )
    shared = ((4, 3, 5), (0, 5, 1))
    each = ((4, 5, 2), (10, 2, 1))
    assert problem_of(shared, each, out) == Problem(
        3, 2, 5, 4, Matrix(5, False, 0), Matrix(2, False, 10), Matrix(2, False, 6)
    )
    crossed = ((2, 1, 3, 5), (15, 15, 5, 1)), ((3, 5, 2), (10, 2, 1))
    assert problem_of(*crossed, ((2, 3, 3, 2), (18, 6, 2, 1))) is None


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ((3, 4, 4, 1), (4, False)),
        ((3, 4, 9, 1), (9, False)),
        ((3, 4, 1, 3), (3, True)),
        ((3, 4, 1, 8), (8, True)),
        ((1, 4, 0, 1), (4, False)),
        ((1, 4, 4, 2), (2, True)),
        ((3, 1, 5, 7), (5, False)),
        ((1, 1, 6, 6), (1, False)),
        ((3, 4, 8, 2), None),
        ((3, 4, 0, 1), None),
        ((3, 4, -4, 1), None),
        ((3, 4, 2, 1), None),
    ],
)
def test_layouts(layout: Any, expected: Any) -> None:
    assert stored(*layout) == expected


def test_tf32_is_asked_for_alone(cuda: CudaBackend, lt: Bindings) -> None:
    a, b = normal(20, 300), normal(300, 10)
    x, y = (cuda.from_host(v, copy=True) for v in (a, b))
    exact, coarse = cuda.to_host(cuda.matmul(x, y)), cuda.to_host(cuda.matmul(x, y, tf32=True))
    close(exact, wide(a) @ wide(b))
    error = np.abs(coarse - wide(a) @ wide(b)).max()
    assert 1e-4 < error < 3e-2
    assert cuda.cublaslt is not None
    assert cuda.cublaslt.planned == 2
    half = [cuda.from_host(v.astype(F16), copy=True) for v in (a, b)]
    cuda.matmul(*half)
    cuda.matmul(*half, tf32=True)
    assert cuda.cublaslt.planned == 3


def operands(dtype: Any, n: int = 9, k: int = 6, m: int = 16) -> tuple[Any, Any, Any]:
    return normal(n, k, dtype=dtype), normal(k, m, dtype=dtype), normal(m, dtype=dtype)


# Plans


def test_a_product_is_described_once(cuda: CudaBackend, lt: Bindings) -> None:
    def run() -> None:
        for _ in range(2):
            x, w, bias = (cuda.from_host(t, copy=True) for t in operands(F32))
            cuda.matmul(x, w)
            cuda.product_epilogue(x, w, "", bias=bias)
            bits = cuda.empty((9, 16), np.dtype(np.uint8))
            cuda.product_epilogue(x, w, "relu", bias=bias, aux=bits)

    run()
    assert cuda.cublaslt is not None
    planned = cuda.cublaslt.planned
    made, memory = lt.made, cuda._device.cupy.memory.total_bytes()
    for _ in range(3):
        run()
    assert lt.made == made
    assert cuda.cublaslt.planned == planned
    assert cuda._device.cupy.memory.total_bytes() == memory


def test_addresses_of_less_alignment_are_planned_apart(cuda: CudaBackend, lt: Bindings) -> None:
    flat = cuda.from_host(normal(200), copy=True)
    host = cuda.to_host(flat)
    b = cuda.from_host(normal(4, 3), copy=True)
    for start in (0, 64, 1, 2, 4, 33):
        a = cuda.reshape(cuda.view(flat, (slice(start, start + 20),)), (5, 4))
        found = cuda.to_host(cuda.matmul(a, b))
        close(found, wide(host[start : start + 20].reshape(5, 4)) @ wide(cuda.to_host(b)))
    assert cuda.cublaslt is not None
    assert 3 <= cuda.cublaslt.planned <= 5


def test_old_plans_make_room(
    cuda: CudaBackend, lt: Bindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cublaslt, "_MOST_PLANS", 3)
    lt.missing = {("float64", 1)}
    cuda.matmul(*(cuda.from_host(normal(2, 2, dtype=F64), copy=True) for _ in range(2)))
    for n in range(1, 8):
        cuda.matmul(
            cuda.from_host(normal(n, 4), copy=True), cuda.from_host(normal(4, 2), copy=True)
        )
    assert cuda.cublaslt is not None
    assert cuda.cublaslt.planned == 3
    assert len(lt.objects) == 1 + 3 * 4
    cuda.cublaslt.close()
    assert not lt.objects


def test_products_under_capture(cuda: CudaBackend, lt: Bindings) -> None:
    cupy = cuda._device.cupy
    a, b = (cuda.from_host(normal(4, 4), copy=True) for _ in range(2))
    c, out = cuda.from_host(normal(4, 6), copy=True), cuda.empty((4, 4), F32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        cuda.matmul(a, b, out=out)
        before = cupy.memory.used_bytes()
        stream.begin_capture()
        cuda.matmul(a, b, out=out)
        with pytest.raises(CaptureError, match="while a step is captured"):
            cuda.matmul(a, c, out=cuda.view(out, (slice(None),)))
        graph = stream.end_capture()
    assert cupy.memory.used_bytes() == before
    products = cuda.cublaslt
    assert products is not None
    (workspace,) = products._workspaces.values()
    assert (cuda.to_host(workspace) == 0xAB).all()
    cuda.full((4, 4), 2.0, F32, out=a)
    graph.launch()
    close(cuda.to_host(out), np.full((4, 4), 2.0) @ wide(cuda.to_host(b)))


def test_every_stream_has_a_workspace(cuda: CudaBackend, lt: Bindings) -> None:
    a, b = (cuda.from_host(normal(4, 4), copy=True) for _ in range(2))
    products = cuda.cublaslt
    assert products is not None
    cuda.matmul(a, b)
    stream = cuda._device.cupy.cuda.Stream(non_blocking=True)
    with stream:
        for _ in range(2):
            cuda.matmul(a, b)
    assert len(products._workspaces) == 2
    del stream
    gc.collect()
    assert len(products._workspaces) == 1
    assert products.planned == 1


# Where cublasLt is not there


def test_other_dtypes_are_cupys(cuda: CudaBackend, lt: Bindings) -> None:
    for dtype in (C64, np.dtype(np.complex128), np.dtype(np.int64)):
        a, b = (normal(3, 4) * 4).astype(dtype), (normal(4, 5) * 4).astype(dtype)
        found = cuda.to_host(cuda.matmul(*(cuda.from_host(v, copy=True) for v in (a, b))))
        np.testing.assert_allclose(found, a @ b, 1e-5, 1e-5)
    assert not lt.epilogues
    assert cuda._device.cupy.done.count("cupy.matmul") == 3


def test_without_an_algorithm_cupy_multiplies(cuda: CudaBackend, lt: Bindings) -> None:
    lt.missing = {(d.name, 1) for d in (F32, BF16)}
    for dtype in (F32, BF16):
        a, b = normal(2, 3, 4, dtype=dtype), normal(4, 5, dtype=dtype)
        found = cuda.matmul(*(cuda.from_host(v, copy=True) for v in (a, b)))
        close(cuda.to_host(found), wide(a) @ wide(b))
    assert not lt.epilogues


def test_without_nvmath(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = fake_backend()
    assert cuda.cublaslt is None
    x, w, bias = (cuda.from_host(t, copy=True) for t in operands(F32))
    y = cuda.product_epilogue(x, w, "relu", bias=bias)
    assert (cuda.to_host(y) >= 0).all()

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(cublaslt.importlib, "import_module", missing)
    assert cublaslt.found(cuda._device) is None


def test_a_library_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLibrary(Bindings):
        def create(self) -> int:
            raise RuntimeError("libcublasLt.so cannot be opened")

    device = fake_backend()._device
    monkeypatch.setattr(cublaslt, "bindings", lambda: NoLibrary(device.cupy))
    assert cublaslt.found(device) is None
    monkeypatch.setattr(cublaslt, "bindings", lambda: Bindings(device.cupy))
    assert isinstance(cublaslt.found(device), CublasLt)


def test_errors_of_the_library_are_told(cuda: CudaBackend, lt: Bindings) -> None:
    def broken(*_: int) -> None:
        raise cublaslt_over_numpy.cuBLASLtError(14)

    a = cuda.from_host(normal(4, 4), copy=True)
    lt.matmul_algo_get_heuristic = broken  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"cannot multiply arrays of \(4, 4\) and"):
        cuda.matmul(a, a)
    assert len(lt.objects) == 1


def test_the_fake_has_nvmaths_numbers() -> None:
    real = pytest.importorskip("nvmath.bindings.cublasLt", reason="nvmath-python is not installed")
    assert real.matmul_heuristic_result_dtype.itemsize == cublaslt_over_numpy.RESULT.itemsize
    for name in (
        "MatmulDescAttribute",
        "MatrixLayoutAttribute",
        "MatmulPreferenceAttribute",
        "ReductionScheme",
    ):
        for member in getattr(cublaslt_over_numpy, name):
            assert getattr(real, name)[member.name] == member
    for kind, types in (
        ("matmul_desc", cublaslt_over_numpy.DESC_TYPES),
        ("matrix_layout", cublaslt_over_numpy.LAYOUT_TYPES),
        ("matmul_preference", cublaslt_over_numpy.PREFERENCE_TYPES),
    ):
        for number, code in types.items():
            found = getattr(real, f"get_{kind}_attribute_dtype")(number)
            assert np.dtype(found) == np.dtype(code), (kind, number)
    names = {"RELU_AUX_BIAS": 134, "GELU_AUX_BIAS": 164, "DRELU_BGRAD": 152, "DGELU_BGRAD": 208}
    names |= {"BIAS": 4, "BGRADA": 256, "BGRADB": 512, "DEFAULT": 1}
    assert {name: int(real.Epilogue[name]) for name in names} == names
