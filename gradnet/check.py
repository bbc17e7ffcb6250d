"""gradcheck: derivatives of any function against central differences, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradnet import autodiff, dtypes
from gradnet.errors import DTypeError, GradnetError
from gradnet.ops.creation import asarray
from gradnet.tensor import Tensor


class GradientMismatch(GradnetError, AssertionError):
    """A derivative that differs from its finite difference by more than the tolerance."""


@dataclass(frozen=True)
class GradcheckReport:
    """What gradcheck compared.

    `reverse` and `forward` are the largest differences from central differences, relative to the
    largest derivative and at least 1; `directions` how many random directions were tried.
    """

    order: int
    reverse: float
    forward: float
    tolerance: float
    directions: int


def gradcheck(
    f: Callable[..., Any],
    *xs: Any,
    order: int = 1,
    tolerance: float = 1e-6,
    step: float = 1e-5,
    directions: int = 4,
    seed: int = 0,
) -> GradcheckReport:
    """Check the derivatives of `f` at `xs`, cast to float64, against central differences.

    In random directions t and cotangents u, <u, (f(x + h t) - f(x - h t)) / 2h> must equal both
    <u, J t> of forward mode and <J' u, t> of reverse mode, to `tolerance` relative to their size
    (at least 1). With `order=2` the gradient function is checked the same way as well. The
    difference's own error is of order step^2 and eps / step. Complex arguments are cast to
    complex128 and <u, v> is Re(conj(u) v). Raises GradientMismatch, which says
    which mode differs, where and by how much.
    """
    inputs = [asarray(x) for x in xs]
    inputs = [_doubled(x) for x in inputs]
    moving = [i for i, x in enumerate(inputs) if dtypes.is_inexact(x.dtype)]
    if not moving:
        raise DTypeError(
            "gradcheck needs a floating or complex argument, got dtypes "
            f"{', '.join(x.dtype.name for x in inputs) or 'of no arguments'}"
        )
    rng = np.random.default_rng(seed)

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        complete = list(inputs)
        for i, value in zip(moving, values, strict=True):
            complete[i] = value
        result = f(*complete)
        outputs = result if isinstance(result, tuple | list) else (result,)
        return tuple(y for y in outputs if dtypes.is_inexact(y.dtype))

    report = _compare(call, [inputs[i] for i in moving], rng, 1, tolerance, step, directions)
    if order == 1:
        return report
    # The gradient along fixed cotangents is a function like any other.
    weights = [_normal(rng, y) for y in call(*(inputs[i] for i in moving))]

    def gradient(*values: Tensor) -> tuple[Tensor, ...]:
        outputs, pull = autodiff.vjp(call, *values)
        found = pull(
            *(asarray(w, backend=y.backend) for w, y in zip(weights, outputs, strict=True))
        )
        return found if isinstance(found, tuple) else (found,)

    second = _compare(gradient, [inputs[i] for i in moving], rng, 2, tolerance, step, directions)
    return GradcheckReport(
        2,
        max(report.reverse, second.reverse),
        max(report.forward, second.forward),
        tolerance,
        directions,
    )


def _doubled(x: Tensor) -> Tensor:
    """The values in double precision, without a graph; integers as they are."""
    if not dtypes.is_inexact(x.dtype):
        return x
    double = dtypes.float64 if dtypes.is_floating(x.dtype) else dtypes.complex128
    return x.detach().astype(double)


def _normal(rng: np.random.Generator, x: Tensor) -> np.ndarray[Any, Any]:
    values = np.asarray(rng.standard_normal(x.shape))
    if dtypes.is_floating(x.dtype):
        return values
    return np.asarray(values + 1j * rng.standard_normal(x.shape))


def _inner(u: np.ndarray[Any, Any], v: np.ndarray[Any, Any]) -> float:
    """Re(conj(u) v), summed: the inner product of the real and imaginary parts as reals."""
    return float(np.vdot(u, v).real)


def _compare(
    f: Callable[..., tuple[Tensor, ...]],
    xs: list[Tensor],
    rng: np.random.Generator,
    order: int,
    tolerance: float,
    step: float,
    directions: int,
) -> GradcheckReport:
    outputs, pull = autodiff.vjp(f, *xs)
    worst = {"reverse": 0.0, "forward": 0.0}
    for _ in range(directions):
        ts = [_normal(rng, x) for x in xs]
        us = [_normal(rng, y) for y in outputs]
        ahead, behind = (
            f(
                *(
                    x + asarray(h * t, dtype=x.dtype, backend=x.backend)
                    for x, t in zip(xs, ts, strict=True)
                )
            )
            for h in (step, -step)
        )
        with np.errstate(all="ignore"):
            expected = sum(
                _inner(u, (a.numpy() - b.numpy()) / (2 * step))
                for u, a, b in zip(us, ahead, behind, strict=True)
            )
        carried = pull(*(asarray(u, backend=y.backend) for u, y in zip(us, outputs, strict=True)))
        carried = carried if isinstance(carried, tuple) else (carried,)
        reverse = sum(_inner(g.numpy(), t) for g, t in zip(carried, ts, strict=True))
        _, pushed = autodiff.jvp(f, tuple(xs), tuple(ts))
        forward = sum(_inner(u, t.numpy()) for u, t in zip(us, pushed, strict=True))
        size = max(
            1.0,
            *(float(np.abs(g.numpy()).max(initial=0.0)) for g in (*carried, *pushed)),
        )
        for mode, found in (("reverse", reverse), ("forward", forward)):
            difference = abs(found - expected) / size
            worst[mode] = max(worst[mode], difference)
            if not difference <= tolerance:
                name = getattr(f, "__name__", "the function")
                raise GradientMismatch(
                    f"{mode} mode of order {order} gives {found:.12g} in a random direction, "
                    f"central differences give {expected:.12g}: a relative difference of "
                    f"{difference:.3g}, above {tolerance:.3g} ({name}, shapes "
                    f"{', '.join(str(x.shape) for x in xs)})"
                )
    return GradcheckReport(order, worst["reverse"], worst["forward"], tolerance, directions)
