"""Loss scaling: gradients that float16 can hold, by a factor that finds its own size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from gradnet import formulas, host, ops
from gradnet.autodiff import no_grad
from gradnet.errors import DTypeError, GraphError
from gradnet.ops.traced import bind_to_tensors
from gradnet.optim.clipping import mark, pieces
from gradnet.optim.flat import Flat
from gradnet.optim.group import Group
from gradnet.optim.optimizer import Optimizer
from gradnet.optim.settings import POSITIVE, whole
from gradnet.tensor import Tensor

__all__ = ["LossScale"]

_LOWEST, _HIGHEST = 2.0**-24, 2.0**32
_WHERE: Any = formulas.where


class LossScale(host.Stateful):
    """Steps of an optimizer on gradients of a scaled loss, skipped where those are not finite.

        scale = optim.LossScale(optimizer)
        scale(loss).backward()                  # gradients times the scale
        finite = scale.unscale()                # gradients, and whether all are finite
        scale.step(finite)                      # in place of optimizer.step()

    After `interval` finite steps in a row the scale is doubled; gradients that are not finite halve
    it, and leave parameters, moments and the optimizer's count of steps as they are. All this
    happens on the device: no value is read, so that a step can be captured. The optimizer's own
    count of steps is brought up to date by `settle`, before its state is saved.

    The count is one for all parameters of a buffer.
    Raises ValueError for an optimizer that has a step of its own, DTypeError for parameters of 16
    bits, which have lost the small changes that the scale is to keep.
    Micikevicius et al. 2018, arXiv:1710.03740.
    """

    def __init__(
        self, optimizer: Optimizer, *, initial: float = 2.0**16, interval: int = 2000
    ) -> None:
        kind = type(optimizer).__name__
        if type(optimizer).step is not Optimizer.step or optimizer.needs_closure:
            raise ValueError(
                f"{kind} looks at its gradients by itself, so that a scaled loss would mislead it; "
                "use another optimizer, or precision='bfloat16', which needs no scale"
            )
        self.optimizer = optimizer
        self.interval = whole(1)("LossScale", "interval", interval)
        for group in optimizer.groups:
            for flat in group.flats:
                if flat.dtype.itemsize < 4:
                    raise DTypeError(
                        f"LossScale: {kind} has {flat.dtype.name} parameters; keep those in "
                        "float32 and round products alone, with precision='float16'"
                    )
        like = next(iter(optimizer.watched()))
        start = POSITIVE("LossScale", "initial", initial)
        place: dict[str, Any] = {"dtype": "float32", "backend": like.backend}
        self.scale, self.good, self.skipped = (
            ops.full((), value, **place) for value in (start, 0.0, 0.0)
        )
        self._progress: WeakKeyDictionary[Flat, tuple[Tensor, ...]] = WeakKeyDictionary()

    def watched(self) -> Any:
        """The optimizer, and the tensors that are carried from step to step."""
        yield self.optimizer
        yield from (self.scale, self.good, self.skipped)

    def snapshot(self) -> Any:
        return None

    def rewind(self, snapshot: Any) -> None:
        """Nothing to go back to: it has no numbers on the host."""

    def __call__(self, loss: Tensor) -> Tensor:
        """The loss times the scale."""
        return loss * self.scale

    def unscale(self) -> Tensor:
        """Divide all gradients by the scale; a bool tensor tells whether all of them are finite."""
        parameters = list(self.optimizer.watched())
        finite: Tensor | None = None
        with no_grad():
            inverse = 1.0 / self.scale
            for piece in pieces(parameters):
                ops.multiply.into(piece, ops.astype(inverse, piece.dtype, copy=False))
                well = ops.all(ops.elementwise("isfinite")(piece))
                finite = well if finite is None else ops.elementwise("logical_and")(finite, well)
            mark(parameters)
        if finite is None:
            raise GraphError("LossScale: there are no gradients; call backward on the loss first")
        return finite

    def step(self, finite: Tensor) -> None:
        """The optimizer's step where `finite` holds, else none; then adapt the scale."""
        with no_grad():
            for group in self.optimizer.groups:
                for flat in group.flats:
                    self._step(group, flat, finite)
            good = self.good + 1.0
            grown = good >= float(self.interval)
            doubled = ops.where(grown, ops.minimum(self.scale * 2.0, _HIGHEST), self.scale)
            halved = ops.maximum(self.scale * 0.5, _LOWEST)
            self.scale.assign_(ops.where(finite, doubled, halved))
            self.good.assign_(ops.where(finite, ops.where(grown, 0.0, good), 0.0))
            self.skipped.assign_(ops.where(finite, self.skipped, self.skipped + 1.0))

    def _step(self, group: Group, flat: Flat, finite: Tensor) -> None:
        """A step of one buffer: its parameters that have gradients."""
        optimizer, update = self.optimizer, self.optimizer.update(group)
        runs = [(0, len(flat.parameters))] if flat.ready() else flat.runs()
        arrays = flat.arrays(update, group.initial)
        before: Any = self._counts(group, flat)
        others = _others(group)
        numbers = host.run(self._numbers, group, flat, arrays, others)
        values: Any = [ops.full((), x, dtype=flat.dtype, backend=flat.backend) for x in numbers]
        after: tuple[Any, ...] = (before[0] + 1.0,)
        if optimizer.counted:
            count = len(optimizer.start)
            rates = [1 - b for b in optimizer.decays(group)]
            decayed: Any = [d + r * (1.0 - d) for d, r in zip(before[count:], rates, strict=True)]
            settings: Any = {**others, "lr": values[0]}
            progress, values = optimizer.advance(settings, before[:count], decayed)
            after = (*progress, *decayed)
        for run in runs:
            parts = [flat.span(array, run) for array in arrays]
            old = [Tensor.wrap(array, flat.backend) for array in parts]
            new = bind_to_tensors(update.formula)(*old, *values)
            for target, value in zip((parts[0], *parts[2:]), new, strict=True):
                operands = (finite.array, value.array, target)
                flat.backend.map(_WHERE, *operands, dtype=flat.dtype, out=target)
        for tensor, value in zip(before, after, strict=False):
            tensor.assign_(ops.where(finite, value, tensor))
        flat.changed()

    def _numbers(self, group: Group, flat: Flat, arrays: Any, others: Any) -> tuple[float, ...]:
        """What a step takes from the host: the scalars, or what they are computed from."""
        optimizer = self.optimizer
        if not flat.holds(optimizer.update(group), arrays):
            raise host.Stale
        if not optimizer.counted:
            return optimizer.scalars(group, 1)
        if others != _others(group):
            raise host.Stale
        return (group["lr"],)

    # The optimizer's count of steps

    def _counts(self, group: Group, flat: Flat) -> tuple[Tensor, ...]:
        """How far the optimizer has come with a buffer: its progress, and 1 - b**t."""
        found = self._progress.get(flat)
        if found is None:
            found = self._progress[flat] = host.once(self._reached, group, flat)
        return found

    def _reached(self, group: Group, flat: Flat) -> tuple[Tensor, ...]:
        furthest = max(flat.progress(i) for i in range(len(flat.parameters)))
        decayed = (1 - b ** furthest[0] for b in self.optimizer.decays(group))
        place: dict[str, Any] = {"dtype": flat.dtype, "backend": flat.backend}
        return tuple(ops.full((), x, **place) for x in (*furthest, *decayed))

    def settle(self) -> None:
        """Tell the optimizer how many steps it has made: its values are read from the device."""
        for flat, numbers in self._read():
            if numbers is not None:
                t, *rest = numbers[: len(self.optimizer.start)]
                flat.set_progress([(round(t), *rest)] * len(flat.parameters))

    def _read(self) -> list[tuple[Flat, list[float] | None]]:
        """The counts of every buffer that has made a step."""
        return [
            (flat, None if (counts := self._progress.get(flat)) is None else _values(counts))
            for group in self.optimizer.groups
            for flat in group.flats
        ]

    def state_dict(self) -> dict[str, Any]:
        """The scale, the finite steps since it last changed, the steps skipped, and the counts."""
        scale, good, skipped = _values((self.scale, self.good, self.skipped))
        counts = [numbers for _, numbers in self._read()]
        return {"scale": scale, "good": good, "skipped": skipped, "counts": counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the optimizer's own has been loaded before."""
        with no_grad():
            for name in ("scale", "good", "skipped"):
                _set(getattr(self, name), state[name])
            flats = [(group, flat) for group in self.optimizer.groups for flat in group.flats]
            for (group, flat), numbers in zip(flats, state["counts"], strict=True):
                reached = _values(self._reached(group, flat)) if numbers is None else numbers
                for count, value in zip(self._counts(group, flat), reached, strict=True):
                    _set(count, value)

    def __repr__(self) -> str:
        return f"LossScale({self.scale.item():g}, skipped={self.skipped.item():g})"


def _values(xs: Sequence[Tensor]) -> list[float]:
    return [float(x.item()) for x in xs]


def _set(x: Tensor, value: float) -> None:
    x.assign_(ops.full((), value, dtype=x.dtype, backend=x.backend))


def _others(group: Group) -> dict[str, Any]:
    """The settings but for the learning rate, which changes from step to step."""
    return {name: value for name, value in group.settings().items() if name != "lr"}
