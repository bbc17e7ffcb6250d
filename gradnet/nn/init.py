"""Initialisers: tensors to begin training from, drawn so that every backend gets the same bits.

A weight has shape (in, out): its fan-in is the product of all axes but the last, its fan-out the
last. Every initialiser takes a shape and, by name, its own settings and `generator` (the default
one of `gradnet.random` if none), `dtype` (float32) and `device`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import ShapeError
from gradnet.nn.names import unknown
from gradnet.ops.shape import as_shape
from gradnet.random import Generator, default_generator
from gradnet.tensor import Tensor

Initializer = Callable[..., Tensor]

_INITIALIZERS: dict[str, Initializer] = {}


class _Mode(threading.local):
    """Whether layers made in this thread begin with zeros."""

    blank: bool = False


_mode = _Mode()


@contextmanager
def blank() -> Iterator[None]:
    """Have layers made within a `with` block begin with zeros and draw nothing.

    For models whose values are about to be loaded.
    """
    previous = _mode.blank
    _mode.blank = True
    try:
        yield
    finally:
        _mode.blank = previous


def initializer(f: Initializer) -> Initializer:
    """Offer a function by its name wherever an initialiser is named; use it as a decorator."""
    _INITIALIZERS[f.__name__] = f
    return f


def names() -> tuple[str, ...]:
    """The names of all initialisers."""
    return tuple(_INITIALIZERS)


def get(name: str | Initializer) -> Initializer:
    """The initialiser of that name; a function is returned as it is.

    Raises KeyError, with close matches, for an unknown name.
    """
    if _mode.blank:
        return zeros
    if callable(name):
        return name
    found = _INITIALIZERS.get(name)
    if found is None:
        raise unknown("initialiser", name, _INITIALIZERS)
    return found


# By activation, to keep the scale of the signals from layer to layer: a rectifier halves their mean
# square, which He's variance of 2 / fan_in makes good. A new activation counts as a rectifier.

_KEEPING = (
    *("identity", "linear", "absolute", "piecewise_linear", "softmax", "log_softmax", "maxout"),
    *("sigmoid", "hard_sigmoid", "log_sigmoid", "tanh", "softsign"),
    *("heaviside", "hard_threshold", "sign"),
)


def for_activation(name: str | None) -> str:
    """The initialiser that suits a layer before this activation."""
    if name is None or name in _KEEPING:
        return "glorot_uniform"
    return "lecun_normal" if name == "selu" else "he_normal"


# Constants


@initializer
def constant(
    shape: Any,
    value: float = 0.0,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """One value everywhere."""
    return ops.full(shape, value, dtype=dtype or dtypes.DEFAULT_FLOAT, device=device)


@initializer
def zeros(shape: Any, **options: Any) -> Tensor:
    """Zeros: for biases. As weights they leave all units of a layer alike for ever."""
    return constant(shape, 0.0, **options)


@initializer
def ones(shape: Any, **options: Any) -> Tensor:
    """Ones: for scales."""
    return constant(shape, 1.0, **options)


# Of a given spread


@initializer
def normal(
    shape: Any,
    mean: float = 0.0,
    std: float = 0.01,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """Normal numbers of a mean and standard deviation. Raises ValueError for std < 0."""
    if not std >= 0:
        raise ValueError(f"normal needs a standard deviation of at least 0, got {std}")
    source = generator or default_generator()
    return source.normal(shape, mean, std, dtype=dtype, device=device)


@initializer
def uniform(
    shape: Any,
    low: float = -0.05,
    high: float = 0.05,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """Numbers uniform in [low, high). Raises ValueError for low > high."""
    if not low <= high:
        raise ValueError(f"uniform needs low <= high, got {low} and {high}")
    source = generator or default_generator()
    return source.uniform(shape, low, high, dtype=dtype, device=device)


# Scaled to the layer's size


def fans(shape: Any) -> tuple[int, int]:
    """(fan-in, fan-out) of a weight: the product of all lengths but the last, and the last.

    Raises ShapeError for fewer than two axes.
    """
    lengths = as_shape(shape)
    if len(lengths) < 2:
        raise ShapeError(
            f"a weight of shape {lengths} has no fan-in and fan-out; expected (in, out), or use "
            "normal, uniform or constant"
        )
    return math.prod(lengths[:-1]), lengths[-1]


def _scaled(kind: str, shape: Any, variance: float, options: dict[str, Any]) -> Tensor:
    """Numbers of mean 0 and that variance."""
    if kind == "normal":
        return normal(shape, 0.0, math.sqrt(variance), **options)
    bound = math.sqrt(3 * variance)
    return uniform(shape, -bound, bound, **options)


def _glorot(kind: str, shape: Any, gain: float, options: dict[str, Any]) -> Tensor:
    return _scaled(kind, shape, gain * gain * 2 / max(1, sum(fans(shape))), options)


def _fan_in(kind: str, shape: Any, gain: float, options: dict[str, Any]) -> Tensor:
    return _scaled(kind, shape, gain * gain / max(1, fans(shape)[0]), options)


def rectifier_gain(alpha: float = 0.0) -> float:
    """sqrt(2 / (1 + alpha^2)): what a (leaky) rectifier takes from the signals' scale.

    He et al. 2015, arXiv:1502.01852.
    """
    return math.sqrt(2 / (1 + alpha * alpha))


@initializer
def glorot_uniform(shape: Any, *, gain: float = 1.0, **options: Any) -> Tensor:
    """Uniform in ±gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio 2010."""
    return _glorot("uniform", shape, gain, options)


@initializer
def glorot_normal(shape: Any, *, gain: float = 1.0, **options: Any) -> Tensor:
    """Normal of variance gain^2 2 / (fan_in + fan_out). Glorot and Bengio 2010."""
    return _glorot("normal", shape, gain, options)


@initializer
def he_uniform(shape: Any, *, gain: float = math.sqrt(2), **options: Any) -> Tensor:
    """Uniform in ±gain sqrt(3 / fan_in), for rectifiers. He et al. 2015, arXiv:1502.01852."""
    return _fan_in("uniform", shape, gain, options)


@initializer
def he_normal(shape: Any, *, gain: float = math.sqrt(2), **options: Any) -> Tensor:
    """Normal of variance gain^2 / fan_in, for rectifiers. He et al. 2015, arXiv:1502.01852."""
    return _fan_in("normal", shape, gain, options)


@initializer
def lecun_uniform(shape: Any, *, gain: float = 1.0, **options: Any) -> Tensor:
    """Uniform in ±gain sqrt(3 / fan_in). LeCun et al. 1998, Efficient BackProp."""
    return _fan_in("uniform", shape, gain, options)


@initializer
def lecun_normal(shape: Any, *, gain: float = 1.0, **options: Any) -> Tensor:
    """Normal of variance gain^2 / fan_in. LeCun et al. 1998; for SELU arXiv:1706.02515."""
    return _fan_in("normal", shape, gain, options)


@initializer
def orthogonal(
    shape: Any,
    *,
    gain: float = 1.0,
    generator: Generator | None = None,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer.

    Uniform among them: the Q of a normal matrix, with the signs that make R's diagonal positive,
    computed in float64 on the CPU. Saxe et al. 2013, arXiv:1312.6120; Mezzadri 2007.
    """
    n, m = fans(shape)
    wanted = dtypes.DEFAULT_FLOAT if dtype is None else dtypes.canonical(dtype)
    drawn = normal(
        (max(n, m), min(n, m)), std=1.0, generator=generator, dtype=dtypes.float64, device="cpu"
    )
    q, r = drawn.backend.linalg("linalg.qr", drawn.array)
    columns = Tensor.wrap(q, drawn.backend)
    signs = ops.copysign(1.0, ops.diagonal(Tensor.wrap(r, drawn.backend)))
    columns = columns * signs * gain
    rows = columns if n >= m else columns.T
    made = ops.astype(ops.reshape(rows, shape), wanted)
    # Through the host, for it is wanted on the default device where none is named.
    return ops.asarray(made.numpy(), device=device)
