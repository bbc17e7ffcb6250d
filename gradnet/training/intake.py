"""Intake: what users pass as data, checked and moved to where the model is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from typing import Any

from gradnet import dtypes, ops
from gradnet.autodiff import no_grad
from gradnet.errors import DataError, DTypeError, ShapeError
from gradnet.nn import Module
from gradnet.tensor import Tensor
from gradnet.training import checks
from gradnet.training.evaluation import outputs
from gradnet.training.objective import Objective
from gradnet.training.sources import Rows, Streamed
from gradnet.training.weights import sample_weights


def streams(x: Any) -> bool:
    """Whether x is an object whose iteration gives batches, not an array.

    Raises TypeError for an iterator, which would be used up after one epoch.
    """
    if isinstance(x, list | tuple):
        return bool(x) and isinstance(x[0], tuple) and hasattr(x[0][0], "__len__")
    array = isinstance(x, Tensor | str | bytes | dict) or hasattr(x, "__array__")
    if array or hasattr(x, "__dlpack__") or not hasattr(x, "__iter__"):
        return False
    if iter(x) is x:
        raise TypeError(
            f"a {type(x).__name__} is used up after one epoch; pass an object whose iteration "
            "starts anew, such as gradnet.data.stream(...) or a list of (X, y)"
        )
    return True


class Intake:
    """Checks data against a model and puts it beside the model's parameters."""

    def __init__(self, model: Module, objective: Objective, like: Tensor) -> None:
        self.model = model
        self.objective = objective
        self.like = like
        self._outputs: Tensor | None = None  # of a row that the model has taken

    def rows(
        self,
        x: Any,
        y: Any,
        weight: Any,
        names: tuple[str, str, str] = ("X", "y", "sample_weight"),
        *,
        thorough: bool = True,
    ) -> Rows:
        """Features, targets and weights as tensors that fit the model and one another.

        `thorough` also has model and loss look at them, which later batches of a stream need not.
        Raises TypeError, DTypeError, ShapeError and DataError, naming what is wrong and where.
        """
        inputs = checks.features(x, self.model, self.like, names[0])
        raw = checks.tensor(names[1], y, self.like)
        checks.same_rows(inputs, raw, names[:2])
        checks.finite(names[1], raw, y)
        if thorough or self._outputs is None:
            self._outputs = self.probe(inputs, names[0])
        targets = self.objective.targets(raw, self._outputs)
        weights = sample_weights(weight, self.like, inputs.shape[0], names[2])
        if thorough:
            self._try_loss(self._outputs, targets, weights)
        return Rows(inputs, targets, weights)

    def probe(self, x: Tensor, name: str = "X") -> Tensor:
        """The raw outputs for the first row. Raises ShapeError where the model refuses it."""
        try:
            z = outputs(self.model, x[:1])
        except (ShapeError, DTypeError, IndexError) as error:
            raise ShapeError(
                f"the model does not take {name} of shape {x.shape}: {error}"
            ) from error
        if not isinstance(z, Tensor) or not z.ndim or not dtypes.is_inexact(z.dtype):
            raise TypeError(f"fit needs a model that returns one floating Tensor, not {z!r:.80}")
        return z

    def _try_loss(self, z: Tensor, y: Tensor, weight: Tensor | None) -> None:
        """Have the loss check all targets, on outputs of zero: what it refuses is the targets."""
        if weight is not None and not self.objective.takes_weights:
            raise ValueError(
                "rows are weighed, but the loss does not take them: give it an argument "
                "sample_weight=None"
            )
        zeros = ops.zeros((y.shape[0], *z.shape[1:]), dtype=z.dtype, backend=z.backend)
        with no_grad():
            loss = self.objective.loss(zeros, y, weight, check=True)
        if not isinstance(loss, Tensor) or loss.size != 1:
            what = f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ShapeError(f"the loss must return a Tensor of one value, got {what}")

    def batch(self, item: Any, number: int) -> Rows:
        """A batch (X, y) or (X, y, weight) of a data set that streams."""
        if not isinstance(item, tuple | list) or len(item) not in (2, 3):
            raise DataError(
                f"batch {number + 1} of the data set is a {type(item).__name__}; expected a tuple "
                "(X, y) or (X, y, sample_weight)"
            )
        weight = item[2] if len(item) == 3 else None
        names = (f"X of batch {number + 1}", f"y of batch {number + 1}", "sample_weight")
        return self.rows(item[0], item[1], weight, names, thorough=self._outputs is None)

    def stream(self, dataset: Any) -> Streamed:
        """The source of a data set that streams. Raises DataError where it has no batch."""
        return Streamed(dataset, self.batch)

    def validation(self, given: Any, shape: tuple[int, ...]) -> Callable[[], Iterable[Rows]]:
        """What gives the rows of a validation set, (X, y), (X, y, weight) or one that streams.

        `shape` is that of a training row. Raises ShapeError for rows of another.
        """
        if streams(given):
            source = self.stream(given)
            return partial(source.epoch, 0)
        x, y, *weight = given
        names = ("validation's X", "validation's y", "validation's sample_weight")
        rows = self.rows(x, y, weight[0] if weight else None, names)
        if rows.x.shape[1:] != shape:
            raise ShapeError(
                f"validation's X has rows of shape {rows.x.shape[1:]}, X of shape {shape}; "
                "expected the same features"
            )
        return partial(iter, [rows])


def is_data(validation: Any) -> bool:
    """Whether a validation set is given, not a fraction to split off."""
    pair = isinstance(validation, tuple | list) and len(validation) in (2, 3)
    return pair or streams(validation)


def fraction_of(validation: Any) -> float:
    """The part of the rows to hold out, 0 for None and False.

    Raises TypeError for what is no number.
    """
    if validation is None or validation is False:
        return 0.0
    if validation is True or not isinstance(validation, Real):
        raise TypeError(
            "validation must be a fraction, (X, y) or (X, y, sample_weight), or a data set, not "
            f"{type(validation).__name__}"
        )
    return float(validation)


def split(rows: Rows, fraction: float, seed: int, task: str | None) -> tuple[Rows, Rows]:
    """Training and validation rows, of classes in equal shares, by the seed alone.

    Raises DataError for a fraction outside (0, 1) or too few rows.
    """
    from gradnet.data import splits

    by_class = task == "classification" and rows.y.ndim == 1
    labels = rows.y.numpy() if by_class and not dtypes.is_inexact(rows.y.dtype) else rows.rows
    kept, held = splits.split(labels, fraction, seed=seed, purpose="validation")
    backend = rows.x.backend
    return rows.take(ops.asarray(kept, backend=backend)), rows.take(
        ops.asarray(held, backend=backend)
    )
