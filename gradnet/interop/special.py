"""SciPy's special functions on Tensors: its ufuncs ask as NumPy's do, and these have derivatives.

Values are SciPy's; each derivative is made of other such functions, so that it differentiates too.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

from gradnet import dtypes
from gradnet import ops as _ops
from gradnet.errors import DeviceError
from gradnet.ops.creation import operands_of_one_dtype
from gradnet.ops.custom import CustomOp, op
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for
_ROOT = math.sqrt(2 * math.pi)

# The derivatives by x, from x and the value y; NIST's Digital Library of Mathematical Functions.
_SLOPES: dict[str, Callable[[Any, Any], Any]] = {
    "digamma": lambda x, y: _trigamma(x),
    "erfcinv": lambda x, y: -math.sqrt(math.pi) / 2 * ops.exp(y * y),
    "erfinv": lambda x, y: math.sqrt(math.pi) / 2 * ops.exp(y * y),
    "gamma": lambda x, y: y * of("psi")(x),
    "gammaln": lambda x, y: of("psi")(x),
    "i0": lambda x, y: of("i1")(x),
    "i0e": lambda x, y: of("i1e")(x) - ops.sign(x) * y,
    "i1": lambda x, y: ops.where(x == 0, 0.5, of("i0")(x) - y / ops.where(x == 0, 1.0, x)),
    "i1e": lambda x, y: ops.where(
        x == 0, 0.5, of("i0e")(x) - y * (ops.sign(x) + 1 / ops.where(x == 0, 1.0, x))
    ),
    "j0": lambda x, y: -of("j1")(x),
    "j1": lambda x, y: ops.where(x == 0, 0.5, of("j0")(x) - y / ops.where(x == 0, 1.0, x)),
    "log_ndtr": lambda x, y: ops.exp(-x * x / 2 - y) / _ROOT,
    "loggamma": lambda x, y: of("psi")(x),
    "logit": lambda x, y: 1 / (x * (1 - x)),
    "ndtr": lambda x, y: ops.exp(-x * x / 2) / _ROOT,
    "ndtri": lambda x, y: _ROOT * ops.exp(y * y / 2),
    "psi": lambda x, y: _trigamma(x),
}


_OPS: dict[str, CustomOp] = {}


def of(name: str) -> CustomOp:
    """The op of one of SciPy's functions of one variable, in `_SLOPES`."""
    if name not in _OPS:
        slope = _SLOPES[name]
        ufunc = getattr(importlib.import_module("scipy.special"), name)
        _OPS[name] = op(
            lambda x: ufunc(x).astype(x.dtype), vjp=lambda g, y, x: g * slope(x, y), name=name
        )
    return _OPS[name]


@functools.cache
def _hurwitz() -> CustomOp:
    zeta = importlib.import_module("scipy.special").zeta
    return op(
        lambda x, s: zeta(s, x).astype(x.dtype),
        vjp=lambda g, y, x, s: -g * s * _hurwitz()(x, s=s + 1),
        name="zeta",
    )


def _trigamma(x: Any) -> Tensor:
    return _hurwitz()(x, s=2)


def function(name: str) -> Callable[..., Any] | None:
    """Ours for one of SciPy's ufuncs, or None."""
    return functools.partial(_of_one, name) if name in _SLOPES else _MADE.get(name)


def _of_one(name: str, x: Any) -> Tensor:
    x = _floating(x)
    if x.device != "cpu":
        raise DeviceError(
            f"SciPy's {name} cannot read a tensor on {x.device}; use x.to('cpu') to move it"
        )
    return of(name)(x)


def _floating(x: Any) -> Tensor:
    x = ops.asarray(x)
    return ops.astype(x, dtypes.to_float(x.dtype), copy=False)


def _xlogy(log: Any, a: Any, b: Any) -> Tensor:
    a, b = operands_of_one_dtype("xlogy", _floating(a), _floating(b))
    zero = ops.logical_and(ops.equal(a, 0), ops.logical_not(ops.isnan(b)))
    return ops.where(zero, 0.0 * a, a * log(ops.where(zero, 1.0, b)))


def _rel_entr(a: Any, b: Any) -> Tensor:
    a, b = operands_of_one_dtype("rel_entr", _floating(a), _floating(b))
    both = ops.logical_and(a > 0, b > 0)
    inner = a * ops.log(ops.where(both, a, 1.0) / ops.where(both, b, 1.0))
    edge = ops.where(ops.logical_and(a == 0, b >= 0), 0.0 * a, float("inf"))
    found = ops.where(both, inner, edge)
    return ops.where(ops.logical_or(ops.isnan(a), ops.isnan(b)), float("nan"), found)


def _entr(x: Any) -> Tensor:
    x = _floating(x)
    inner = -x * ops.log(ops.where(x > 0, x, 1.0))
    return ops.where(x < 0, -float("inf"), inner)


_MADE: dict[str, Callable[..., Any]] = {
    "entr": _entr,
    "expit": lambda x: ops.sigmoid(_floating(x)),
    "log_expit": lambda x: ops.log_sigmoid(_floating(x)),
    "kl_div": lambda a, b: _rel_entr(a, b) - a + b,
    "rel_entr": _rel_entr,
    "xlog1py": functools.partial(_xlogy, ops.log1p),
    "xlogy": functools.partial(_xlogy, ops.log),
}
