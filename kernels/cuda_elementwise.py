"""The CUDA backend's elementwise work: formulas, casts, bias with activation, updates."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from gradnet import binding
from gradnet.backends import Array, Formula, Scalar, Shape
from gradnet.dtypes import DType, bool_, is_half
from gradnet.formulas import add, positive

from . import cuda_functions
from .cuda_device import Device, on_device
from .cuda_layout import BITS, code_of, layout
from .cuda_names import PRIMITIVES
from .cuda_templates import elementwise
from .cuda_templates.program import WIDEST, Program, blocks_for

# Operators that only integers have, or that NumPy rounds in its own way.
_REFUSED = (ast.FloorDiv, ast.Mod, ast.LShift, ast.RShift, ast.Invert)

map_program = cache(elementwise.map_program)
bias_program = cache(elementwise.bias_activation)
update_program = cache(elementwise.update)


@cache
def compiles(formula: Formula) -> bool:
    """Whether a formula of floats is a kernel of its own here; CuPy's functions compute others."""
    source = binding.source(formula)
    if not PRIMITIVES.issuperset(source.primitives):
        return False
    return not any(isinstance(node, _REFUSED) for node in ast.walk(ast.parse(source.text)))


def strides_of(x: Array) -> tuple[int, ...]:
    """Strides in elements."""
    size = x.dtype.itemsize
    return tuple(stride // size for stride in x.strides)


def aligned(*arrays: Array) -> bool:
    """Whether arrays begin where a load of 16 bytes may."""
    return all(x.data.ptr % 16 == 0 for x in arrays)


def width_of(*arrays: Array) -> int:
    """How many elements a thread takes at a time: those of the largest that one load brings.

    1 where an array begins where so many elements cannot be loaded at once.
    """
    width = WIDEST // max(x.dtype.itemsize for x in arrays)
    return width if all(x.data.ptr % (width * x.dtype.itemsize) == 0 for x in arrays) else 1


def floats(scalars: Sequence[Any]) -> list[float]:
    """Scalars as kernels take them."""
    return [float(value) for value in scalars]


def _plain(number: Scalar) -> Scalar:
    """The number itself as Python has it: CuPy refuses those of derived types."""
    if isinstance(number, bool | np.generic):
        return number
    if isinstance(number, int):
        return int(number)
    return float(number) if isinstance(number, float) else number


class Elementwise:
    """What maps elements to elements. Part of the CUDA backend."""

    _device: Device

    def _launch(self, program: Program, blocks: int, *arguments: Any) -> None:
        self._device.launch(program, blocks, *arguments)

    def _dense(self, x: Array) -> Array:
        """The array itself where it is contiguous, else a copy."""
        return x if x.flags.c_contiguous else self._cast(x, x.dtype, None)

    def _copied(self, x: Array, out: Array) -> Array:
        """The values of `x` in `out`, whatever the dtypes and layouts."""
        if x is not out:
            self._cast(x, out.dtype, out)
        return out

    @on_device
    def cast(self, x: Array, dtype: DType, *, out: Array | None = None) -> Array:
        return self._cast(x, dtype, out)

    def _cast(self, x: Array, dtype: DType, out: Array | None) -> Array:
        y = self._device.empty(x.shape, dtype) if out is None else out
        if not y.size:
            return y
        if out is not None:
            x = self._apart(x, y)
        if x.dtype == dtype and x.flags.c_contiguous and y.flags.c_contiguous:
            if x.data.ptr != y.data.ptr:
                y.data.copy_from_device_async(x.data, x.nbytes)
            return y
        source, target = code_of(x.dtype), code_of(dtype)
        if target in BITS and (source in BITS or source == "u1"):
            bits = max(BITS[target], BITS.get(source, 32))
            return self._mapped(positive, bits, (x,), y)
        if "b2" in (source, target):
            # CuPy's copies know bfloat16 in part: by way of float32.
            middle = self._cast(x, np.dtype(np.float32), None)
            return self._cast(middle, dtype, y)
        if x.dtype.kind == "c" and dtype.kind != "c":
            x = x.real
        self._device.cupy.copyto(y, x, casting="unsafe")
        return y

    @on_device
    def map(
        self, formula: Formula, *xs: Array | Scalar, dtype: DType, out: Array | None = None
    ) -> Array:
        cupy = self._device.cupy
        arrays = [x for x in xs if isinstance(x, cupy.ndarray)]
        common = arrays[0].dtype
        if common == bool_:
            common = next((x.dtype for x in arrays if x.dtype != bool_), common)
        shape = arrays[0].shape
        if any(x.shape != shape for x in arrays):
            shape = np.broadcast_shapes(*(x.shape for x in arrays))
        code = code_of(common)
        # Captured programs mix floats of 16 and 32 bits, which are computed alike.
        fits = dtype in (common, bool_) or BITS.get(code_of(dtype)) == BITS.get(code)
        if code not in BITS or not fits or not compiles(formula):
            return self._by_functions(formula, xs, common, shape, dtype, out)
        y = self._device.empty(shape, dtype) if out is None else out
        if not y.size:
            return y
        if out is not None:
            xs = tuple(self._apart(x, y) if isinstance(x, cupy.ndarray) else x for x in xs)
        return self._mapped(formula, BITS[code], xs, y)

    def mapper(self, formula: Formula, given: DType, dtype: DType) -> Callable[..., Array]:
        return partial(self.map, formula, dtype=dtype)

    def _apart(self, x: Array, y: Array) -> Array:
        """The operand, or a copy where the loop would write to its memory out of turn."""
        same = x.data.ptr == y.data.ptr and x.shape == y.shape and x.strides == y.strides
        if same or not self._device.cupy.may_share_memory(x, y):
            return x
        return self._cast(x, x.dtype, None)

    def _mapped(self, formula: Formula, bits: int, xs: tuple[Any, ...], y: Array) -> Array:
        """Launch a formula's own kernel over operands that do not overlap `y` otherwise."""
        ndarray = self._device.cupy.ndarray
        arrays = [x for x in xs if isinstance(x, ndarray)]
        plan = layout(y.shape, tuple((x.shape, strides_of(x)) for x in (*arrays, y)))
        kinds = iter(plan.kinds)
        operands = tuple(
            f"{next(kinds)}.{code_of(x.dtype)}" if isinstance(x, ndarray) else "s" for x in xs
        )
        result = f"{next(kinds)}.{code_of(y.dtype)}"
        if result[0] != "c" and any(
            s == 0 and n > 1 for s, n in zip(y.strides, y.shape, strict=True)
        ):
            raise ValueError("map cannot write to a broadcast array, whose elements share memory")
        source = binding.source(formula)
        whole = [x for x, kind in zip((*arrays, y), plan.kinds, strict=True) if kind == "c"]
        width = 1 if plan.strides else elementwise.wide_enough(source, width_of(*whole), len(whole))
        dimensions = len(plan.lengths) if plan.strides else 1
        program = map_program(source, bits, operands, result, dimensions, width, y.size < 1 << 31)
        rest = (*plan.lengths[1:], *plan.strides) if plan.strides else ()
        self._launch(program, blocks_for(-(-y.size // width)), *xs, y, y.size, *rest)
        return y

    def _by_functions(
        self,
        formula: Formula,
        xs: tuple[Any, ...],
        common: DType,
        shape: Shape,
        dtype: DType,
        out: Array | None,
    ) -> Array:
        """A formula by CuPy's functions, one launch each: for integers and complex numbers."""
        cupy = self._device.cupy
        working = np.dtype(np.float32) if is_half(common) else common
        operands = []
        for x in xs:
            if not isinstance(x, cupy.ndarray):
                operands.append(working.type(x) if working.kind in "fc" else _plain(x))
            else:
                half = x.dtype == common and working != common
                operands.append(self._cast(x, working, None) if half else x)
        result = binding.bind(formula, cuda_functions.namespace(cupy, working))(*operands)
        if not isinstance(result, cupy.ndarray):
            result = cupy.asarray(result, dtype=dtype)
        y = self._device.empty(shape, dtype) if out is None else out
        if result.shape != shape:
            result = cupy.broadcast_to(result, shape)
        return self._copied(result, y)

    @on_device
    def bias_activation(
        self,
        z: Array,
        bias: Array | None,
        formula: Formula | None,
        parameters: tuple[Scalar, ...],
        *,
        out: Array,
    ) -> Array:
        code = code_of(z.dtype)
        layouts = z.flags.c_contiguous and out.flags.c_contiguous
        if not layouts or code not in BITS or not (formula is None or compiles(formula)):
            return self._in_two(z, bias, formula, parameters, out)
        if not z.size or (bias is None and formula is None):
            return self._copied(z, out)
        in_place = out is z or out.data.ptr == z.data.ptr
        arrays = [z] if in_place else [z, out]
        if bias is not None:
            arrays.append(self._dense(bias))
        source = None if formula is None else binding.source(formula)
        width = width_of(*arrays)
        if source is not None:
            width = elementwise.wide_enough(source, width, len(arrays))
        while z.shape[1] % width:
            width //= 2
        small = z.size < 1 << 31
        program = bias_program(source, BITS[code], code, in_place, bias is not None, width, small)
        numbers = floats(parameters)
        blocks = blocks_for(-(-z.size // width))
        self._launch(program, blocks, *arrays, z.size, z.shape[1], *numbers)
        return out

    def _in_two(
        self,
        z: Array,
        bias: Array | None,
        formula: Formula | None,
        parameters: tuple[Scalar, ...],
        out: Array,
    ) -> Array:
        """Bias, then activation, for layouts and formulas that have no kernel of their own."""
        if bias is not None:
            self.map(add, z, bias, dtype=z.dtype, out=z)
        if formula is None:
            return self._copied(z, out)
        result: Array = self.map(formula, z, *parameters, dtype=z.dtype, out=out)
        return result

    @on_device
    def update(
        self, formula: Formula, arrays: tuple[Array, ...], scalars: tuple[float, ...]
    ) -> None:
        self._update(formula, arrays, floats(scalars))

    def _update(
        self,
        formula: Formula,
        arrays: tuple[Array, ...],
        numbers: Sequence[Any],
        *,
        held: bool = False,
    ) -> None:
        """As `update`, by numbers, or by the arrays in which a captured step has them."""
        p = arrays[0]
        code = code_of(p.dtype)
        if not p.size:
            return
        if code not in BITS or not compiles(formula):
            raise TypeError(
                f"update cannot compile {formula.__name__} for {p.dtype}; its parameters must be "
                "real floats, and its formula free of integer operators"
            )
        dense = [self._dense(x) for x in arrays]
        source = binding.source(formula)
        width = min(width_of(*dense), elementwise.FEW)
        program = update_program(source, BITS[code], code, len(arrays), width, held)
        self._launch(program, blocks_for(-(-p.size // width)), *dense, p.size, *numbers)
        for given, done in zip(arrays, dense, strict=True):
            if given is not done and given is not arrays[1]:
                self._copied(done, given)
