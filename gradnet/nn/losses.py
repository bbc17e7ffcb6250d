"""Losses: how far outputs are from targets, averaged over rows by their weights.

A loss is `loss(z, y, *, sample_weight=None, reduction="mean", check=True)`. "mean" is
sum(w l) / sum(w) over the losses l and weights w of all rows (and columns, where outputs have
several), which for weights of one is the plain mean, to the bit; "sum" is sum(w l), "none" w l.
`check=False` leaves the values of targets and weights unread.

Raised by all: ShapeError and DTypeError for outputs and targets that do not fit, DataError, which
names the row, for targets and weights out of range, and ValueError for other settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DataError, ShapeError
from gradnet.nn import targets
from gradnet.nn.names import unknown
from gradnet.ops.values import refuse_outside
from gradnet.tensor import Tensor

Loss = Callable[..., Tensor]

_LOSSES: dict[str, Loss] = {}


def loss(f: Loss) -> Loss:
    """Offer a loss by its name wherever one is named; use it as a decorator."""
    _LOSSES[f.__name__] = f
    return f


def names() -> tuple[str, ...]:
    """The names of all losses."""
    return tuple(_LOSSES)


def get(name: str | Loss) -> Loss:
    """The loss of that name; a function is returned as it is.

    Raises KeyError, with close matches, for an unknown name.
    """
    if callable(name):
        return name
    found = _LOSSES.get(name)
    if found is None:
        raise unknown("loss", name, _LOSSES)
    return found


def _total(name: str, weights: Tensor, check: bool) -> Tensor:
    """The sum of weights that a mean is divided by. Raises DataError where it is zero."""
    total = ops.sum(weights)
    if check:
        refuse_outside(ops.sign(total.detach()), 1, 1, _nothing, name, made=True)
    return total


def _nothing(name: str, i: int, value: Any) -> DataError:
    return DataError(f"{name}: the weights of all rows are zero, so there is nothing to average")


def reduced(
    name: str, losses: Tensor, weights: Tensor | None, reduction: str, check: bool
) -> Tensor:
    """Losses (n, ...) with weights (n,) or of their own shape, reduced."""
    if weights is not None and weights.ndim != losses.ndim:
        weights = ops.reshape(weights, (*weights.shape, *(1,) * (losses.ndim - 1)))
    if reduction == "mean":
        if weights is None:
            return ops.sum(losses * (1 / losses.size))
        # The same product and sum as without weights, so that weights of one change no bit.
        scale = weights / (_total(name, weights, check) * (losses.size / weights.size))
        return ops.sum(losses * scale)
    if weights is not None:
        losses = losses * weights
    return losses if reduction == "none" else ops.sum(losses)


def row_weights(name: str, sample_weight: Any, z: Tensor, check: bool) -> Tensor | None:
    """The weights of rows (n,), or None where there are none."""
    return None if sample_weight is None else targets.sample_weights(name, sample_weight, z, check)


# Classification


@loss
def cross_entropy(
    logits: Any,
    y: Any,
    *,
    label_smoothing: float = 0.0,
    class_weight: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    check: bool = True,
) -> Tensor:
    """-sum_j t_j log softmax(z)_j: logits (n, k), classes (n,) or probabilities (n, k) -> scalar.

    t is the target, as one-hot rows, mixed with the uniform distribution: (1 - s) t + s / k for a
    `label_smoothing` s (Szegedy et al. 2016, arXiv:1512.00567). A row weighs sample_weight times
    class_weight[y], for soft targets times the mean of class_weight under them.

    Raises ShapeError, DTypeError and DataError for logits and targets that do not go together.
    """
    z = targets.outputs("cross_entropy", logits, reduction)
    smoothing = targets.smoothing("cross_entropy", label_smoothing)
    if z.ndim != 2 or z.shape[1] < 2:
        raise ShapeError(
            f"cross_entropy takes logits (n, k) of at least two classes, got shape {z.shape}"
            + (
                "; one logit per row needs binary_cross_entropy"
                if z.shape[1:] in ((), (1,))
                else ""
            )
        )
    y = targets.beside(z, y)
    if y.ndim == 2 and y.shape == z.shape:
        y = targets.probabilities("cross_entropy", z, y, check)
    else:
        y = targets.classes("cross_entropy", z, y, check)
    weights = row_weights("cross_entropy", sample_weight, z, check)
    if class_weight is not None:
        per_class = targets.class_weights("cross_entropy", class_weight, z, z.shape[1], check)
        own = ops.take(per_class, y) if y.ndim == 1 else ops.matmul(y, per_class)
        weights = own if weights is None else weights * own
    scale: Tensor | float = 1.0 if weights is None else weights
    if reduction == "mean":
        scale = (
            1 / z.shape[0] if weights is None else weights / _total("cross_entropy", weights, check)
        )
    losses = ops.softmax_cross_entropy(z, y, scale, smoothing)
    return losses if reduction == "none" else ops.sum(losses)


@loss
def binary_cross_entropy(
    logits: Any,
    y: Any,
    *,
    label_smoothing: float = 0.0,
    class_weight: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    check: bool = True,
) -> Tensor:
    """-log sigmoid((2y - 1) z), from logits: (n,) or (n, m), targets 0 ... 1 of that shape.

    Computed as softplus((1 - 2y) z), or y softplus(-z) + (1 - y) softplus(z) for targets between.
    Label smoothing s moves targets to (1 - s) y + s / 2. `class_weight` has the weights of 0 and 1.
    """
    name = "binary_cross_entropy"
    z = targets.outputs(name, logits, reduction)
    smoothing = targets.smoothing(name, label_smoothing)
    given = targets.beside(z, y)
    z, y = targets.matched(name, z, given, check)
    if check:
        targets.check_range(name, y, 0, 1)
    weights = row_weights(name, sample_weight, z, check)
    if class_weight is not None:
        per_class = targets.class_weights(name, class_weight, z, 2, check)
        own = y * per_class[1] + (1 - y) * per_class[0]
        if weights is not None:
            own = own * ops.reshape(weights, (*weights.shape, *(1,) * (z.ndim - 1)))
        weights = own
    if smoothing:
        y = y * (1 - smoothing) + smoothing / 2
    if dtypes.is_floating(given.dtype) or smoothing:
        losses = y * ops.softplus(-z) + (1 - y) * ops.softplus(z)
    else:
        losses = ops.softplus((1 - 2 * y) * z)
    return reduced(name, losses, weights, reduction, check)


def _margins(name: str, z: Tensor, y: Any, check: bool) -> tuple[Tensor, Tensor | None]:
    """(sign times output, None) of two classes, or (z, classes) of more."""
    given = targets.beside(z, y)
    if z.ndim == 2 and z.shape[1] > 1 and given.shape != z.shape:
        return z, targets.classes(name, z, given, check)
    z, y = targets.matched(name, z, given, check)
    return z * targets.signs(name, y, check), None


def _of_class(z: Tensor, classes: Tensor) -> Tensor:
    """The output of each row's own class, (n, 1)."""
    return ops.take_along_axis(z, ops.expand_dims(classes, 1), axis=1)


@loss
def hinge(
    z: Any,
    y: Any,
    *,
    multiclass: str = "crammer_singer",
    sample_weight: Any = None,
    reduction: str = "mean",
    check: bool = True,
) -> Tensor:
    """max(0, 1 - y z) for targets -1 and 1 (or 0 and 1) of the shape of z.

    For outputs (n, k) and classes (n,): max(0, 1 + max_j z_j - z_y) over j != y (Crammer and
    Singer 2001), or sum_j max(0, 1 + z_j - z_y) with multiclass="weston_watkins" (1999).

    Raises ValueError for another kind of `multiclass`, ShapeError for targets of another shape.
    """
    if multiclass not in ("crammer_singer", "weston_watkins"):
        raise ValueError(
            f"hinge has multiclass 'crammer_singer' or 'weston_watkins', got {multiclass!r}"
        )
    z = targets.outputs("hinge", z, reduction)
    margin, classes = _margins("hinge", z, y, check)
    if classes is None:
        losses = ops.relu(1 - margin)
    else:
        own = ops.one_hot(classes, z.shape[1], dtype=dtypes.bool_)
        above = ops.relu(ops.where(own, 0.0, z - _of_class(z, classes) + 1))
        losses = (ops.max if multiclass == "crammer_singer" else ops.sum)(above, axis=1)
    weights = row_weights("hinge", sample_weight, z, check)
    return reduced("hinge", losses, weights, reduction, check)


@loss
def perceptron(
    z: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    reduction: str = "mean",
    check: bool = True,
) -> Tensor:
    """max(0, -y z) for targets -1 and 1 (or 0 and 1) of the shape of z.

    For outputs (n, k) and classes (n,): max_j z_j - z_y. Rosenblatt 1958.
    """
    z = targets.outputs("perceptron", z, reduction)
    margin, classes = _margins("perceptron", z, y, check)
    if classes is None:
        # Not relu: outputs of exactly 0, as at the start, must move too.
        losses: Tensor = ops.maximum(-margin, 0.0)
    else:
        losses = ops.max(z, axis=1) - ops.squeeze(_of_class(z, classes), 1)
    weights = row_weights("perceptron", sample_weight, z, check)
    return reduced("perceptron", losses, weights, reduction, check)


# Regression


@loss
def mse(
    z: Any, y: Any, *, sample_weight: Any = None, reduction: str = "mean", check: bool = True
) -> Tensor:
    """(z - y)^2, targets of the shape of z."""
    z, y = targets.matched("mse", targets.outputs("mse", z, reduction), y, check)
    weights = row_weights("mse", sample_weight, z, check)
    return reduced("mse", ops.square(z - y), weights, reduction, check)


@loss
def mae(
    z: Any, y: Any, *, sample_weight: Any = None, reduction: str = "mean", check: bool = True
) -> Tensor:
    """|z - y|, targets of the shape of z."""
    z, y = targets.matched("mae", targets.outputs("mae", z, reduction), y, check)
    weights = row_weights("mae", sample_weight, z, check)
    return reduced("mae", ops.abs(z - y), weights, reduction, check)


@loss
def huber(
    z: Any,
    y: Any,
    *,
    delta: float = 1.0,
    sample_weight: Any = None,
    reduction: str = "mean",
    check: bool = True,
) -> Tensor:
    """d^2 / 2 for d = |z - y| up to delta, delta (d - delta / 2) beyond. Huber 1964.

    Raises ValueError for a delta that is not above 0.
    """
    if not delta > 0:
        raise ValueError(f"huber takes a delta above 0, got {delta}")
    z, y = targets.matched("huber", targets.outputs("huber", z, reduction), y, check)
    distance = ops.abs(z - y)
    near = ops.minimum(distance, float(delta))
    losses = near * (distance - 0.5 * near)
    weights = row_weights("huber", sample_weight, z, check)
    return reduced("huber", losses, weights, reduction, check)


@loss
def quantile(
    z: Any,
    y: Any,
    *,
    q: float | Sequence[float] = 0.5,
    sample_weight: Any = None,
    reduction: str = "mean",
    check: bool = True,
) -> Tensor:
    """max(q e, (q - 1) e) for e = y - z: least where z is the q-quantile of y.

    One q: targets of the shape of z. Several, k of them: outputs (n, m k), a target's quantiles
    side by side, and targets (n, m), or (n,) for m = 1. Koenker and Bassett 1978.

    Raises ShapeError for outputs that are no multiple of the levels.
    """
    z = targets.outputs("quantile", z, reduction)
    levels = quantile_levels(q)
    given = targets.beside(z, y)
    above: Any = levels[0]
    if not isinstance(q, Sequence):
        z, y = targets.matched("quantile", z, given, check)
    else:
        k = len(levels)
        if z.ndim != 2 or z.shape[1] % k:
            raise ShapeError(
                f"quantile with {k} levels takes outputs (n, {k} m), got shape {z.shape}"
            )
        n, m = z.shape[0], z.shape[1] // k
        given = ops.reshape(given, (n, 1)) if given.shape == (n,) and m == 1 else given
        first, y = targets.matched("quantile", ops.reshape(z, (n, m, k))[..., 0], given, check)
        z, y = ops.reshape(z, (*first.shape, k)), ops.expand_dims(y, -1)
        above = ops.asarray(levels, dtype=z.dtype, backend=z.backend)
    short = y - z
    losses: Tensor = ops.maximum(above * short, (above - 1) * short)
    weights = row_weights("quantile", sample_weight, z, check)
    return reduced("quantile", losses, weights, reduction, check)


def quantile_levels(q: float | Sequence[float]) -> tuple[float, ...]:
    """The levels of quantiles. Raises ValueError for one outside 0 < q < 1, and for none."""
    levels = tuple(map(float, q)) if isinstance(q, Sequence) else (float(q),)
    if not levels or not all(0 < level < 1 for level in levels):
        raise ValueError(f"quantile takes levels in 0 < q < 1, at least one, got {q}")
    return levels
