"""Trainer: a model and all that says how it is trained; and `fit`, which makes and runs one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from gradnet.nn import Module
from gradnet.optim import Optimizer
from gradnet.precision import named
from gradnet.tensor import Tensor
from gradnet.training import build, checkpoints, checks, intake, metrics
from gradnet.training.callbacks import Callback, EarlyStopping
from gradnet.training.checkpoints import Checkpoint
from gradnet.training.evaluation import Evaluation, outputs
from gradnet.training.history import History
from gradnet.training.metrics import Metrics
from gradnet.training.objective import Objective
from gradnet.training.progress import progress as progress_callbacks
from gradnet.training.run import Run
from gradnet.training.sources import InMemory, Rows, Source
from gradnet.training.step import Step
from gradnet.training.steps import Steps
from gradnet.training.weights import ClassWeight, class_weights

Path = str | os.PathLike[str]


@dataclass
class Trainer:
    """A model, and how it is trained; `fit` trains it, `evaluate` measures, `predict` predicts.

    optimizer        name, {"name": ..., settings}, Optimizer, or function of parameters
    lr               learning rate, where the optimizer is not an object: its own default if None
    loss             name or function loss(z, y, sample_weight=None); that of `model.output` if None
    epochs           passes over the rows, at most
    batch_size       rows of a step; 1 is stochastic, None full-batch
    shuffle          rows in another order in each epoch, drawn from the seed
    early_stopping   epochs without a better value until it stops, or an EarlyStopping
    monitor          the column that decides what is best: "val_loss", else "loss", if None
    class_weight     "balanced", a mapping of classes to weights, or a sequence of weights
    label_smoothing  s of cross-entropy: targets (1 - s) t + s / k
    schedule         name, {"name": ..., settings}, Schedule, or function of the optimizer
    l1, l2           strength of the penalties sum |w| and sum w^2 on the weights of layers
    max_norm         largest norm of a unit's incoming weights
    clip_norm        largest norm of all gradients together
    metrics          names or functions of (y, prediction): if None those usual for the task
    train_metrics    whether to measure the metrics on the training rows too, after each epoch: if
                     None, where they are asked for and there is no validation set
    callbacks        Callback objects, called in this order
    device           "cpu", "cuda", "cuda:1": where to train; where the model is, if None
    precision        "float32", "float64": to which model and data are cast; "tf32", "bfloat16",
                     "float16": float32, with factors of products rounded to that, and for float16
                     a loss that is scaled, see `optim.LossScale`; the model's, if None
    seed             decides the validation rows, the order of rows, and dropout
    progress         True: a bar in a terminal, else lines, on standard error; False: nothing
    capture          whether steps are recorded once and replayed (`gradnet.capture`): if None,
                     where the run is long enough for that to pay
    checkpoint       file or folder to save the run to after each epoch, or a Checkpoint

    Raises TypeError and ValueError for options that cannot be used, naming them.
    """

    model: Module
    _: KW_ONLY
    optimizer: build.OptimizerLike = "adam"
    lr: float | None = None
    loss: str | Callable[..., Tensor] | None = None
    epochs: int = 50
    batch_size: int | None = 128
    shuffle: bool = True
    early_stopping: int | EarlyStopping | None = None
    monitor: str | None = None
    class_weight: ClassWeight = None
    label_smoothing: float = 0.0
    schedule: build.ScheduleLike = None
    l1: float = 0.0
    l2: float = 0.0
    max_norm: float | None = None
    clip_norm: float | None = None
    metrics: Metrics = None
    train_metrics: bool | None = None
    callbacks: Sequence[Callback] = ()
    device: str | None = None
    precision: Any = None
    seed: int = 0
    progress: bool | str = True
    capture: bool | None = None
    checkpoint: Path | Checkpoint | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, Module):
            raise TypeError(
                f"fit trains a gradnet.nn.Module, not {type(self.model).__name__}; for the "
                "scikit-learn way see gradnet.estimators"
            )
        self.epochs = checks.whole("epochs", self.epochs, 1)
        if self.batch_size is not None:
            hint = "; None is full-batch"
            self.batch_size = checks.whole("batch_size", self.batch_size, 1, hint=hint)
        self.seed = checks.whole("seed", self.seed, 0, 2**64 - 1)
        if self.lr is not None:
            self.lr = checks.number("lr", self.lr, above=0.0)
        self.l1, self.l2 = checks.number("l1", self.l1), checks.number("l2", self.l2)
        for name in ("max_norm", "clip_norm"):
            if getattr(self, name) is not None:
                setattr(self, name, checks.number(name, getattr(self, name), above=0.0))
        self.precision = None if self.precision is None else named(self.precision)
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"callbacks are gradnet.training.Callback objects, got {callback!r:.80}"
                )
        self.objective = Objective(self.model, self.loss, self.label_smoothing)
        self._metrics = metrics.select(self.metrics, self.objective.task)
        build.check_names(self.optimizer, self.schedule)
        progress_callbacks(self.progress)

    # What users call

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        validation: Any = None,
        resume: Path | None = None,
    ) -> History:
        """Train the model on rows; see `fit` of this module for the arguments and errors."""
        like, moved = build.place(self.model, self.device, self.precision)
        optimizer = build.optimizer(self.optimizer, self.model, self.lr, moved)
        data = intake.Intake(self.model, self.objective, like)
        source, evaluations = self._data(data, X, y, sample_weight, validation)
        _check_closure(self, optimizer, source.steps)
        schedule = build.schedule(self.schedule, optimizer, self.epochs, source.steps)
        step = Step(
            self.model,
            self.objective,
            optimizer,
            schedule,
            l1=self.l1,
            l2=self.l2,
            max_norm=self.max_norm,
            clip_norm=self.clip_norm,
            scale=build.loss_scale(self.model, optimizer),
        )
        run = Run(
            Steps(step, self.capture, self.epochs, source),
            source,
            epochs=self.epochs,
            seed=self.seed,
            callbacks=self._callbacks(),
            evaluations=evaluations,
            settings={
                "rows": source.rows,
                "batch_size": self.batch_size,
                "shuffle": self.shuffle,
                "seed": self.seed,
                "precision": self.model.product_precision or like.dtype.name,
            },
        )
        if resume is not None:
            with checkpoints.reading(resume):
                run.load_state_dict(checkpoints.read(resume, like))
        return run.go()

    def evaluate(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> dict[str, float]:
        """Loss and metrics on rows, or on a data set that streams: {"loss": ..., "accuracy": ...}.

        The loss is weighed by rows, not by classes.
        """
        data = intake.Intake(self.model, self.objective, build.reference(self.model))
        if y is None and intake.streams(X):
            return self._evaluation(partial(data.stream(X).epoch, 0))()
        rows = data.rows(X, y, sample_weight)
        return self._evaluation(partial(iter, [rows]))()

    def predict(self, X: Any) -> Any:
        """What the model predicts for features (n, ...), a Tensor of n rows.

        Probabilities of classes, values, or for a gaussian output mean and variance.
        """
        like = build.reference(self.model)
        data = intake.Intake(self.model, self.objective, like)
        x = checks.features(X, self.model, like)
        data.probe(x)
        return self.objective.predict(outputs(self.model, x))

    # How a run is put together

    def _data(
        self, data: intake.Intake, X: Any, y: Any, sample_weight: Any, validation: Any
    ) -> tuple[Source, dict[str, Evaluation]]:
        """Where batches come from, and the evaluations after each epoch by their prefix."""
        rows: Rows | None = None
        if y is None and intake.streams(X):
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight goes with arrays; a data set that streams gives batches "
                    "(X, y, sample_weight)"
                )
            stream = data.stream(X)
            example = stream.first
        else:
            rows = example = data.rows(X, y, sample_weight)
        held: Callable[[], Iterable[Rows]] | None = None
        if intake.is_data(validation):
            held = data.validation(validation, example.x.shape[1:])
        elif share := intake.fraction_of(validation):
            if rows is None:
                raise ValueError(
                    "a data set that streams cannot be split: validation must be (X, y) or "
                    f"another data set, not {validation!r}"
                )
            rows, part = intake.split(rows, share, self.seed, self.objective.task)
            held = partial(iter, [part])
        by_class = class_weights(
            self.class_weight,
            None if rows is None else rows.y,
            self.objective.classes(data.probe(example.x)),
            data.like,
            None if rows is None else rows.weight,
        )
        evaluations: dict[str, Evaluation] = {}
        if self._wants_train_metrics(held is not None):
            own = partial(stream.epoch, 0) if rows is None else partial(iter, [rows])
            evaluations[""] = self._evaluation(own, by_class)
        if held is not None:
            evaluations["val_"] = self._evaluation(held, by_class)
        if rows is not None:
            return InMemory(rows.weighed(by_class), self.batch_size, self.shuffle), evaluations
        stream.by_class = by_class
        return stream, evaluations

    def _evaluation(
        self, batches: Callable[[], Iterable[Rows]], by_class: Tensor | None = None
    ) -> Evaluation:
        return Evaluation(self.model, self.objective, self._metrics, batches, by_class)

    def _wants_train_metrics(self, has_validation: bool) -> bool:
        if self.train_metrics is not None:
            return self.train_metrics
        watched = self.monitor or getattr(self.early_stopping, "monitor", None)
        return watched in [m.name for m in self._metrics] or (
            self.metrics is not None and not has_validation
        )

    def _callbacks(self) -> list[Callback]:
        """All callbacks in the order of their turns: what decides comes before what saves."""
        stopping = self.early_stopping
        own = [c for c in self.callbacks if isinstance(c, EarlyStopping)]
        if isinstance(stopping, EarlyStopping):
            if self.monitor is not None and self.monitor != stopping.monitor:
                raise ValueError(
                    f"monitor is {self.monitor!r}, but early_stopping watches "
                    f"{stopping.monitor!r}; give it in one place"
                )
            own = [stopping, *own]
        elif stopping is not None or not own:
            own = [
                EarlyStopping(stopping, monitor=self.monitor, restore_best=stopping is not None),
                *own,
            ]
        if len(own) > 1:
            raise ValueError("early stopping is given twice; give it as early_stopping alone")
        others = [c for c in self.callbacks if not isinstance(c, EarlyStopping | Checkpoint)]
        saving = [c for c in self.callbacks if isinstance(c, Checkpoint)]
        if self.checkpoint is not None:
            given = self.checkpoint
            saving.append(given if isinstance(given, Checkpoint) else Checkpoint(given))
        return [*own, *others, *saving, *progress_callbacks(self.progress)]


def _check_closure(trainer: Trainer, optimizer: Optimizer, steps: int | None) -> None:
    """Raise ValueError for what an optimizer that searches along a line cannot work with."""
    if not optimizer.needs_closure:
        return
    name = type(optimizer).__name__
    if steps != 1:
        raise ValueError(
            f"{name} compares losses at several points and needs all rows in each step; "
            "pass batch_size=None, or use another optimizer"
        )
    if trainer.clip_norm is not None:
        raise ValueError(f"{name} needs true gradients; leave out clip_norm")


def fit(
    model: Module,
    X: Any,
    y: Any = None,
    *,
    optimizer: build.OptimizerLike = "adam",
    lr: float | None = None,
    loss: str | Callable[..., Tensor] | None = None,
    epochs: int = 50,
    batch_size: int | None = 128,
    shuffle: bool = True,
    validation: Any = None,
    sample_weight: Any = None,
    early_stopping: int | EarlyStopping | None = None,
    monitor: str | None = None,
    class_weight: ClassWeight = None,
    label_smoothing: float = 0.0,
    schedule: build.ScheduleLike = None,
    l1: float = 0.0,
    l2: float = 0.0,
    max_norm: float | None = None,
    clip_norm: float | None = None,
    metrics: Metrics = None,
    train_metrics: bool | None = None,
    callbacks: Sequence[Callback] = (),
    device: str | None = None,
    precision: Any = None,
    seed: int = 0,
    progress: bool | str = True,
    capture: bool | None = None,
    checkpoint: Path | Checkpoint | None = None,
    resume: Path | None = None,
) -> History:
    """Train a model on rows and return what was measured, epoch by epoch.

    X, y           features (n, ...) and targets: classes (n,), probabilities (n, k) or values
                   (n,), (n, m); or X alone, a data set whose iteration gives batches (X, y) or
                   (X, y, sample_weight), such as `gradnet.data.stream` returns
    validation     a fraction to hold out (of classes in equal shares), (X, y), (X, y,
                   sample_weight), or another data set
    sample_weight  a weight >= 0 per row: one of 2 counts as the row twice, one of 0 as no row;
                   losses are divided by the sum of weights
    resume         a checkpoint to go on from, to the same bits as an uninterrupted run

    All others are those of `Trainer`. Data are moved to the device once, and batches gathered
    there. The loss of an epoch is the weighted mean over its rows, without penalties. The model
    ends in evaluation mode. Ctrl-C ends the run after a whole step, saves a checkpoint if there
    is one, and raises TrainingInterrupted, a KeyboardInterrupt with the `history`.

    Raises DataError, ShapeError and DTypeError for data that cannot be used, ValueError and
    TypeError for options, and NotFinite, a TrainingError, where NaN or infinity arises: it names
    epoch, batch and layer.
    """
    trainer = Trainer(
        model,
        optimizer=optimizer,
        lr=lr,
        loss=loss,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        early_stopping=early_stopping,
        monitor=monitor,
        class_weight=class_weight,
        label_smoothing=label_smoothing,
        schedule=schedule,
        l1=l1,
        l2=l2,
        max_norm=max_norm,
        clip_norm=clip_norm,
        metrics=metrics,
        train_metrics=train_metrics,
        callbacks=callbacks,
        device=device,
        precision=precision,
        seed=seed,
        progress=progress,
        capture=capture,
        checkpoint=checkpoint,
    )
    return trainer.fit(X, y, sample_weight=sample_weight, validation=validation, resume=resume)
