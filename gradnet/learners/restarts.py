"""Random restarts: the minima that one network finds from many starts, all trained at once."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

from gradnet import ops, optim
from gradnet.autodiff import is_grad_enabled, no_grad
from gradnet.errors import TrainingError
from gradnet.nn import MLP, BatchedMLP
from gradnet.nn.outputs import OutputUnit
from gradnet.tensor import Tensor
from gradnet.training import Callback, History, Run, Trainer


class Spread(NamedTuple):
    """How the losses that the members ended with are spread.

    lowest, median, highest  of them
    minima                   (loss, members) of each minimum found, losses rising: those that lie
                             within the tolerance of the one before are taken for the same
    """

    lowest: float
    median: float
    highest: float
    minima: list[tuple[float, int]]


class _Sum:
    """The sum of the members' losses, as what is minimised.

    Each member's add up in a tensor, not in Python, so that steps can be replayed from a recording.
    """

    def __init__(self, model: BatchedMLP) -> None:
        like = next(model.parameters())
        self.unit = model.output
        self.total = ops.zeros((model.members,), dtype=like.dtype, backend=like.backend)

    def __call__(self, z: Tensor, y: Tensor, *, check: bool = False) -> Tensor:
        losses = self.unit.member_losses(z, y, check=check)
        if is_grad_enabled():
            self.total.assign_(self.total + losses.detach() * z.shape[0])
        return ops.sum(losses)


class _Trace(Callback):
    """Keeps the mean loss of each member, epoch by epoch."""

    def __init__(self, total: Tensor, rows: int) -> None:
        self.total, self.rows = total, rows
        self.trace: list[list[float]] = []

    def on_epoch_start(self, run: Run) -> None:
        self.total.assign_(self.total * 0)

    def on_epoch_end(self, run: Run) -> None:
        self.trace.append((self.total / self.rows).tolist())


class Restarts:
    """R copies of one network from R random starts, trained side by side; the best one predicts.

        for every r:  w_r = random weights of the seed + r
        for every batch B:
            for every r at once:  w_r = w_r - lr d/dw loss(w_r, B)
        predict by the w_r with the lowest loss

    The copies are one network with a further axis (`nn.BatchedMLP`), under one optimizer: each
    takes the steps that it would take alone, at about the cost of one. The arguments are those of
    `nn.MLP` and `gradnet.fit`.

    losses   the loss of each member on all rows, at the end
    trace    the mean loss of each member in each epoch: a list of R numbers for each
    best     the member with the lowest loss
    model    the `nn.BatchedMLP`; `history` of its training, whose loss is the members' sum
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        output: str | Mapping[str, Any] | OutputUnit = "sigmoid",
        *,
        members: int = 100,
        optimizer: str | Mapping[str, Any] = "adam",
        lr: float | None = 0.02,
        epochs: int = 100,
        batch_size: int | None = 32,
        activation_operands: dict[str, Any] | None = None,
        init: str | None = None,
        capture: bool | None = None,
        seed: int = 0,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        self._network: dict[str, Any] = {
            "members": members,
            "sizes": sizes,
            "activation": activation,
            "output": output,
            "activation_operands": activation_operands,
            "init": init,
            "seed": seed,
            "dtype": dtype,
            "device": device,
        }
        settings = {} if lr is None else {"lr": lr}
        name = {"name": optimizer} if isinstance(optimizer, str) else dict(optimizer)
        self._optimizer: dict[str, Any] = {**settings, **name}
        self._training: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "capture": capture,
            "seed": seed,
        }
        self.trace: list[list[float]] = []
        self.history: History | None = None
        self.losses: list[float] = []

    def __repr__(self) -> str:
        return f"Restarts({self._network['sizes']}, members={self._network['members']})"

    def fit(self, X: Any, y: Any) -> Self:
        """Train all members on rows X (n, k) and targets y, those of the output unit."""
        self.model = BatchedMLP(**self._network)
        settings = dict(self._optimizer)
        optimizer = optim.create(settings.pop("name"), self.model.parameters(), **settings)
        if optimizer.needs_closure:
            raise ValueError(
                f"members cannot share the line search of {type(optimizer).__name__}; use an "
                "optimizer that works element by element, such as adam or sgd"
            )
        loss = _Sum(self.model)
        kept = _Trace(loss.total, len(X))
        options: dict[str, Any] = {"optimizer": optimizer, **self._training}
        trainer = Trainer(self.model, loss=loss, callbacks=[kept], progress=False, **options)
        self.history, self.trace = trainer.fit(X, y), kept.trace
        like = next(self.model.parameters())
        with no_grad():
            z = self.model(ops.asarray(X, dtype=like.dtype, backend=like.backend))
            targets = trainer.objective.targets(ops.asarray(y, backend=like.backend), z[:1])
            self.losses = self.model.output.member_losses(z, targets).tolist()
        return self

    @property
    def best(self) -> int:
        """The member with the lowest loss. Raises TrainingError before `fit`."""
        if not self.losses:
            raise TrainingError("these Restarts have not been trained yet; call fit first")
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    def member(self, r: int | None = None) -> MLP:
        """Member r, by default the best, as a network of its own."""
        best = self.best
        return self.model.member(best if r is None else r)

    def predict(self, X: Any) -> Any:
        """What the best member predicts: probabilities of classes, or values."""
        return Trainer(self.member(), progress=False).predict(X)

    def spread(self, tolerance: float = 0.05) -> Spread:
        """How the members' losses are spread.

        Minima differ by more than `tolerance` times the way from the lowest loss to the highest.
        """
        lowest = self.losses[self.best]
        ordered = sorted(self.losses)
        apart = tolerance * (ordered[-1] - lowest)
        minima: list[list[float]] = [[lowest]]
        for before, loss in pairwise(ordered):
            if loss - before > apart:
                minima.append([])
            minima[-1].append(loss)
        return Spread(
            lowest,
            statistics.median(ordered),
            ordered[-1],
            [(statistics.fmean(group), len(group)) for group in minima],
        )
