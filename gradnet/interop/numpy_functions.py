"""NumPy's functions on Tensors: np.exp(t) and np.sum(t) give Tensors that keep their gradient.

NumPy asks an operand's `__array_ufunc__` and `__array_function__` before it computes. Each function
that gradnet has is answered with gradnet's. Of the others NumPy computes the values, which is
refused for tensors whose gradient would be lost.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradnet import ops
from gradnet.errors import DeviceError, GraphError
from gradnet.interop import special
from gradnet.interop.moved import MOVING, STORING, moved, stored
from gradnet.interop.numpy_table import (
    COUNTS,
    DESCRIPTIONS,
    FUNCTIONS,
    POSITIONS,
    REDUCTIONS,
    RUNNING,
    UFUNCS,
)
from gradnet.tensor import Tensor


def array_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: Any) -> Any:
    """What `Tensor.__array_ufunc__` answers: the op of the ufunc's name, or NumPy's values."""
    if any(_is_foreign(x, "__array_ufunc__") for x in inputs):
        return NotImplemented
    out = options.pop("out", None)
    if options.get("where", None) is True:
        del options["where"]
    function = _ufunc(ufunc.__name__, method)
    if function is None or set(options) - _TAKEN.get(method, set()):
        apply = getattr(ufunc, method)
        result = _values(f"numpy.{ufunc.__name__}", apply, inputs, options)
    else:
        dtype = options.pop("dtype", None) if method == "__call__" else None
        result = function(*inputs, **options)
        result = result if dtype is None else ops.astype(result, dtype)
    return result if out is None else _written(ufunc.__name__, result, out)


_TAKEN: dict[str, set[str]] = {
    "__call__": {"dtype"},
    "reduce": {"axis", "dtype", "keepdims", "initial", "where"},
    "accumulate": {"axis", "dtype"},
    "outer": set(),
}


@functools.cache
def _ufunc(name: str, method: str) -> Callable[..., Any] | None:
    """Our function of a ufunc's method, with its parameters."""
    if method == "__call__":
        return _called(name)
    if method == "outer":
        function = _called(name)
        return None if function is None else functools.partial(_outer, function)
    names = {"reduce": REDUCTIONS, "accumulate": RUNNING}.get(method, {})
    return functools.partial(_along, _ours(names[name])) if name in names else None


def _called(name: str) -> Callable[..., Any] | None:
    ours = UFUNCS.get(name, name)
    found = _ours(ours) if ours else None
    return special.function(name) if found is None else found


def _ours(path: str) -> Callable[..., Any] | None:
    """Our function of a name, with its room where that is not the namespace; None without one."""
    room, _, name = path.rpartition(".")
    home = importlib.import_module(f"gradnet.{room}") if room else ops
    found: Callable[..., Any] | None = getattr(home, name, None)
    return found


def _along(function: Any, x: Any, /, axis: Any = 0, **options: Any) -> Any:
    # A ufunc's reduce takes the first axis where none is given, gradnet all of them.
    return function(x, axis=axis, **options)


def _outer(function: Any, a: Any, b: Any) -> Any:
    a, b = ops.asarray(a), ops.asarray(b)
    return function(ops.reshape(a, a.shape + (1,) * b.ndim), b)


def array_function(
    function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
) -> Any:
    """What `Tensor.__array_function__` answers: gradnet's function, or NumPy's values."""
    name = _full_name(function)
    if name in DESCRIPTIONS:
        return function(*_on_host(args), **_on_host(dict(options)))
    if name in POSITIONS:
        first = next(iter(_tensors((args, dict(options)))), None)
        found = function(*_on_host(args), **_on_host(dict(options)))
        return _wrapped(found, None if first is None else first.backend)
    known = FUNCTIONS.get(name)
    translated = None if known is None else _translated(known, args, options)
    if translated is None:
        return _otherwise(name, function, args, dict(options))
    ours, operands, keywords, out = translated
    result = ours(*operands, **keywords)
    return result if out is None else _written(name, result, (out,))


def _otherwise(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """What NumPy does with values, or with their places where gradients follow them."""
    tensors = _tensors((args, options))
    if name in COUNTS:
        found = function(*_on_host(args), **_on_host(options))
        return _wrapped(found, tensors[0].backend if tensors else None)
    if any(x.node is not None or x.tangents for x in tensors):
        if name in STORING:
            return stored(name, function, args, options)
        if name in MOVING:
            found = moved(name, function, args, options)
            if found is not NotImplemented:
                return found
    return _values(f"numpy.{name}", function, args, options)


def _full_name(function: Callable[..., Any]) -> str:
    room = function.__module__.rpartition(".")[2]
    return f"{room}.{function.__name__}" if room in ("linalg", "fft") else function.__name__


def _translated(
    known: tuple[str, int, str], args: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[Callable[..., Any], list[Any], dict[str, Any], Any] | None:
    """Our function and its arguments, or None where one of NumPy's has no counterpart."""
    path, count, parameters = known
    if count == -2:
        return _ours(path), list(args), dict(options), None  # type: ignore[return-value]
    names = [spec.partition("=")[0] for spec in parameters.split()]
    renamed = dict(spec.split("=") for spec in parameters.split() if "=" in spec)
    operands = list(args) if count < 0 else []
    given = {} if count < 0 else dict(zip((_name(n) for n in names), args, strict=False))
    given.update(options)
    if count >= 0 and len(args) > len(names):
        return None
    keywords: dict[str, Any] = {}
    for position, spec in enumerate(names):
        name = _name(spec)
        if position < count:
            if name not in given:  # such as np.where(condition)
                return None
            operands.append(given.pop(name))
            continue
        flat = name == "axis" and name in given
        value = given.pop(name, None)
        # Along no axis is along all of them, which is not the default of all functions.
        if spec.endswith("~") or value is np._NoValue or (value is None and not flat):
            continue
        if "!" in spec:
            if value is False or (isinstance(value, str) and spec.endswith(f"!{value}")):
                continue
            return None
        keywords[renamed.get(name, name)] = value
    if given:
        return None
    out = keywords.pop("out", None)
    found: Any = _ours(path)
    if path.rpartition(".")[2].startswith(("cumulative", "nancum")):
        found = functools.partial(_flat, found)
    return found, operands, keywords, out


def _name(spec: str) -> str:
    return spec.partition("!")[0].rstrip("~")


def _flat(function: Callable[..., Tensor], x: Any, /, axis: Any = None, **options: Any) -> Tensor:
    """A running function over all values in order where no axis is given, as in NumPy."""
    x = ops.asarray(x)
    return function(ops.ravel(x) if axis is None else x, axis=axis or 0, **options)


# Values


def _values(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """What NumPy computes from the values, as Tensors. Raises where a gradient would be lost."""
    backend = None
    for x in _tensors((args, options)):
        if x.node is not None or x.tangents:
            raise GraphError(
                f"gradnet has no derivative of {name}, called like this; use gradnet's own "
                "functions, or x.detach() to go on without the gradient"
            )
        backend = x.backend if backend is None else backend
    result = function(*_on_host(args), **_on_host(options))
    if result is None and args and isinstance(args[0], Tensor):
        args[0].changed()  # by np.copyto, np.add.at and others in place
    return _wrapped(result, backend)


def _wrapped(x: Any, backend: Any) -> Any:
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "biufc":
        return ops.asarray(np.asarray(x), backend=backend)
    if isinstance(x, tuple | list) and not hasattr(x, "_fields"):
        return type(x)(_wrapped(item, backend) for item in x)
    return x


def _tensors(x: Any) -> list[Tensor]:
    """All Tensors in nested sequences and dicts."""
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [t for item in x for t in _tensors(item)] if isinstance(x, tuple | list) else []


def _on_host(x: Any) -> Any:
    """Arguments with NumPy arrays in place of Tensors."""
    if isinstance(x, Tensor):
        if x.device != "cpu":
            raise DeviceError(
                f"NumPy cannot read a tensor on {x.device}; use x.numpy() to copy it to the CPU"
            )
        return x.numpy()
    if isinstance(x, dict):
        return {key: _on_host(value) for key, value in x.items()}
    if type(x) in (tuple, list):
        return type(x)(_on_host(item) for item in x)
    return x


def _written(name: str, result: Any, out: tuple[Any, ...]) -> Any:
    """The result in the memory of NumPy's `out` argument: a Tensor keeps the graph."""
    (target,) = out
    if isinstance(target, Tensor):
        target[...] = result
        return target
    if result.node is not None or result.tangents:
        raise GraphError(
            f"numpy.{name} cannot store a tensor with a gradient in a NumPy array; use a Tensor, "
            "or x.detach()"
        )
    target[...] = result.numpy()
    return target


def _is_foreign(x: Any, protocol: str) -> bool:
    """Whether x is of a class that answers NumPy itself, and is to be asked as well."""
    if isinstance(x, Tensor | np.generic):
        return False
    found = getattr(type(x), protocol, None)
    return found is not None and found is not getattr(np.ndarray, protocol)
