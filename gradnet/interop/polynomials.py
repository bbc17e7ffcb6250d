"""NumPy's functions of polynomials, given by coefficients from the highest power down."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet import dtypes, linalg
from gradnet import ops as _ops
from gradnet.interop import products
from gradnet.interop.signals import convolve
from gradnet.tensor import Tensor

ops: Any = _ops  # its names are made when asked for


def _floats(x: Any) -> Tensor:
    x = ops.asarray(x)
    x = ops.reshape(x, (1,)) if not x.ndim else x
    return ops.astype(x, dtypes.to_float(x.dtype), copy=False)


def polyval(p: Any, x: Any, /) -> Tensor:
    y = 0.0 * ops.asarray(x)
    for factor in ops.unstack(ops.asarray(p)):
        y = y * x + factor
    return y


def polyadd(a: Any, b: Any, /) -> Tensor:
    a, b = (ops.reshape(ops.asarray(x), (-1,)) for x in (a, b))
    n = max(a.size, b.size)
    return ops.pad(a, (n - a.size, 0)) + ops.pad(b, (n - b.size, 0))


def polysub(a: Any, b: Any, /) -> Tensor:
    return polyadd(a, -ops.asarray(b))


def polymul(a: Any, b: Any, /) -> Tensor:
    return convolve(a, b)


def polydiv(a: Any, b: Any, /) -> tuple[Tensor, Tensor]:
    rest, b = _floats(a) + 0.0, _floats(b)
    quotient = []
    while rest.size >= b.size:
        quotient.append(rest[0] / b[0])
        rest = polysub(rest, ops.pad(quotient[-1] * b, (0, rest.size - b.size)))[1:]
    rest = rest if rest.size else ops.zeros_like(b[:1])
    # The remainder has at least one coefficient, and none that is 0 before the others.
    (there,) = np.nonzero(~np.isclose(rest.numpy(), 0, rtol=1e-14))
    rest = rest[int(there[0]) if there.size else -1 :]
    return ops.stack(quotient) if quotient else 0 * rest[:1], rest


def polyder(p: Any, /, *, m: int = 1) -> Tensor:
    p = ops.asarray(p)
    for _ in range(m):
        powers = np.arange(p.size - 1, 0, -1)
        p = p[:-1] * ops.asarray(powers, dtype=p.dtype, backend=p.backend)
    return p


def polyint(p: Any, /, *, m: int = 1, k: Any = None) -> Tensor:
    p = _floats(p)
    constants = ops.zeros(m, dtype=p.dtype, backend=p.backend) if k is None else _floats(k)
    constants = ops.broadcast_to(constants, (m,)) if constants.size == 1 else constants
    for i in range(m):
        powers = np.arange(p.size, 0, -1)
        p = p / ops.asarray(powers, dtype=p.dtype, backend=p.backend)
        p = ops.concat([p, constants[i : i + 1]])
    return p


def vander(x: Any, /, *, N: int | None = None, increasing: bool = False) -> Tensor:
    x = ops.asarray(x)
    count = x.size if N is None else N
    columns = [ops.ones_like(x)]
    for _ in range(count - 1):
        columns.append(columns[-1] * x)
    columns = columns[:count] if increasing else columns[:count][::-1]
    return ops.stack(columns, axis=1) if columns else ops.reshape(x[:0], (x.size, 0))


def poly(x: Any, /) -> Tensor:
    x = _floats(x)
    zeros = linalg.eigvals(x) if x.ndim == 2 else x
    found = ops.ones(1, dtype=zeros.dtype, backend=zeros.backend)
    for zero in ops.unstack(zeros):
        found = convolve(found, ops.stack([ops.ones_like(zero), -zero]))
    host = zeros.numpy()
    paired = host.dtype.kind == "c" and np.array_equal(np.sort(host), np.sort(host.conj()))
    return ops.real(found) if paired or x.dtype.kind == "f" else found


def roots(p: Any, /) -> Tensor:
    p = _floats(p)
    (there,) = np.nonzero(p.numpy())
    if not there.size:
        return p[:0]
    inner = p[int(there[0]) : int(there[-1]) + 1]
    zeros = ops.zeros(p.size - 1 - int(there[-1]), dtype=p.dtype, backend=p.backend)
    if inner.size < 2:
        return zeros
    n = inner.size - 1
    below = ops.eye(n, k=-1, dtype=p.dtype, device=p.device)
    top = ops.reshape(-inner[1:] / inner[0], (1, n))
    found = linalg.eigvals(ops.concat([top, below[1:]]))
    return ops.concat([found, ops.astype(zeros, found.dtype)])


def polyfit(
    x: Any,
    y: Any,
    degree: int,
    /,
    *,
    rcond: float | None = None,
    full: bool = False,
    w: Any = None,
    cov: Any = False,
) -> Any:
    x, y = _floats(x), _floats(y)
    a, b = vander(x, N=degree + 1), y
    if w is not None:
        w = _floats(w)
        a, b = a * w[:, None], b * (w if b.ndim == 1 else w[:, None])
    scale = ops.sqrt(ops.sum(a * a, axis=0))
    rcond = x.size * float(np.finfo(x.dtype).eps) if rcond is None else rcond
    a = a / scale
    found, residuals, rank, values = products.lstsq(a, b, rcond=rcond)
    found = found / (scale if found.ndim == 1 else scale[:, None])
    if full:
        return found, residuals, rank, values, rcond
    if not cov:
        return found
    base = linalg.inv(a.mT @ a) / ops.outer(scale, scale)
    factor = 1 if cov == "unscaled" else residuals / (x.size - degree - 1)
    return found, base * factor if y.ndim == 1 else base[:, :, None] * factor
