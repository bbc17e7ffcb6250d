"""Making tensors: from data, by rule, by copy, in another dtype or on another device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradnet import backends, dtypes, modes
from gradnet.backends import Backend
from gradnet.dtypes import DType
from gradnet.errors import DTypeError, ShapeError
from gradnet.ops.direct import Whole
from gradnet.ops.given import natural_dtype, unmasked, whole
from gradnet.ops.multilinear import CAST, MOVE
from gradnet.ops.shape import as_lengths, broadcast_to, is_sequence, number, reshape
from gradnet.tensor import Tensor, fresh


def _backend(device: str | None, backend: Backend | None) -> Backend:
    return backends.for_device(device) if backend is None else backend


def _holds_tensors(x: Any) -> bool:
    nested = is_sequence(x) and not isinstance(x, memoryview)
    return nested and any(isinstance(item, Tensor) or _holds_tensors(item) for item in x)


def asarray(
    x: Any,
    /,
    *,
    dtype: Any = None,
    device: str | None = None,
    copy: bool | None = None,
    requires_grad: bool = False,
    backend: Backend | None = None,
) -> Tensor:
    """A Tensor from a Tensor, NumPy array, scalar, nested sequence or DLPack object.

    Python floats become float32, ints int64; arrays keep their dtype. Memory is shared where it
    can be and `copy` does not ask otherwise; `copy=False` refuses where it cannot be.
    Raises DTypeError for what is not numeric and ShapeError for ragged sequences.
    """
    plain = dtype is None and device is None and copy is None and backend is None
    if plain and isinstance(x, Tensor) and not requires_grad:
        return x
    wanted = None if dtype is None else dtypes.canonical(dtype)
    if isinstance(x, Tensor):
        tensor = x
        if backend is not None:
            tensor = to_backend(tensor, backend)
        elif device is not None:
            tensor = tensor.to(device)
        if wanted is not None and wanted != tensor.dtype:
            tensor = astype(tensor, wanted)
        if copy is False and tensor is not x:
            raise ValueError("asarray cannot give another dtype or device without a copy")
        if copy and tensor is x:
            tensor = CAST(x, dtype=x.dtype)
    elif _holds_tensors(x):
        from gradnet.ops.joining import stack

        weak = (float, complex)
        tensor = stack(
            [i if type(i) in weak else asarray(i, device=device, backend=backend) for i in x]
        )
        # Not `wanted in (None, ...)`: to NumPy, float64 equals None.
        if wanted is not None and wanted != tensor.dtype:
            tensor = astype(tensor, wanted)
    else:
        tensor = _from_host(x, wanted, _backend(device, backend), copy)
    if requires_grad:
        tensor = tensor if tensor is not x else tensor.detach()
        tensor.requires_grad = True
    return tensor


array = asarray


def _from_host(x: Any, wanted: DType | None, backend: Backend, copy: bool | None) -> Tensor:
    """What is no Tensor, as one."""
    if not isinstance(x, np.ndarray) and hasattr(x, "__dlpack__"):
        tensor = from_dlpack(x)
        return asarray(tensor, dtype=wanted, backend=backend, copy=copy)
    try:
        host = np.asarray(unmasked(x))
        if wanted is not None and wanted.kind in "iu" and host.dtype.kind == "f":
            host = whole(x, host, wanted)
    except ValueError as error:
        raise ShapeError(
            f"asarray got a nested sequence whose rows differ in length: {error}"
        ) from None
    if wanted is None:
        wanted = natural_dtype(x, host)
    elif host.dtype.kind in "OUSMm":
        natural_dtype(x, host)
    if host.dtype != wanted or not host.dtype.isnative:
        if copy is False:
            raise ValueError(f"asarray cannot give {host.dtype} as {wanted.name} without a copy")
        with np.errstate(all="ignore"):
            host, copy = host.astype(wanted), None
    if not host.flags.writeable or any(n < 0 for n in host.strides):
        copy = True if copy is None else copy
    return Tensor.wrap(backend.from_host(host, copy=bool(copy)), backend)


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A Tensor over the memory of another library's array, through DLPack.

    Without `copy` memory is shared, and read-only where its owner says so; `copy=False` raises
    where it cannot be, such as on another device.
    """
    if isinstance(x, Tensor):
        return asarray(x, device=device, copy=copy)
    kind, _ = x.__dlpack_device__()
    if kind == 1:
        host = np.from_dlpack(x)
        dtypes.canonical(host.dtype)
        backend = backends.for_device("cpu")
        tensor = Tensor.wrap(backend.from_host(host, copy=bool(copy)), backend)
        return tensor if device is None else asarray(tensor, device=device, copy=copy)
    backend = backends.for_device("cuda" if device is None else device)
    return Tensor.wrap(backend.linalg("dlpack", x, copy=copy), backend)


def operands(*xs: Any) -> list[Tensor]:
    """Operands as Tensors: what is none becomes one beside the first that is."""
    backend = next((x.backend for x in xs if isinstance(x, Tensor)), None)
    return [x if isinstance(x, Tensor) else asarray(x, backend=backend) for x in xs]


def beside(x: Any, tensors: list[Tensor], backend: Backend | None) -> Tensor:
    """Data beside tensors: Python's floats are exact beside float64, though float32 alone."""
    made = asarray(x, backend=backend)
    wanted = made.dtype
    if isinstance(x, list | tuple) and wanted in (dtypes.DEFAULT_FLOAT, dtypes.DEFAULT_COMPLEX):
        for t in tensors:
            wanted = dtypes.promote(wanted, t.dtype) if dtypes.is_inexact(t.dtype) else wanted
    return made if wanted == made.dtype else asarray(x, dtype=wanted, backend=backend)


def operands_of_one_dtype(name: str, *xs: Any) -> list[Tensor]:
    """Operands as Tensors of their common dtype on their common backend; scalars are weak."""
    first = xs[0] if xs else None
    if isinstance(first, Tensor):
        dtype = first.array.dtype
        for x in xs:
            if not isinstance(x, Tensor) or x.array.dtype is not dtype:
                break
        else:
            return list(xs)
    given = [x for x in xs if isinstance(x, Tensor)]
    backend = given[0].backend if given else None
    numbers = (bool, int, float, complex)
    tensors = [
        x if isinstance(x, Tensor) or type(x) in numbers else beside(x, given, backend) for x in xs
    ]
    common: DType | None = None
    for x in tensors:
        if isinstance(x, Tensor):
            common = x.dtype if common is None else dtypes.promote(common, x.dtype)
    wide = common
    for x in tensors:
        if not isinstance(x, Tensor):
            found = dtypes.scalar_dtype(x, common)
            wide = found if wide is None else dtypes.promote(wide, found)
    return [
        asarray(x, dtype=wide, backend=backend)
        if not isinstance(x, Tensor)
        else x
        if x.dtype == wide
        else CAST(x, dtype=wide)
        for x in tensors
    ]


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> Tensor:
    """The values as another dtype; gradients flow between floating dtypes."""
    return _CONVERTED.direct(x, dtype, copy, device)


def _astype(x: Any, dtype: Any, copy: bool, device: str | None) -> Tensor:
    if not isinstance(x, Tensor):
        x = asarray(x)
    wanted = dtypes.canonical(dtype)
    if device is not None:
        x = x.to(device)
    array = x.array
    own = array.dtype
    if not copy and own == wanted:
        return x
    if own.kind in "fiub" and x.node is None and not modes.open_modes:
        backend = x.backend
        return fresh(backend.cast(array, wanted), backend)
    if own.kind == "c" and wanted.kind != "c":
        raise DTypeError(
            f"astype cannot turn {x.dtype.name} into {wanted.name}; take real() or imag() first"
        )
    if not dtypes.is_inexact(wanted):
        x = x.detach()
    return CAST(x, dtype=wanted)


_CONVERTED = Whole("astype", _astype)


def copy(x: Any, /) -> Tensor:
    """The values in memory of their own; gradients flow through."""
    x = asarray(x)
    return CAST(x, dtype=x.dtype)


def to_backend(x: Tensor, target: Backend, *, copy: bool = False) -> Tensor:
    """The values on another backend; gradients flow back to where they came from."""
    if x.backend is target:
        return CAST(x, dtype=x.dtype) if copy else x
    moved: Tensor = MOVE(x, source=x.backend, target=target)
    return moved


# By rule


def full(
    shape: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: str | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """A tensor of one value, which may be a tensor's; gradients flow back to that."""
    found = _backend(device, backend)
    if isinstance(fill_value, Tensor) and (fill_value.node is not None or fill_value.tangents):
        value = reshape(to_backend(fill_value, found), ())
        value = value if dtype is None else astype(value, dtype)
        return copy(broadcast_to(value, as_lengths(shape)))
    if isinstance(fill_value, Tensor | np.ndarray):
        value, natural = fill_value.item(), dtypes.canonical(fill_value.dtype)
    else:
        value, natural = fill_value, dtypes.scalar_dtype(fill_value, None)
    wanted = natural if dtype is None else dtypes.canonical(dtype)
    return Tensor.wrap(found.full(as_lengths(shape), value, wanted), found)


def zeros(
    shape: Any, *, dtype: Any = None, device: str | None = None, backend: Backend | None = None
) -> Tensor:
    """A tensor of zeros, float32 unless told."""
    return full(shape, 0, dtype=dtype or dtypes.DEFAULT_FLOAT, device=device, backend=backend)


def ones(
    shape: Any, *, dtype: Any = None, device: str | None = None, backend: Backend | None = None
) -> Tensor:
    """A tensor of ones, float32 unless told."""
    return full(shape, 1, dtype=dtype or dtypes.DEFAULT_FLOAT, device=device, backend=backend)


def empty(
    shape: Any, *, dtype: Any = None, device: str | None = None, backend: Backend | None = None
) -> Tensor:
    """A tensor whose values are not set, float32 unless told."""
    found = _backend(device, backend)
    wanted = dtypes.canonical(dtype or dtypes.DEFAULT_FLOAT)
    return Tensor.wrap(found.empty(as_lengths(shape), wanted), found)


def full_like(
    x: Any, /, fill_value: Any, *, dtype: Any = None, device: str | None = None
) -> Tensor:
    """A tensor of one value with the shape, dtype and device of another."""
    x = asarray(x)
    return full(
        x.shape,
        fill_value,
        dtype=dtype or x.dtype,
        device=device,
        backend=None if device else x.backend,
    )


def zeros_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of zeros with the shape, dtype and device of another."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of ones with the shape, dtype and device of another."""
    return full_like(x, 1, dtype=dtype, device=device)


def empty_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor of unset values with the shape, dtype and device of another."""
    x = asarray(x)
    return empty(
        x.shape, dtype=dtype or x.dtype, device=device, backend=None if device else x.backend
    )


def arange(
    start: Any,
    /,
    stop: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: str | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Numbers from `start` (0 where only a stop is given) to `stop`, exclusive, by `step`.

    Raises ValueError for a step of 0.
    """
    if stop is None:
        start, stop = 0, start
    start, stop, step = number(start), number(stop), number(step)
    if step == 0:
        raise ValueError("arange got a step of 0")
    if dtype is None:
        whole = all(isinstance(value, int) for value in (start, stop, step))
        dtype = dtypes.DEFAULT_INT if whole else dtypes.DEFAULT_FLOAT
    found = _backend(device, backend)
    count = max(0, math.ceil((stop - start) / step))
    return Tensor.wrap(found.arange(start, step, count, dtypes.canonical(dtype)), found)


def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: str | None = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`."""
    values = np.linspace(start, stop, num, endpoint=endpoint)
    natural = dtypes.DEFAULT_COMPLEX if np.iscomplexobj(values) else dtypes.DEFAULT_FLOAT
    return asarray(values, dtype=dtype or natural, device=device, copy=True)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """A matrix with ones on its k-th diagonal and zeros elsewhere."""
    wanted = dtypes.canonical(dtype or dtypes.DEFAULT_FLOAT)
    return asarray(np.eye(n_rows, n_cols, k, np.float64), dtype=wanted, device=device)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinates of the grid that 1-D arrays span, in "xy" or "ij" (row-major) order.

    Raises ValueError for another order.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid got indexing {indexing!r}; expected 'xy' or 'ij'")
    tensors = operands_of_one_dtype("meshgrid", *arrays)
    swapped = indexing == "xy" and len(tensors) > 1
    order = list(range(len(tensors)))
    if swapped:
        order[:2] = [1, 0]
    shape = tuple(tensors[i].size for i in order)
    grids = []
    for i, x in enumerate(tensors):
        place = order.index(i)
        lengths = tuple(x.size if j == place else 1 for j in range(len(tensors)))
        grids.append(broadcast_to(reshape(x, lengths), shape))
    return tuple(grids)
