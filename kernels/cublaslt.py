"""Matrix products by cublasLt, through the low-level bindings of nvmath-python.

CuPy refuses its own cuBLAS calls while a stream is captured, and knows no epilogues. cublasLt
stores matrices column by column: a row-major (n, m) array is an (m, n) matrix to it, so that
`a @ b` is asked for as b^T a^T, with the operands exchanged and nothing copied.

What describes a product is made once for its shapes, strides, dtypes and epilogue, and kept: a
product made once before only gets pointers, and may be captured.
"""

from __future__ import annotations

import importlib
import logging
import weakref
from threading import Lock
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from gradnet.backends import Array
from gradnet.dtypes import DType, is_half
from gradnet.errors import DeviceError

from .cublaslt_layout import Problem, problem_of

# What cuBLAS asks for on Hopper, more than on other devices.
WORKSPACE = 32 << 20
# The heuristics are told a little less: products with epilogues were seen to take 16 bytes more
# than they tell (nvmath-python adds as many).
_RESERVED = 256
# No kernel asks for addresses that are multiples of more.
_ALIGNED = 16
_MOST_PLANS = 4096

# cudaDataType_t and cublasComputeType_t, by the names of dtypes.
_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_TF32 = 68, 70, 77
# cublasStatus_t: there is no such product, or no algorithm for it.
_NO_PRODUCT = (7, 15)  # CUBLAS_STATUS_INVALID_VALUE, CUBLAS_STATUS_NOT_SUPPORTED

# cublasLtEpilogue_t. Those of the forward direction are sums of these bits.
_DEFAULT, _RELU, _BIAS, _GELU, _AUX = 1, 2, 4, 32, 128
_FORWARD = {"": 0, "relu": _RELU, "gelu": _GELU}
_BACKWARD = {"drelu": 8 | _AUX, "dgelu": 64 | _AUX}
_BIAS_GRADIENT = 16
_SUMS = {"sum_b": 256, "sum_a": 512}

_log = logging.getLogger("gradnet")


def bindings() -> ModuleType:
    """The module `nvmath.bindings.cublasLt`. Raises ImportError where it is not installed."""
    return importlib.import_module("nvmath.bindings.cublasLt")


def multiplies(dtype: DType) -> bool:
    """Whether cublasLt multiplies matrices of a dtype here."""
    return dtype.name in _TYPES


def epilogue(kind: str, vector: bool, aux: bool) -> int:
    """The number of an epilogue.

    kind     "" (nothing but a bias), "relu", "gelu" (by tanh), their gradients "drelu", "dgelu";
             "sum_a" with the sum of each row of `a`, "sum_b" with that of each column of `b`
    vector   whether there is a bias; or a bias gradient to write
    aux      whether a mask of ReLU, or the input of GELU, is written
    """
    if kind in _SUMS:
        return _SUMS[kind]
    if kind in _BACKWARD:
        return _BACKWARD[kind] | (_BIAS_GRADIENT if vector else 0)
    return _FORWARD[kind] | (_BIAS if vector else 0) | (_AUX if aux else 0) or _DEFAULT


def mask_row(columns: int) -> int:
    """Bytes of a row of the mask that ReLU leaves: a bit for each column, 128 bits at a time."""
    return -(-columns // 128) * 16


class _Request(NamedTuple):
    """What decides how a product is computed: everything but the addresses."""

    a: tuple[tuple[int, ...], tuple[int, ...]]
    b: tuple[tuple[int, ...], tuple[int, ...]]
    out: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[DType, DType]
    compute: int
    epilogue: int
    aux_row: int
    # The largest powers of two up to 16 that the addresses are multiples of.
    aligned: tuple[int, int, int, int, int]


class CublasLt:
    """Products on one device: a handle, plans, and the memory that they work in."""

    def __init__(self, module: Any, device: Any, workspace: int = WORKSPACE) -> None:
        """Raises ImportError or RuntimeError where the library cannot be loaded."""
        self._lt = module
        self._device = device
        self._size = workspace
        self._handle = module.create()
        self._plans: dict[_Request, _Plan | None] = {}
        self._lock = Lock()
        # The memory that products of a stream work in, by the address of the stream.
        self._workspaces: dict[int, Array] = {}

    def product(
        self,
        a: Array,
        b: Array,
        out: Array,
        *,
        tf32: bool = False,
        kind: str = "",
        vector: Array | None = None,
        aux: Array | None = None,
    ) -> bool:
        """`out = a @ b` with an epilogue; False where cublasLt has no such product.

        The operands are of one dtype, `out` of the same or, for 16-bit floats, float32. `vector`
        is the bias, or where its gradient goes; `aux` ReLU's mask, or GELU's input. Raises
        DeviceError where the library fails.
        """
        pointers = [a.data.ptr, b.data.ptr, out.data.ptr, 0, 0]
        if vector is not None:
            pointers[3] = vector.data.ptr
        if aux is not None:
            pointers[4] = aux.data.ptr
        request = _Request(
            (a.shape, a.strides),
            (b.shape, b.strides),
            (out.shape, out.strides),
            (a.dtype, out.dtype),
            _compute(a.dtype, tf32),
            epilogue(kind, vector is not None, aux is not None),
            0 if aux is None else aux.strides[0],
            (*(min(_ALIGNED, p & -p) for p in pointers),),
        )
        try:
            with self._lock:
                plan = self._plan(request, pointers)
                if plan is None:
                    return False
                stream = self._device.cupy.cuda.get_current_stream()
                memory = self._workspace(stream)
                plan.run(self._handle, pointers, memory.data.ptr, memory.nbytes, stream.ptr)
        except self._lt.cuBLASLtError as error:
            shapes = f"{a.shape} and {b.shape}, {a.dtype.name}"
            raise DeviceError(f"cublasLt cannot multiply arrays of {shapes}: {error}") from error
        return True

    @property
    def planned(self) -> int:
        """The number of products that are described."""
        return sum(plan is not None for plan in self._plans.values())

    def close(self) -> None:
        """Give everything back; no product can be made any more."""
        for plan in self._plans.values():
            if plan is not None:
                plan.close()
        self._plans.clear()
        self._workspaces.clear()
        self._lt.destroy(self._handle)

    def _workspace(self, stream: Any) -> Array:
        """Memory that no other stream's products work in.

        A graph has its own that way: it is captured on a stream of its own, after a first run
        there, which brings the memory.
        """
        found = self._workspaces.get(stream.ptr)
        if found is None:
            found = self._device.empty((self._size,), np.dtype(np.uint8))
            self._workspaces[stream.ptr] = found
            # Gone with the stream, to the pool, which gives it to later work of that stream only.
            weakref.finalize(stream, self._workspaces.pop, stream.ptr, None).atexit = False
        return found

    def _plan(self, request: _Request, pointers: list[int]) -> _Plan | None:
        try:
            return self._plans[request]
        except KeyError:
            pass
        plan = None
        problem = _problem(request)
        if problem is not None:
            try:
                plan = _Plan(self._lt, self._handle, request, problem, pointers, self._size)
            except self._lt.cuBLASLtError as error:
                if error.status not in _NO_PRODUCT:
                    raise
        if len(self._plans) >= _MOST_PLANS:
            oldest = self._plans.pop(next(iter(self._plans)))
            if oldest is not None:
                oldest.close()
        self._plans[request] = plan
        return plan


def _compute(dtype: DType, tf32: bool) -> int:
    if dtype.itemsize == 8:
        return _COMPUTE_64F
    return _COMPUTE_TF32 if tf32 and dtype.itemsize == 4 else _COMPUTE_32F


def _problem(request: _Request) -> Problem | None:
    """The product as cublasLt is to see it, or None where it has none of that layout or dtype."""
    operand, result = request.dtypes
    if not (multiplies(operand) and multiplies(result)):
        return None
    if operand != result and not (is_half(operand) and result.name == "float32"):
        return None
    sizes = (operand.itemsize, operand.itemsize, result.itemsize)
    arrays = []
    for (shape, strides), size in zip((request.a, request.b, request.out), sizes, strict=True):
        if any(stride % size for stride in strides):
            return None
        arrays.append((shape, tuple(stride // size for stride in strides)))
    plain = request.epilogue == _DEFAULT
    problem = problem_of(*arrays, exchange=plain)
    if problem is None or (not plain and problem.batch > 1):
        return None
    if problem.k == 1 and request.epilogue & ~(_RELU | _BIAS | _GELU | _AUX | _DEFAULT):
        return None  # the library has no gradients of a product of vectors
    return problem


class _Plan:
    """A product described to cublasLt, with the algorithm that its heuristics chose."""

    def __init__(
        self,
        lt: Any,
        handle: int,
        request: _Request,
        problem: Problem,
        pointers: list[int],
        workspace: int,
    ) -> None:
        """Raises the module's error where there is no algorithm."""
        self._lt = lt
        self._request = request
        self._layouts: list[int] = []
        # Which of our operands comes first to cublasLt, whose matrices are stored by columns.
        self._order = (0, 1) if problem.exchanged else (1, 0)
        double = request.compute == _COMPUTE_64F
        self._numbers = np.array([1, 0], np.float64 if double else np.float32)
        self._alpha = self._numbers.ctypes.data
        self._beta = self._alpha + self._numbers.itemsize
        # The pointers that the description holds: bias and aux.
        self._held = np.zeros(2, np.int64)
        self._bias, self._aux = (self._held[i : i + 1].ctypes.data for i in range(2))
        scale = _TYPES["float64" if double else "float32"]
        self._product = lt.matmul_desc_create(request.compute, scale)
        try:
            self._describe(problem, pointers)
            self._algorithm = self._chosen(handle, workspace)
        except BaseException:
            self.close()
            raise
        self._address = self._algorithm.ctypes.data

    def _describe(self, problem: Problem, pointers: list[int]) -> None:
        lt, request = self._lt, self._request
        names = lt.MatmulDescAttribute
        self._set(names.TRANSA, int(problem.b.turned))
        self._set(names.TRANSB, int(problem.a.turned))
        self._set(names.EPILOGUE, request.epilogue)
        if pointers[4]:
            # ReLU's mask is counted in bits.
            unit = request.dtypes[1].itemsize
            row = request.aux_row
            relu = request.epilogue & (_RELU | 8)
            self._set(names.EPILOGUE_AUX_LD, row * 8 if relu else row // unit)
        self._point(pointers)
        operand, result = (_TYPES[dtype.name] for dtype in request.dtypes)
        n, m, k = problem.n, problem.m, problem.k
        for matrix, type_, rows, columns in (
            (problem.b, operand, m, k),
            (problem.a, operand, k, n),
            (problem.out, result, m, n),
        ):
            if matrix.turned:
                rows, columns = columns, rows
            layout = lt.matrix_layout_create(type_, rows, columns, matrix.row)
            self._layouts.append(layout)
            if problem.batch > 1:
                names_ = lt.MatrixLayoutAttribute
                batch = ((names_.BATCH_COUNT, problem.batch),)
                for name, value in (*batch, (names_.STRIDED_BATCH_OFFSET, matrix.step)):
                    given = np.array([value], lt.get_matrix_layout_attribute_dtype(name))
                    address = given.ctypes.data
                    lt.matrix_layout_set_attribute(layout, name, address, given.nbytes)

    def _chosen(self, handle: int, workspace: int) -> np.ndarray[Any, Any]:
        """The first choice of the heuristics: its algorithm comes first in what they give."""
        lt, aligned = self._lt, self._request.aligned
        names = lt.MatmulPreferenceAttribute
        wishes = [
            (names.MAX_WORKSPACE_BYTES, max(0, workspace - _RESERVED)),
            (names.MIN_ALIGNMENT_A_BYTES, aligned[self._order[0]]),
            (names.MIN_ALIGNMENT_B_BYTES, aligned[self._order[1]]),
            (names.MIN_ALIGNMENT_C_BYTES, aligned[2]),
            (names.MIN_ALIGNMENT_D_BYTES, aligned[2]),
        ]
        if is_half(self._request.dtypes[1]):
            # Parts of a sum are added up in float32, not in the 16 bits of the result.
            wishes.append((names.REDUCTION_SCHEME_MASK, int(lt.ReductionScheme.COMPUTE_TYPE)))
        found = np.zeros(1, lt.matmul_heuristic_result_dtype)
        count = np.zeros(1, np.int32)
        preference = lt.matmul_preference_create()
        try:
            for name, value in wishes:
                given = np.array([value], lt.get_matmul_preference_attribute_dtype(name))
                address = given.ctypes.data
                lt.matmul_preference_set_attribute(preference, name, address, given.nbytes)
            a, b, d = self._layouts
            places = found.ctypes.data, count.ctypes.data
            lt.matmul_algo_get_heuristic(handle, self._product, a, b, d, d, preference, 1, *places)
        finally:
            lt.matmul_preference_destroy(preference)
        state = int(found["state"][0]) if count[0] else _NO_PRODUCT[1]
        if state:
            raise lt.cuBLASLtError(state)
        return found

    def _set(self, name: Any, value: int) -> None:
        given = np.array([value], self._lt.get_matmul_desc_attribute_dtype(name))
        self._lt.matmul_desc_set_attribute(self._product, name, given.ctypes.data, given.nbytes)

    def _point(self, pointers: list[int]) -> None:
        """Tell the addresses of bias and aux, where they are not the last ones."""
        names = self._lt.MatmulDescAttribute
        for place, address, name in (
            (0, self._bias, names.BIAS_POINTER),
            (1, self._aux, names.EPILOGUE_AUX_POINTER),
        ):
            pointer = pointers[3 + place]
            if pointer != self._held[place]:
                self._held[place] = pointer
                self._lt.matmul_desc_set_attribute(self._product, name, address, 8)

    def run(self, handle: int, pointers: list[int], workspace: int, size: int, stream: int) -> None:
        """Give the product to a stream."""
        self._point(pointers)
        first, second = self._order
        out = pointers[2]
        a, b, result = self._layouts
        self._lt.matmul(
            *(handle, self._product, self._alpha),
            *(pointers[first], a, pointers[second], b, self._beta),
            *(out, result, out, result),
            *(self._address, workspace, size, stream),
        )

    def close(self) -> None:
        """Give the descriptions back."""
        for layout in self._layouts:
            self._lt.matrix_layout_destroy(layout)
        self._layouts = []
        self._lt.matmul_desc_destroy(self._product)


def found(device: Any) -> CublasLt | None:
    """cublasLt for a device, or None, with a line in the log, where it cannot be used there."""
    try:
        with device.cupy.cuda.Device(device.index):
            return CublasLt(bindings(), device)
    except (ImportError, RuntimeError) as error:
        _log.info("cublasLt cannot be used (%s): products are CuPy's, and in no CUDA graph", error)
        return None
