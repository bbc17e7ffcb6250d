"""NumPy's functions that move values about or choose some of them: what they do to places.

NumPy itself is asked, of arrays that hold each element's place in place of its value, and the
elements are then gathered from there. So a function means what it means in NumPy, and the gradient
goes back to where each value was.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradnet import ops as _ops
from gradnet.errors import GraphError
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for

# The parameters whose elements are moved; the others say where to.
MOVING: dict[str, tuple[str, ...]] = {
    "block": ("arrays",),
    "choose": ("choices",),
    "compress": ("a",),
    "delete": ("arr",),
    "extract": ("arr",),
    "insert": ("arr", "values"),
    "pad": ("array",),
    "ravel": ("a",),
    "reshape": ("a",),
    "resize": ("a",),
    "rollaxis": ("a",),
    "sliding_window_view": ("x",),
    "take": ("a",),
}
# The same of what is stored in the memory of the first.
STORING: dict[str, tuple[str, str]] = {
    "copyto": ("dst", "src"),
    "fill_diagonal": ("a", "val"),
    "place": ("arr", "vals"),
    "put": ("a", "v"),
    "put_along_axis": ("arr", "values"),
    "putmask": ("a", "values"),
}
_BY_PLACE = ("edge", "reflect", "symmetric", "wrap")


def moved(name: str, function: Callable[..., Any], args: Any, options: Any) -> Any:
    """What one of MOVING gives for these arguments."""
    bound = inspect.signature(function).bind(*args, **options)
    given = bound.arguments
    if given.get("out") is not None or (name == "pad" and not _is_by_place(**given)):
        return NotImplemented
    values, places = _numbered({key: given[key] for key in MOVING[name]})
    if name == "insert":
        values[1:] = [ops.astype(x, values[0].dtype, copy=False) for x in values[1:]]
    given.update({**_on_host(given), **places})
    return _gathered(_joined(values), function(*bound.args, **bound.kwargs))


def _is_by_place(mode: Any = "constant", kwargs: Any = None, **_: Any) -> bool:
    return mode in _BY_PLACE and (kwargs or {}).get("reflect_type", "even") == "even"


def stored(name: str, function: Callable[..., Any], args: Any, options: Any) -> None:
    """The change by one of STORING in the memory of its first operand, which keeps the graph."""
    bound = inspect.signature(function).bind(*args, **options)
    given = bound.arguments
    target, source = (given[key] for key in STORING[name])
    if not isinstance(target, Tensor):
        raise GraphError(
            f"numpy.{name} cannot store a tensor with a gradient in a NumPy array; give it a "
            "Tensor, or x.detach()"
        )
    source = ops.astype(_exact(source, target), target.dtype, copy=False)
    values, places = _numbered(dict(zip(STORING[name], (target, source), strict=True)))
    given.update({**_on_host(given), **places})
    function(*bound.args, **bound.kwargs)
    target[...] = _gathered(_joined(values), places[STORING[name][0]])


def _exact(x: Any, beside: Tensor | None = None) -> Tensor:
    """Data as a Tensor, in the dtype that NumPy gives it."""
    backend = None if beside is None else beside.backend
    if not isinstance(x, Tensor) and not (isinstance(x, list | tuple) and _holds(x)):
        x = np.asarray(x)
    return ops.asarray(x, backend=backend)


def _holds(x: Any) -> bool:
    """Whether nested data holds a Tensor."""
    return isinstance(x, Tensor) or (isinstance(x, list | tuple) and any(map(_holds, x)))


def _numbered(x: Any) -> tuple[list[Tensor], Any]:
    """The arrays in nested data, and the same with places, counted through all, for values."""
    found: list[Tensor] = []
    start = 0

    def walk(x: Any) -> Any:
        nonlocal start
        if isinstance(x, dict):
            return {key: walk(value) for key, value in x.items()}
        if isinstance(x, list | tuple) and any(_is_deep(item) for item in x):
            return type(x)([walk(item) for item in x])
        tensor = _exact(x, found[0] if found else None)
        found.append(tensor)
        places = np.arange(start, start + tensor.size).reshape(tensor.shape)
        start += tensor.size
        return places

    return found, walk(x)


def _is_deep(x: Any) -> bool:
    return isinstance(x, list | tuple | Tensor | np.ndarray)


def _joined(values: list[Tensor]) -> Tensor:
    return ops.concat([ops.ravel(x) for x in values])


def _gathered(source: Tensor, places: Any) -> Any:
    if isinstance(places, tuple | list):
        return type(places)([_gathered(source, p) for p in places])
    return ops.take(source, ops.asarray(np.array(places), backend=source.backend))


def _on_host(x: Any) -> Any:
    """Arguments with the values of Tensors, which say where elements go."""
    if isinstance(x, Tensor):
        return x.numpy()
    if isinstance(x, dict):
        return {key: _on_host(value) for key, value in x.items()}
    return type(x)([_on_host(item) for item in x]) if type(x) in (list, tuple) else x


# Some of the values, in an order that depends on values


def _first_places(x: Tensor, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where each of some values is first in the flat x."""
    host = x.numpy()
    order = np.argsort(host, kind="stable")
    found: np.ndarray[Any, Any] = order[np.searchsorted(host[order], values)]
    return found


def _chosen(function: Callable[..., Any], *xs: Any, **options: Any) -> Any:
    """Values that NumPy's function takes from its operands, and the positions besides."""
    source = _joined([ops.asarray(x) for x in xs])
    found = function(*_on_host(xs), **options)
    values, *others = found if isinstance(found, tuple) else (found,)
    y = _gathered(source, _first_places(source, values))
    if not isinstance(found, tuple):
        return y
    return (y, *(ops.asarray(other, backend=source.backend) for other in others))


def intersect1d(a: Any, b: Any, /, **options: Any) -> Any:
    return _chosen(np.intersect1d, a, b, **options)


def setdiff1d(a: Any, b: Any, /, **options: Any) -> Tensor:
    return _chosen(np.setdiff1d, a, b, **options)


def setxor1d(a: Any, b: Any, /, **options: Any) -> Tensor:
    return _chosen(np.setxor1d, a, b, **options)


def union1d(a: Any, b: Any, /) -> Tensor:
    return _chosen(np.union1d, a, b)


def unique(x: Any, /, *, axis: Any = None, **options: Any) -> Any:
    if axis is None and not options:
        return ops.unique_values(x)
    x = ops.asarray(x)
    wanted = options.pop("return_index", False)
    _, index, *others = np.unique(x.numpy(), return_index=True, axis=axis, **options)
    others = [index, *others] if wanted else others
    flat = ops.ravel(x) if axis is None else x
    y = ops.take(flat, ops.asarray(index, backend=x.backend), axis=axis or 0)
    return (y, *(ops.asarray(z, backend=x.backend) for z in others)) if others else y


def partition(x: Any, kth: Any, /, *, axis: int | None = -1) -> Tensor:
    x = ops.asarray(x)
    x, axis = (ops.ravel(x), -1) if axis is None else (x, axis)
    order = np.argpartition(x.numpy(), _on_host(kth), axis=axis)
    return ops.take_along_axis(x, ops.asarray(order, backend=x.backend), axis=axis)


def sort_complex(x: Any, /) -> Tensor:
    x = ops.asarray(x) + 0j
    order = np.argsort(x.numpy(), axis=-1, kind="stable")
    return ops.take_along_axis(x, ops.asarray(order, backend=x.backend), axis=-1)


def trim_zeros(x: Any, /, *, trim: str = "fb", axis: Any = None) -> Tensor:
    x = ops.asarray(x)
    host = x.numpy()
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, Sequence) else (axis,)
    index = [slice(None)] * x.ndim
    for a in (a % x.ndim for a in axes):
        (there,) = np.nonzero((host != 0).any(axis=tuple(i for i in range(x.ndim) if i != a)))
        start, stop = (there[0], there[-1] + 1) if there.size else (0, 0)
        first = int(start) if "f" in trim.lower() else 0
        index[a] = slice(first, int(stop) if "b" in trim.lower() or not there.size else None)
    return x[tuple(index)]


def real_if_close(x: Any, /, *, tol: float = 100) -> Tensor:
    x = ops.asarray(x)
    return ops.real(x) if np.isrealobj(np.real_if_close(x.numpy(), tol)) else x
