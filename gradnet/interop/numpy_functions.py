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
from gradnet.tensor import Tensor

# Ufuncs under the names of ops, where they differ.
_UFUNCS = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "bitwise_count": "",
    "conjugate": "conj",
    "fabs": "abs",
    "float_power": "pow",
    "heaviside": "",  # NumPy's takes the value at 0
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "right_shift": "bitwise_right_shift",
    "rint": "round",
    "spacing": "",
}
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
_RUNNING = {"add": "cumulative_sum", "multiply": "cumulative_prod"}

# NumPy's functions: the name of ours, how many of the parameters are operands of ours by position,
# and NumPy's parameters in order. "old=new" has another name here, "name!" has no meaning here and
# may be left out or None. A count of -1 passes all positional arguments on.
_FUNCTIONS: dict[str, tuple[str, int, str]] = {
    "all": ("all", 1, "a axis out keepdims"),
    "amax": ("max", 1, "a axis out keepdims"),
    "amin": ("min", 1, "a axis out keepdims"),
    "any": ("any", 1, "a axis out keepdims"),
    "argmax": ("argmax", 1, "a axis out keepdims"),
    "argmin": ("argmin", 1, "a axis out keepdims"),
    "argsort": ("argsort", 1, "a axis kind! order! stable"),
    "around": ("round", 1, "a decimals! out"),
    "astype": ("astype", 2, "x dtype copy"),
    "broadcast_arrays": ("broadcast_arrays", -1, "subok!"),
    "broadcast_to": ("broadcast_to", 2, "array shape subok!"),
    "clip": ("clip", 1, "a a_min=min a_max=max out min max"),
    "concatenate": ("concat", 1, "arrays axis out"),
    "copy": ("copy", 1, "a order! subok!"),
    "count_nonzero": ("count_nonzero", 1, "a axis keepdims"),
    "cumprod": ("cumulative_prod", 1, "a axis dtype out"),
    "cumsum": ("cumulative_sum", 1, "a axis dtype out"),
    "cumulative_prod": ("cumulative_prod", 1, "x axis dtype out include_initial"),
    "cumulative_sum": ("cumulative_sum", 1, "x axis dtype out include_initial"),
    "diagonal": ("diagonal", 1, "a offset"),
    "diff": ("diff", 1, "a n axis prepend append"),
    "dot": ("dot", 2, "a b out"),
    "einsum": ("einsum", -1, "out optimize!"),
    "empty_like": ("empty_like", 1, "prototype dtype order! subok!"),
    "expand_dims": ("expand_dims", 2, "a axis"),
    "flip": ("flip", 1, "m axis"),
    "full_like": ("full_like", 2, "a fill_value dtype order! subok!"),
    "imag": ("imag", 1, "val"),
    "isin": ("isin", 2, "element test_elements assume_unique! invert kind!"),
    "matrix_transpose": ("matrix_transpose", 1, "x"),
    "max": ("max", 1, "a axis out keepdims"),
    "mean": ("mean", 1, "a axis dtype! out keepdims"),
    "meshgrid": ("meshgrid", -1, "indexing"),
    "min": ("min", 1, "a axis out keepdims"),
    "moveaxis": ("moveaxis", 3, "a source destination"),
    "nonzero": ("nonzero", 1, "a"),
    "ones_like": ("ones_like", 1, "a dtype order! subok!"),
    "outer": ("outer", 2, "a b out"),
    "permute_dims": ("permute_dims", 2, "a axes"),
    "prod": ("prod", 1, "a axis dtype out keepdims"),
    "ravel": ("ravel", 1, "a order!"),
    "real": ("real", 1, "val"),
    "repeat": ("repeat", 2, "a repeats axis"),
    "reshape": ("reshape", 2, "a shape order! copy"),
    "roll": ("roll", 2, "a shift axis"),
    "round": ("round", 1, "a decimals! out"),
    "searchsorted": ("searchsorted", 2, "a v side sorter"),
    "sort": ("sort", 1, "a axis kind! order! stable"),
    "split": ("split", 2, "ary indices_or_sections axis"),
    "squeeze": ("squeeze", 1, "a axis"),
    "stack": ("stack", 1, "arrays axis out"),
    "std": ("std", 1, "a axis dtype! out ddof=correction keepdims"),
    "sum": ("sum", 1, "a axis dtype out keepdims"),
    "swapaxes": ("swapaxes", 3, "a axis1 axis2"),
    "take": ("take", 2, "a indices axis out mode!"),
    "take_along_axis": ("take_along_axis", 2, "arr indices axis"),
    "tensordot": ("tensordot", 2, "a b axes"),
    "tile": ("tile", 2, "A reps"),
    "trace": ("trace", 1, "a offset"),
    "transpose": ("transpose", 1, "a axes"),
    "tril": ("tril", 1, "m k"),
    "triu": ("triu", 1, "m k"),
    "unique": ("unique_values", 1, "ar"),
    "unique_all": ("unique_all", 1, "x"),
    "unique_counts": ("unique_counts", 1, "x"),
    "unique_inverse": ("unique_inverse", 1, "x"),
    "unique_values": ("unique_values", 1, "x"),
    "unstack": ("unstack", 1, "x axis"),
    "var": ("var", 1, "a axis dtype! out ddof=correction keepdims"),
    "where": ("where", 3, "condition x y"),
    "zeros_like": ("zeros_like", 1, "a dtype order! subok!"),
    "linalg.cholesky": ("linalg.cholesky", 1, "a upper"),
    "linalg.cross": ("linalg.cross", 2, "x1 x2 axis"),
    "linalg.det": ("linalg.det", 1, "a"),
    "linalg.eig": ("linalg.eig", 1, "a"),
    "linalg.eigh": ("linalg.eigh", 1, "a"),
    "linalg.eigvals": ("linalg.eigvals", 1, "a"),
    "linalg.eigvalsh": ("linalg.eigvalsh", 1, "a"),
    "linalg.inv": ("linalg.inv", 1, "a"),
    "linalg.matrix_norm": ("linalg.matrix_norm", 1, "x keepdims ord"),
    "linalg.matrix_power": ("linalg.matrix_power", 2, "a n"),
    "linalg.matrix_rank": ("linalg.matrix_rank", 1, "A rtol"),
    "linalg.norm": ("linalg.norm", 1, "x ord axis keepdims"),
    "linalg.pinv": ("linalg.pinv", 1, "a rtol"),
    "linalg.qr": ("linalg.qr", 1, "a mode"),
    "linalg.slogdet": ("linalg.slogdet", 1, "a"),
    "linalg.solve": ("linalg.solve", 2, "a b"),
    "linalg.svd": ("linalg.svd", 1, "a full_matrices"),
    "linalg.svdvals": ("linalg.svdvals", 1, "x"),
    "linalg.vector_norm": ("linalg.vector_norm", 1, "x axis keepdims ord"),
    **{
        f"fft.{name}": (f"fft.{name}", 1, "a n axis norm out")
        for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
    },
    **{
        f"fft.{name}": (f"fft.{name}", 1, "a s axes norm out")
        for name in ("fftn", "ifftn", "rfftn", "irfftn")
    },
    **{f"fft.{name}": (f"fft.{name}", 1, "x axes") for name in ("fftshift", "ifftshift")},
    # Made of others: in interop/composed.py.
    "diag": ("interop.composed.diag", 1, "v k"),
    "kron": ("interop.composed.kron", 2, "a b"),
    "median": ("interop.composed.median", 1, "a axis out overwrite_input! keepdims"),
    "nan_to_num": ("interop.composed.nan_to_num", 1, "x copy! nan posinf neginf"),
    "pad": ("pad", 2, "array pad_width mode constant_values"),
    **{
        f"nan{name}": (f"interop.composed.nan{name}", 1, "a axis out keepdims")
        for name in ("argmax", "argmin", "max", "median", "min")
    },
    **{
        f"nan{name}": (f"interop.composed.nan{name}", 1, "a axis dtype out keepdims")
        for name in ("mean", "prod", "sum")
    },
    **{
        f"nan{name}": (
            f"interop.composed.nan{name}",
            1,
            "a axis dtype out ddof=correction keepdims",
        )
        for name in ("std", "var")
    },
    **{
        f"nancum{name}": (f"interop.composed.nancum{name}", 1, "a axis dtype out")
        for name in ("prod", "sum")
    },
}
# What describes a tensor or compares values: nothing that has a gradient.
_DESCRIPTIONS = frozenset(
    (
        *("shape", "ndim", "size", "result_type", "can_cast", "iscomplexobj", "isrealobj"),
        *("allclose", "array_equal", "array_equiv", "isclose", "array_repr", "array_str"),
        *("array2string", "may_share_memory", "shares_memory", "min_scalar_type", "common_type"),
    )
)


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
    "reduce": {"axis", "dtype", "keepdims"},
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
    names = {"reduce": _REDUCTIONS, "accumulate": _RUNNING}.get(method, {})
    if name not in names:
        return None
    return functools.partial(_along, getattr(ops, names[name]))


def _called(name: str) -> Callable[..., Any] | None:
    ours = _UFUNCS.get(name, name)
    found: Callable[..., Any] | None = getattr(ops, ours, None) if ours else None
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
    if name in _DESCRIPTIONS:
        return function(*_on_host(args), **_on_host(dict(options)))
    known = _FUNCTIONS.get(name)
    translated = None if known is None else _translated(known, args, options)
    if translated is None:
        return _values(f"numpy.{name}", function, args, dict(options))
    ours, operands, keywords, out = translated
    result = ours(*operands, **keywords)
    return result if out is None else _written(name, result, (out,))


def _full_name(function: Callable[..., Any]) -> str:
    room = function.__module__.rpartition(".")[2]
    return f"{room}.{function.__name__}" if room in ("linalg", "fft") else function.__name__


def _translated(
    known: tuple[str, int, str], args: tuple[Any, ...], options: Mapping[str, Any]
) -> tuple[Callable[..., Any], list[Any], dict[str, Any], Any] | None:
    """Our function and its arguments, or None where one of NumPy's has no counterpart."""
    path, count, parameters = known
    names = [spec.partition("=")[0] for spec in parameters.split()]
    renamed = dict(spec.split("=") for spec in parameters.split() if "=" in spec)
    operands = list(args) if count < 0 else []
    given = {} if count < 0 else dict(zip((n.rstrip("!") for n in names), args, strict=False))
    given.update(options)
    if count >= 0 and len(args) > len(names):
        return None
    keywords: dict[str, Any] = {}
    for position, spec in enumerate(names):
        name = spec.rstrip("!")
        if position < count:
            if name not in given:  # such as np.where(condition)
                return None
            operands.append(given.pop(name))
            continue
        value = given.pop(name, None)
        if value is None or value is np._NoValue:
            continue
        if spec.endswith("!"):
            if value is False:
                continue
            return None
        keywords[renamed.get(name, name)] = value
    if given:
        return None
    out = keywords.pop("out", None)
    room, _, name = path.rpartition(".")
    home = importlib.import_module(f"gradnet.{room}") if room else ops
    found = getattr(home, name)
    if name.startswith(("cumulative", "nancum")):
        found = functools.partial(_flat, found)
    return found, operands, keywords, out


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
    if isinstance(x, Tensor | np.ndarray | np.generic):
        return False
    return getattr(type(x), protocol, None) is not None
