"""The CUDA backend's arrays: storage, views, gathering, order, random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gradnet import binding, philox
from gradnet.backends import Array, Index, Scalar, Shape
from gradnet.dtypes import DType, bool_, compute_dtype, int64, is_floating, is_half

from .cuda_computed import Made
from .cuda_device import on_device
from .cuda_elementwise import floats
from .cuda_layout import BITS, code_of
from .cuda_norms import Norms
from .cuda_templates import gather
from .cuda_templates import philox as philox_programs
from .cuda_templates.program import blocks_for

_take_rows = cache(gather.take_rows)
_place_rows = cache(gather.place_rows)
_random = cache(philox_programs.random)

_WORD = (1 << 64) - 1


class Arrays(Norms):
    """What makes arrays, looks at them and moves their elements. Part of the CUDA backend."""

    # Storage

    @on_device
    def empty(self, shape: Shape, dtype: DType) -> Array:
        return self._device.empty(shape, dtype)

    @on_device
    def full(self, shape: Shape, value: Scalar, dtype: DType, *, out: Array | None = None) -> Array:
        y = self._device.empty(shape, dtype) if out is None else out
        if code_of(dtype) == "b2":
            # CuPy fills with what its own kernels know.
            word = np.full(1, value, dtype).view(np.uint16)
            y.view(np.uint16).fill(int(word[0]))
        else:
            y.fill(value)
        return y

    @on_device
    def arange(self, start: Scalar, step: Scalar, count: int, dtype: DType) -> Array:
        cupy = self._device.cupy
        if is_floating(dtype):
            numbers = start + step * cupy.arange(count, dtype=np.float64)
        else:
            numbers = start + step * cupy.arange(count, dtype=np.int64)
        return self._cast(numbers, dtype, None)

    @on_device
    def from_host(self, x: np.ndarray[Any, Any], *, copy: bool) -> Array:
        y = self._device.empty(x.shape, x.dtype)
        if y.size:
            y.set(np.asarray(x, order="C"))
        return y

    @on_device
    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        host: np.ndarray[Any, Any] = self._dense(x).get()
        self._device.tell()
        return host

    # Views

    @on_device
    def reshape(self, x: Array, shape: Shape) -> Array:
        return x.reshape(shape)

    def shares(self, x: Array, y: Array) -> bool:
        return bool(x.data.ptr == y.data.ptr)

    @on_device
    def permute(self, x: Array, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    @on_device
    def broadcast(self, x: Array, shape: Shape) -> Array:
        return self._device.cupy.broadcast_to(x, shape)

    @on_device
    def view(self, x: Array, index: Index) -> Array:
        return x[index]

    @on_device
    def bits(self, x: Array, dtype: DType) -> Array:
        return x.view(dtype)

    # Gathering

    @on_device
    def take(self, x: Array, index: Index, *, out: Array | None = None) -> Array:
        index = self._here(index)
        rows = self._row_index(x, index)
        if rows is None:
            found = x[self._checked("getitem", x, index)]
            return found.copy() if out is None else self._copied(found, out)
        shape = (*rows.shape, *x.shape[1:])
        whole = out is not None and out.flags.c_contiguous
        y = out if whole else self._device.empty(shape, x.dtype)
        assert y is not None
        if y.size:
            code, wide = moved_as(x.dtype)
            m = math.prod(x.shape[1:]) * wide
            arrays = (self._dense(x), self._dense(rows), y, self._device.faults())
            n = math.prod(rows.shape)
            program = _take_rows(code)
            self._launch(program, blocks_for(n * m), *arrays, n, x.shape[0], m, fill_of(x.dtype))
        return y if out is None or y is out else self._copied(y, out)

    def _here(self, index: Index) -> Index:
        """An index whose arrays are all on the device."""
        return tuple(
            self.from_host(i, copy=True) if isinstance(i, np.ndarray) else i for i in index
        )

    def _row_index(self, x: Array, index: Index) -> Array | None:
        """The int64 index array where an index is one along the first axis, else None."""
        rows = index[0] if len(index) == 1 else None
        if not isinstance(rows, self._device.cupy.ndarray) or rows.dtype.kind not in "iu":
            return None
        return rows if rows.dtype == int64 else self._cast(rows, int64, None)

    def _checked(self, op: str, x: Array, index: Index) -> Index:
        """An index whose out-of-range integers are flagged: CuPy wraps them around."""
        ndarray = self._device.cupy.ndarray
        axis = 0
        known = sum(
            i.ndim if isinstance(i, ndarray) and i.dtype == bool_ else 1
            for i in index
            if i is not None and i is not Ellipsis
        )
        for i in index:
            if i is Ellipsis:
                axis += x.ndim - known
            elif isinstance(i, ndarray) and i.dtype == bool_:
                if i.shape != x.shape[axis : axis + i.ndim]:
                    raise IndexError(
                        f"boolean index did not match: a mask of shape {i.shape} selects from "
                        f"axes of lengths {x.shape[axis : axis + i.ndim]}"
                    )
                axis += i.ndim
            elif isinstance(i, ndarray):
                if i.size:
                    count = x.shape[axis]
                    self.flag(i, -count, count - 1, _beyond, (op, x.shape, axis))
                axis += 1
            elif i is not None:
                axis += 1
        return index

    @on_device
    def put(self, x: Array, index: Index, values: Array | Scalar, *, add: bool) -> None:
        cupy = self._device.cupy
        index = self._here(index)
        arrays = [i for i in index if isinstance(i, cupy.ndarray)]
        repeats = any(i.dtype != bool_ for i in arrays)
        if not isinstance(values, cupy.ndarray):
            values = cupy.asarray(values, dtype=x.dtype)
        if not repeats:
            index = self._checked("setitem", x, index)
            if add:
                x[index] = x[index] + values
            else:
                x[index] = values
            return
        if not x.size:
            return
        if not x.flags.c_contiguous:
            whole = self._cast(x, x.dtype, None)
            self.put(whole, index, values, add=add)
            self._copied(whole, x)
            return
        rows = self._row_index(x, index)
        if rows is not None:
            places = cupy.where(rows < 0, rows + x.shape[0], rows)
            shape, m = (*rows.shape, *x.shape[1:]), math.prod(x.shape[1:])
        else:
            # Where each element goes, as a place in the flat array.
            flat = cupy.arange(x.size, dtype=np.int64).reshape(x.shape)
            places = flat[self._checked("setitem", x, index)]
            shape, m = places.shape, 1
        if not math.prod(shape):
            cupy.broadcast_to(values, shape)
            return
        values = self._cast(cupy.broadcast_to(values, shape), x.dtype, None)
        places = places.reshape(-1)
        order = cupy.argsort(places, kind="stable")
        self._placed(x, places[order], order, values, m, add)

    def _placed(
        self, x: Array, places: Array, order: Array, values: Array, m: int, add: bool
    ) -> None:
        code, wide = moved_as(x.dtype)
        bits = 32
        if add:
            code, wide = code_of(x.dtype), 1
            if x.dtype.kind == "c":
                # Real and imaginary parts add up by themselves.
                code, wide = f"f{x.dtype.itemsize // 2}", 2
            bits = BITS.get(code, 32)
        n = places.size
        arrays = (x, places, order, values, self._device.faults())
        count = x.size // max(m, 1)
        program = _place_rows(code, bits, add)
        self._launch(program, blocks_for(n * m * wide), *arrays, n, count, m * wide)

    @on_device
    def concatenate(self, xs: Sequence[Array], axis: int, *, out: Array | None = None) -> Array:
        axis %= xs[0].ndim
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        y = self._device.empty(tuple(shape), xs[0].dtype) if out is None else out
        begin = 0
        for x in xs:
            end = begin + x.shape[axis]
            self._copied(x, y[(slice(None),) * axis + (slice(begin, end),)])
            begin = end
        return y

    @on_device
    def nonzero(self, x: Array) -> tuple[Array, ...]:
        found: tuple[Array, ...] = self._device.cupy.nonzero(x)
        return found

    @on_device
    def searchsorted(self, sorted_values: Array, x: Array, side: str) -> Array:
        cupy = self._device.cupy
        if is_half(x.dtype):
            sorted_values, x = (
                self._cast(v, compute_dtype(v.dtype), None) for v in (sorted_values, x)
            )
        found = cupy.searchsorted(sorted_values, x, side=side)
        return self._cast(found, int64, None) if found.dtype != int64 else found

    # Order

    @on_device
    def sort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        cupy = self._device.cupy
        if descending:
            found = cupy.take_along_axis(x, self._order(x, axis, True), axis)
        else:
            working = self._cast(x, compute_dtype(x.dtype), None) if is_half(x.dtype) else x
            found = cupy.sort(working, axis=axis)
        y = self._device.empty(x.shape, x.dtype) if out is None else out
        return self._copied(found, y)

    @on_device
    def argsort(self, x: Array, axis: int, descending: bool, *, out: Array | None = None) -> Array:
        found = self._order(x, axis, descending)
        return found if out is None else self._copied(found, out)

    def _order(self, x: Array, axis: int, descending: bool) -> Array:
        """The stable order of each line, NaN last."""
        cupy = self._device.cupy
        x = self._cast(x, compute_dtype(x.dtype), None) if is_half(x.dtype) else x
        if not descending:
            return self._cast(cupy.argsort(x, axis=axis, kind="stable"), int64, None)
        # As the NumPy backend: sort the reversed lines, and put their NaNs, now first, to the end.
        count = x.shape[axis]
        flipped = cupy.argsort(cupy.flip(x, axis), axis=axis, kind="stable")
        order = count - 1 - cupy.flip(flipped, axis)
        if x.dtype.kind in "fc":
            missing = cupy.isnan(x).sum(axis=axis, keepdims=True)
            along = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
            places = (cupy.arange(count).reshape(along) + missing) % max(count, 1)
            order = cupy.take_along_axis(order, places, axis)
        return self._cast(order, int64, None)

    # Random

    @on_device
    def random(
        self,
        kind: str,
        key: int,
        counter: int,
        shape: Shape,
        dtype: DType,
        *,
        out: Array | None = None,
    ) -> Array:
        numbers = (key & _WORD, counter & _WORD, counter >> 64 & _WORD)
        return self._random(kind, numbers, shape, dtype, out)

    def _random(
        self,
        kind: str,
        numbers: tuple[Any, ...],
        shape: Shape,
        dtype: DType,
        out: Array | None,
        *,
        held: bool = False,
    ) -> Array:
        """As `random`, by numbers, or by the array in which a captured step has them."""
        philox.check(kind, dtype)
        whole = out is not None and out.flags.c_contiguous
        y = out if whole else self._device.empty(shape, dtype)
        assert y is not None
        if y.size:
            bits = 64 if dtype.itemsize == 8 else 32
            used = philox.UNIFORM_BITS.get(dtype.name, bits) if kind == "uniform" else bits
            program = _random(kind, bits, used, code_of(dtype), held)
            self._launch(program, blocks_for(-(-y.size * bits // 128)), y, y.size, *numbers)
        return y if out is None or y is out else self._copied(y, out)

    def _drawn(
        self,
        numbers: tuple[Any, ...],
        dtype: DType,
        made: tuple[Made, ...],
        outs: tuple[Array, ...],
    ) -> None:
        """What is made of uniform numbers, of that dtype, in contiguous arrays; see `Draws`."""
        first, *rest = made
        results = binding.source(first.formula), code_of(first.dtype)
        arguments, arrays, second = [*first.operands], [outs[0]], None
        for then in rest:
            operands = []
            for x in then.operands:
                operands.append("v" if x is None else "s" if _plain(x) else code_of(x.dtype))
            arrays += [x for x in then.operands if not (x is None or _plain(x))]
            arrays.append(outs[1])
            arguments += [x for x in then.operands if _plain(x)]
            second = binding.source(then.formula), tuple(operands), code_of(then.dtype)
        n, bits = outs[0].size, 64 if dtype.itemsize == 8 else 32
        used = philox.UNIFORM_BITS[dtype.name]
        made_ = philox_programs.Drawn(results, second)
        program = _random("uniform", bits, used, code_of(dtype), True, made_)
        blocks = blocks_for(-(-n * bits // 128))
        self._launch(program, blocks, *arrays, n, *floats(arguments), *numbers)


def _plain(x: Any) -> bool:
    return isinstance(x, bool | int | float)


def _beyond(op: str, shape: Shape, axis: int, i: int, value: Any) -> IndexError:
    return IndexError(
        f"{op} on a tensor of shape {shape}: index {value} is out of bounds for axis {axis} with "
        f"size {shape[axis]}"
    )


def moved_as(dtype: DType) -> tuple[str, int]:
    """The code of an integer as wide as an element, or half an element, and how many it takes."""
    if dtype.itemsize == 16:
        return "u8", 2
    return f"u{dtype.itemsize}", 1


def fill_of(dtype: DType) -> int:
    """What a row gets that an index out of range asked for: NaN, or 0 for integers, as bits."""
    if dtype.kind == "c":
        dtype = np.dtype(f"f{dtype.itemsize // 2}")
        pair = np.full(2, np.nan, dtype)
        word = pair[:1] if dtype.itemsize == 8 else pair
    else:
        floats = is_floating(dtype) if dtype.kind not in "biu" else False
        word = np.full(1, np.nan if floats else 0, dtype)
    return int.from_bytes(word.tobytes(), "little")
