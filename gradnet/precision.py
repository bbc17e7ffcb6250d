"""Precision: to what the factors of matrix products are rounded, for a model or a `with` block.

    with gradnet.precision.use("bfloat16"):
        loss = nn.cross_entropy(model(x), y)

Weights, their gradients, losses and optimizers stay in float32, and so do the sums of the products:
they take most of the time, and less in fewer bits. In a precision of 16 bits, so are the results of
linear layers with an activation (`ops.linear`) and their cotangents, which are factors of the next
products, and of those before norms, PReLU and maxout: half as much is kept and moved. Norms then
take and give 16 bits, and compute statistics and the affine step in float32. A model that has a
`precision` uses it for its own forward pass, whose result is float32; a backward pass goes by the
precision of its forward pass. Micikevicius et al. 2018, arXiv:1710.03740.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from gradnet import dtypes, host
from gradnet.backends import Array, Backend
from gradnet.dtypes import DType, float32
from gradnet.errors import DTypeError

NAMES = ("float32", "tf32", "bfloat16", "float16", "float64")
_WEIGHTS = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Rounding:
    """How the factors of products of float32 arrays are rounded; the sums are float32.

    `dtype` is that of the factors, or None for TF32, whose values are float32.
    """

    name: str
    dtype: DType | None

    def factor(self, backend: Backend, x: Array) -> Array:
        """An array as a factor of products."""
        return x if self.dtype is None or x.dtype == self.dtype else backend.cast(x, self.dtype)

    def product(self, backend: Backend, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """`(..., n, k) @ (..., k, m) -> (..., n, m)` of two factors, in float32."""
        if self.dtype is None:
            return backend.matmul(a, b, out=out, tf32=True)
        if out is None:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            out = backend.empty((*batch, a.shape[-2], b.shape[-1]), float32)
        return backend.matmul(a, b, out=out)


class _State(threading.local):
    """The rounding of this thread, and the recording that knows of it."""

    rounding: Rounding | None = None
    noted: weakref.ref[Any] | None = None


state = _State()


def named(wanted: Any) -> str:
    """The name of a precision, which may be given as a dtype. Raises ValueError for no such one."""
    try:
        name = dtypes.canonical(wanted).name
    except DTypeError:
        name = str(wanted)
    if name not in NAMES:
        raise ValueError(f"precision must be one of {', '.join(NAMES)}, not {wanted!r}")
    return name


def of_products(wanted: Any) -> str | None:
    """The precision if it rounds the factors of products, else None. Raises ValueError as named."""
    name = named(wanted)
    return None if name in _WEIGHTS else name


def of_weights(wanted: Any) -> str:
    """The dtype that weights have in a precision. Raises ValueError for an unknown one."""
    name = named(wanted)
    return name if name in _WEIGHTS else "float32"


@cache
def _rounding(name: str) -> Rounding | None:
    if name == "float32":
        return None
    return Rounding(name, None if name == "tf32" else dtypes.canonical(name))


def current() -> str | None:
    """The precision in use in this thread, if factors are rounded."""
    return None if state.rounding is None else state.rounding.name


class use:
    """Round the factors of float32 products in this thread within a `with` block.

    "tf32", "bfloat16" and "float16" round; "float32" does not, nor does None. Raises ValueError for
    an unknown precision, and for "float64", which is a matter of the weights alone.
    """

    __slots__ = ("_previous", "_wanted")

    def __init__(self, precision: Any) -> None:
        name = "float32" if precision is None else named(precision)
        if name == "float64":
            raise ValueError(
                "products are float64 where their factors are; cast those with "
                "model.to('float64'), or astype"
            )
        self._wanted = _rounding(name)

    def __enter__(self) -> None:
        _note()
        self._previous = state.rounding
        state.rounding = self._wanted

    def __exit__(self, *raised: object) -> None:
        state.rounding = self._previous


def is_factor(x: Any, weight: Any) -> bool:
    """Whether a tensor has been rounded as this thread's precision rounds it for a weight."""
    found = state.rounding
    if found is None or found.dtype is None:
        return False
    dtype = getattr(x, "dtype", None)
    return dtype == found.dtype and getattr(weight, "dtype", None) == float32


def widened(y: Any) -> Any:
    """A model's result in float32, where it has the 16 bits of its precision."""
    found = state.rounding
    if found is None or found.dtype is None or getattr(y, "dtype", None) != found.dtype:
        return y
    return y.astype(float32)


def rounding(op: str, dtype: DType) -> Rounding | None:
    """How an op rounds the factors of a product of that dtype here, or None where it does not.

    Raises DTypeError for floats that are neither float32 nor what the factors would become.
    """
    if host.state.recorder is not None:
        _note()
    found = state.rounding
    if found is None or dtype == float32:
        return found
    # NumPy takes None for float64 here.
    if (found.dtype is not None and dtype == found.dtype) or not dtypes.is_floating(dtype):
        return None
    raise DTypeError(
        f"{op} got {dtype.name} under precision {found.name!r}, which is for float32; cast the "
        "operands to float32, or leave the precision out"
    )


def _note() -> None:
    """Have a recording made anew where it is replayed under another precision than this one."""
    recorder = host.state.recorder
    if recorder is None or (state.noted is not None and state.noted() is recorder):
        return
    state.noted = weakref.ref(recorder)
    host.run(_unchanged, state.rounding, several=_all_unchanged)


def _unchanged(expected: Rounding | None) -> None:
    if state.rounding is not expected:
        raise host.Stale


def _all_unchanged(count: int, expected: Rounding | None) -> None:
    _unchanged(expected)
