"""Losses that are the negative logarithm of a distribution whose parameters the network puts out.

They are losses like those of `nn.losses`, with its arguments, errors and registry.
"""

from __future__ import annotations

import math
from typing import Any

from gradnet import ops
from gradnet.errors import ShapeError
from gradnet.nn import targets
from gradnet.nn.losses import loss, reduced, row_weights
from gradnet.tensor import Tensor

VARIANCE_FLOOR = 1e-6
_LOG_2_PI = math.log(2 * math.pi)


def _column(y: Tensor, rows: int, columns: int) -> Tensor:
    """Targets (n,) of one column as (n, 1)."""
    return ops.reshape(y, (rows, 1)) if columns == 1 and y.shape == (rows,) else y


def _variance(raw: Tensor) -> Tensor:
    v: Tensor = ops.softplus(raw) + VARIANCE_FLOOR
    return v


# One normal distribution


def gaussian_parameters(z: Any) -> tuple[Tensor, Tensor]:
    """Mean and variance from raw outputs: (n, 2m) -> (n, m), (n, m).

    The first half of the columns is the mean, the second makes the variance, positive as
    softplus(raw) + 1e-6. Raises ShapeError for an odd number of columns.
    """
    z = ops.asarray(z)
    if z.ndim != 2 or z.shape[1] % 2:
        raise ShapeError(
            f"gaussian_nll takes outputs (n, 2m), m means and then m raw variances, got shape "
            f"{z.shape}"
        )
    m = z.shape[1] // 2
    return z[:, :m], _variance(z[:, m:])


@loss
def gaussian_nll(
    z: Any, y: Any, *, sample_weight: Any = None, reduction: str = "mean", check: bool = True
) -> Tensor:
    """(log(2 pi v) + (y - mean)^2 / v) / 2: outputs (n, 2m), targets (n, m) or (n,) for m = 1.

    Mean and variance v are those of `gaussian_parameters`: v is learned, as softplus of the raw
    output. Nix and Weigend 1994.
    """
    z = targets.outputs("gaussian_nll", z, reduction)
    mean, variance = gaussian_parameters(z)
    given = _column(targets.beside(z, y), *mean.shape)
    mean, y = targets.matched("gaussian_nll", mean, given, check)
    losses = 0.5 * (ops.log(variance) + ops.square(y - mean) / variance + _LOG_2_PI)
    weights = row_weights("gaussian_nll", sample_weight, z, check)
    return reduced("gaussian_nll", losses, weights, reduction, check)


# Several normal distributions


def mixture_parameters(z: Any, targets: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and variances of K components for m targets from raw outputs.

    (n, K (1 + 2m)) -> (n, K), (n, K, m), (n, K, m). The first K columns make the weights by
    softmax, the next K m are the means, a component's side by side, the last K m make the
    variances as softplus(raw) + 1e-6. Raises ShapeError for columns that are no such number.
    """
    logits, means, raw = mixture_columns(ops.asarray(z), targets)
    return ops.softmax(logits), means, _variance(raw)


def mixture_columns(z: Tensor, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (n, K), means and raw variances (n, K, m) of a mixture's raw outputs.

    Raises ShapeError for another number of columns than K (1 + 2m).
    """
    if z.ndim != 2 or not z.shape[1] or z.shape[1] % (1 + 2 * m):
        raise ShapeError(
            f"mixture_nll takes outputs (n, K (1 + 2m)) of K components for m targets, a multiple "
            f"of {1 + 2 * m} columns for m = {m}, got shape {z.shape}"
        )
    n, k = z.shape[0], z.shape[1] // (1 + 2 * m)
    split = k + k * m
    shape = (n, k, m)
    return z[:, :k], ops.reshape(z[:, k:split], shape), ops.reshape(z[:, split:], shape)


def mixture_terms(logits: Tensor, means: Tensor, variances: Tensor, y: Tensor) -> Tensor:
    """log w_k + log N(y; mean_k, v_k) of each component: (..., K, m) and y (..., m) -> (..., K)."""
    far = ops.square(ops.expand_dims(y, -2) - means) / variances
    return ops.log_softmax(logits) - 0.5 * ops.sum(far + ops.log(variances) + _LOG_2_PI, axis=-1)


@loss
def mixture_nll(
    z: Any, y: Any, *, sample_weight: Any = None, reduction: str = "mean", check: bool = True
) -> Tensor:
    """-log sum_k w_k N(y; mean_k, v_k): outputs (n, K (1 + 2m)), targets (n, m) or (n,).

    Weights, means and variances are those of `mixture_parameters`; the sum is taken by logsumexp,
    so that targets far from all components keep a finite loss. A loss per row. Bishop 1994,
    Mixture Density Networks.

    Raises ShapeError for targets of other shapes, or outputs of another number of columns.
    """
    z = targets.outputs("mixture_nll", z, reduction)
    y = targets.beside(z, y)
    if y.ndim == 1:
        y = ops.expand_dims(y, 1)
    if y.ndim != 2 or y.shape[0] != z.shape[0]:
        raise ShapeError(
            f"mixture_nll got outputs of shape {z.shape} and targets of shape {y.shape}; expected "
            "targets (n, m), or (n,) for m = 1"
        )
    logits, means, raw = mixture_columns(z, y.shape[1])
    _, y = targets.matched("mixture_nll", means[:, 0], y, check)
    losses = -ops.logsumexp(mixture_terms(logits, means, _variance(raw), y), axis=1)
    weights = row_weights("mixture_nll", sample_weight, z, check)
    return reduced("mixture_nll", losses, weights, reduction, check)


# Counts


@loss
def poisson_nll(
    z: Any, y: Any, *, sample_weight: Any = None, reduction: str = "mean", check: bool = True
) -> Tensor:
    """exp(z) - y z: z is the logarithm of the expected count, targets counts of the shape of z.

    The negative log-likelihood of a Poisson distribution of the rate exp(z), without log(y!),
    which no output changes. Targets may be fractions, but not negative.
    """
    z, y = targets.matched("poisson_nll", targets.outputs("poisson_nll", z, reduction), y, check)
    if check:
        targets.check_range("poisson_nll", y, 0, math.inf)
    weights = row_weights("poisson_nll", sample_weight, z, check)
    return reduced("poisson_nll", ops.exp(z) - y * z, weights, reduction, check)
