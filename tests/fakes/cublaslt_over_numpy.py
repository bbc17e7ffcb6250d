"""As much of `nvmath.bindings.cublasLt` as kernels/cublaslt.py uses, over NumPy.

It computes what the descriptions say, on memory found by its address, and refuses what cublasLt is
documented to refuse. What is planned while a step is captured raises.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from gradnet.kernels.cublaslt import CublasLt
from gradnet.kernels.cuda_backend import CudaBackend

from fakes.arrays import in_tf32
from fakes.cupy_over_numpy import CaptureError

INVALID_VALUE, NOT_SUPPORTED = 7, 15
DTYPES = {
    0: np.dtype(np.float32),
    1: np.dtype(np.float64),
    2: np.dtype(np.float16),
    14: np.dtype(ml_dtypes.bfloat16),
}
_BIAS, _RELU, _GELU, _AUX = 4, 2, 32, 128
_DRELU, _DGELU, _BGRAD, _BGRADA, _BGRADB = 136, 192, 16, 256, 512
_GRADIENTS = {136, 152, 192, 208, 256, 512}
_EPILOGUES = {1, 2, 4, 6, 32, 36, 130, 134, 136, 152, 160, 164, 192, 208, 256, 512}


class cuBLASLtError(Exception):
    """A call that the library refuses."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class MatmulDescAttribute(IntEnum):
    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8
    EPILOGUE_AUX_POINTER = 11
    EPILOGUE_AUX_LD = 12


class MatrixLayoutAttribute(IntEnum):
    BATCH_COUNT = 5
    STRIDED_BATCH_OFFSET = 6


class MatmulPreferenceAttribute(IntEnum):
    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class ReductionScheme(IntEnum):
    COMPUTE_TYPE = 2


DESC_TYPES: dict[int, Any] = {3: "i4", 4: "i4", 7: "u4", 8: "i8", 11: "i8", 12: "i8"}
LAYOUT_TYPES: dict[int, Any] = {5: "i4", 6: "i8"}
PREFERENCE_TYPES: dict[int, Any] = {1: "u8", 3: "u4", 5: "u4", 6: "u4", 7: "u4", 8: "u4"}
RESULT = np.dtype(
    [
        ("algo", [("data_", "<u8", (8,))]),
        ("workspace_size", "<u8"),
        ("state", "<i4"),
        ("waves_count", "<f4"),
        ("reserved", "<i4", (4,)),
    ]
)


class Bindings:
    """The module, for one device."""

    cuBLASLtError = cuBLASLtError
    MatmulDescAttribute = MatmulDescAttribute
    MatrixLayoutAttribute = MatrixLayoutAttribute
    MatmulPreferenceAttribute = MatmulPreferenceAttribute
    ReductionScheme = ReductionScheme
    matmul_heuristic_result_dtype = RESULT

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        self.objects: dict[int, SimpleNamespace] = {}
        self.plans: dict[int, Any] = {}
        self.made = 0
        # (dtype of the result, epilogue) that there is no algorithm for.
        self.missing: set[tuple[str, int]] = set()
        # The epilogues of products made, in order.
        self.epilogues: list[int] = []

    # Objects

    def _make(self, kind: str, **values: Any) -> int:
        if self.cupy.recorded is not None:
            raise CaptureError(f"a {kind} is made while a step is captured")
        self.made += 1
        self.objects[self.made] = SimpleNamespace(kind=kind, attributes={}, **values)
        return self.made

    def _get(self, number: int, kind: str) -> SimpleNamespace:
        found = self.objects.get(number)
        if found is None or found.kind != kind:
            raise AssertionError(f"{number} is no {kind}")
        return found

    def _drop(self, number: int, kind: str) -> None:
        self._get(number, kind)
        del self.objects[number]

    def create(self) -> int:
        return self._make("handle")

    def destroy(self, handle: int) -> None:
        self._drop(handle, "handle")

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        if (compute, scale) not in ((68, 0), (77, 0), (70, 1)):
            raise cuBLASLtError(INVALID_VALUE)
        return self._make("product", compute=compute, scale=scale)

    def matmul_desc_destroy(self, number: int) -> None:
        self._drop(number, "product")

    def matrix_layout_create(self, type_: int, rows: int, columns: int, row: int) -> int:
        if type_ not in DTYPES or min(rows, columns) < 1 or row < rows:
            raise cuBLASLtError(INVALID_VALUE)
        return self._make("layout", dtype=DTYPES[type_], rows=rows, columns=columns, row=row)

    def matrix_layout_destroy(self, number: int) -> None:
        self._drop(number, "layout")

    def matmul_preference_create(self) -> int:
        return self._make("preference")

    def matmul_preference_destroy(self, number: int) -> None:
        self._drop(number, "preference")

    # Attributes

    def _set(
        self, number: int, kind: str, types: dict[int, Any], name: int, place: int, size: int
    ) -> None:
        dtype = np.dtype(types[name])
        if size != dtype.itemsize:
            raise cuBLASLtError(INVALID_VALUE)
        value = np.frombuffer(ctypes.string_at(place, size), dtype)[0]
        self._get(number, kind).attributes[int(name)] = int(value)

    def matmul_desc_set_attribute(self, number: int, name: int, place: int, size: int) -> None:
        self._set(number, "product", DESC_TYPES, name, place, size)

    def matrix_layout_set_attribute(self, number: int, name: int, place: int, size: int) -> None:
        self._set(number, "layout", LAYOUT_TYPES, name, place, size)

    def matmul_preference_set_attribute(
        self, number: int, name: int, place: int, size: int
    ) -> None:
        self._set(number, "preference", PREFERENCE_TYPES, name, place, size)

    @staticmethod
    def get_matmul_desc_attribute_dtype(name: int) -> Any:
        return np.dtype(DESC_TYPES[name]).type

    @staticmethod
    def get_matrix_layout_attribute_dtype(name: int) -> Any:
        return np.dtype(LAYOUT_TYPES[name]).type

    @staticmethod
    def get_matmul_preference_attribute_dtype(name: int) -> Any:
        return np.dtype(PREFERENCE_TYPES[name]).type

    # Products

    def _description(self, product: int, layouts: tuple[int, ...]) -> tuple[Any, ...]:
        """Everything about a product but its addresses."""
        names = MatmulDescAttribute
        described = self._get(product, "product")
        values = [described.compute, described.scale]
        values += [
            described.attributes.get(name, 0)
            for name in (names.TRANSA, names.TRANSB, names.EPILOGUE, names.EPILOGUE_AUX_LD)
        ]
        for number in layouts:
            x = self._get(number, "layout")
            values += [x.dtype.name, x.rows, x.columns, x.row]
            values += [x.attributes.get(5, 1), x.attributes.get(6, 0)]
        return tuple(values)

    def _check(self, product: int, a: int, b: int, c: int, d: int) -> tuple[int, int]:
        """m and n. Raises where the library would refuse the description."""
        described = self._get(product, "product")
        first, second, result = (self._get(x, "layout") for x in (a, b, d))
        if self._get(c, "layout") is not result:
            raise AssertionError("the third matrix is not the result")
        given = described.attributes
        m, k = (first.rows, first.columns)[:: -1 if given.get(3) else 1]
        k_, n = (second.rows, second.columns)[:: -1 if given.get(4) else 1]
        batches = {x.attributes.get(5, 1) for x in (first, second, result)}
        if k != k_ or (result.rows, result.columns) != (m, n) or len(batches) != 1:
            raise cuBLASLtError(INVALID_VALUE)
        half = first.dtype.itemsize == 2 and result.dtype == np.float32
        if first.dtype != second.dtype or not (half or first.dtype == result.dtype):
            raise cuBLASLtError(NOT_SUPPORTED)
        if (described.compute == 70) != (first.dtype == np.float64) or (
            described.compute == 77 and first.dtype != np.float32
        ):
            raise cuBLASLtError(NOT_SUPPORTED)
        epilogue = given.get(7, 1)
        if epilogue not in _EPILOGUES:
            raise cuBLASLtError(INVALID_VALUE)
        gradients = epilogue in _GRADIENTS
        if (result.dtype.name, epilogue) in self.missing or (gradients and k == 1):
            raise cuBLASLtError(NOT_SUPPORTED)
        vector = epilogue & (_BIAS | _BGRAD | _BGRADA | _BGRADB) and epilogue != 1
        if vector and not given.get(8):
            raise cuBLASLtError(INVALID_VALUE)
        if epilogue & _AUX:
            unit = 128 if epilogue & (_RELU | 8) else 8
            row = given.get(12, 0)
            if row % unit or row < m or not given.get(11) or given[11] % 16:
                raise cuBLASLtError(INVALID_VALUE)
        return m, n

    def matmul_algo_get_heuristic(self, handle: int, product: int, *rest: int) -> None:
        a, b, c, d, preference, _, results, count = rest
        if self.cupy.recorded is not None:
            raise CaptureError("an algorithm is sought while a step is captured")
        self._get(handle, "handle")
        wishes = self._get(preference, "preference").attributes
        self._check(product, a, b, c, d)
        token = len(self.plans) + 1
        self.plans[token] = (
            self._description(product, (a, b, d)),
            [wishes.get(name, 256) for name in (5, 6, 8)],
            wishes.get(1, 0),
        )
        result = np.zeros(1, RESULT)
        result["algo"]["data_"][0, 0] = token
        result["workspace_size"] = wishes.get(1, 0)
        ctypes.memmove(results, result.ctypes.data, result.nbytes)
        ctypes.memmove(count, np.ones(1, np.int32).ctypes.data, 4)

    def matmul(self, handle: int, product: int, *rest: int) -> None:
        alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout = rest[:10]
        algorithm, workspace, size, stream = rest[10:]
        self._get(handle, "handle")
        m, n = self._check(product, a_layout, b_layout, c_layout, d_layout)
        token = ctypes.c_uint64.from_address(algorithm).value
        description, aligned, needed = self.plans[token]
        if description != self._description(product, (a_layout, b_layout, d_layout)):
            raise AssertionError("an algorithm that was chosen for another product")
        for place, step in zip((a, b, d), aligned, strict=True):
            if place % step:
                raise AssertionError(f"an address is a multiple of {step} by the plan, and is not")
        if size < needed or workspace % 16 or c != d:
            raise cuBLASLtError(INVALID_VALUE)
        if stream != self.cupy.cuda.get_current_stream().ptr:
            raise AssertionError("a product is given to a stream that is not the current one")
        described = self._get(product, "product")
        given = described.attributes
        scale = ctypes.c_double if described.scale == 1 else ctypes.c_float
        assert scale.from_address(alpha).value == 1
        assert scale.from_address(beta).value == 0
        first, second, result = (self._get(x, "layout") for x in (a_layout, b_layout, d_layout))
        hosts = [self._matrix(place, x) for place, x in ((a, first), (b, second), (d, result))]
        if any(np.shares_memory(hosts[2], host) for host in hosts[:2]):
            raise AssertionError("the result lies on an operand")
        epilogue, row = given.get(7, 1), given.get(12, 0)
        hosts.append(self._at(workspace, (size,), np.dtype(np.uint8), (1,)))
        if epilogue != 1 and epilogue & (_BIAS | _BGRAD | _BGRADA | _BGRADB):
            length = n if epilogue == _BGRADB else m
            unit = result.dtype.itemsize
            hosts.append(self._at(given[8], (length,), result.dtype, (unit,)))
        if epilogue & _AUX:
            relu = epilogue & (_RELU | 8)
            rows, dtype = (row // 8, np.dtype(np.uint8)) if relu else (m, result.dtype)
            across = row // 8 if relu else row * result.dtype.itemsize
            hosts.append(self._at(given[11], (rows, n), dtype, (dtype.itemsize, across)))
        turned = bool(given.get(3)), bool(given.get(4))
        work = _work(epilogue, turned, described.compute == 77)
        self.epilogues.append(epilogue)
        self.cupy.do("cublaslt", work, *(self.cupy.ndarray(host) for host in hosts))

    def _at(self, place: int, shape: Any, dtype: Any, strides: Any) -> Any:
        """An array at an address; NumPy refuses one that goes beyond the allocation."""
        return np.ndarray(shape, dtype, self.cupy.at(place, "u1*"), 0, strides)

    def _matrix(self, place: int, layout: SimpleNamespace) -> Any:
        unit, batch = layout.dtype.itemsize, layout.attributes.get(5, 1)
        shape = (batch, layout.rows, layout.columns)
        strides = (layout.attributes.get(6, 0) * unit, unit, layout.row * unit)
        return self._at(place, shape, layout.dtype, strides)


def _work(epilogue: int, turned: tuple[bool, bool], tf32: bool) -> Callable[..., None]:
    """What computes a product, on its arrays."""

    def work(a: Any, b: Any, d: Any, workspace: Any, *rest: Any) -> None:
        workspace.fill(0xAB)
        a, b = (_wide(x, tf32) for x in (a, b))
        a, b = (x.swapaxes(1, 2) if t else x for x, t in zip((a, b), turned, strict=True))
        with np.errstate(all="ignore"):
            y = a @ b
            if epilogue == _BGRADA:
                rest[0][...] = a[0].sum(1)
            elif epilogue == _BGRADB:
                rest[0][...] = b[0].sum(0)
            elif epilogue & ~_BGRAD in (_DRELU, _DGELU):
                y[0] = _backward(epilogue, y[0], rest)
            elif epilogue != 1:
                y[0] = _forward(epilogue, y[0], rest)
            d[...] = y

    return work


def _forward(epilogue: int, z: Any, rest: Any) -> Any:
    if epilogue & _BIAS:
        z = z + rest[0].astype(np.float64)[:, None]
    if epilogue & _AUX and epilogue & _RELU:
        rest[-1].fill(0)
        bits = np.packbits(z > 0, axis=0, bitorder="little")
        rest[-1][: len(bits)] = bits
    elif epilogue & _AUX:
        rest[-1][...] = z
    if epilogue & _RELU:
        return np.where(z > 0, z, 0)
    return 0.5 * z * (1 + np.tanh(_inner(z))) if epilogue & _GELU else z


def _backward(epilogue: int, g: Any, rest: Any) -> Any:
    if epilogue & ~_BGRAD == _DRELU:
        bits = np.unpackbits(rest[-1], axis=0, bitorder="little")[: len(g)]
        y = np.where(bits, g, 0)
    else:
        x = rest[-1].astype(np.float64)
        t = np.tanh(_inner(x))
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        y = g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
    if epilogue & _BGRAD:
        rest[0][...] = y.sum(1)
    return y


def _inner(x: Any) -> Any:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _wide(x: Any, tf32: bool) -> Any:
    return (in_tf32(x) if tf32 else x).astype(np.float64)


def attach(cuda: CudaBackend, workspace: int = 4096) -> Bindings:
    """Let a backend over NumPy multiply by this module."""
    module = Bindings(cuda._device.cupy)
    cuda.multiply_by(lambda device: CublasLt(module, device, workspace))
    return module


TOLERANCE = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}


def wide(x: Any) -> Any:
    """An array in 64 bits."""
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def close(found: Any, expected: Any) -> None:
    """What was found is expected, but for the rounding of its dtype."""
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(wide(found), expected, 0, TOLERANCE[found.dtype.name] * scale)
