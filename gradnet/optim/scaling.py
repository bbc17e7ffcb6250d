"""Loss scaling: gradients that float16 can hold, by a factor that finds its own size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from gradnet import formulas, host, ops
from gradnet.autodiff import no_grad
from gradnet.errors import DeviceError, DTypeError, GraphError
from gradnet.formulas.updates import next_good, next_scale, next_skipped
from gradnet.ops.symbols import Trace
from gradnet.optim.clipping import mark, pieces
from gradnet.optim.flat import Flat, Run
from gradnet.optim.group import Group
from gradnet.optim.optimizer import Optimizer
from gradnet.optim.settings import POSITIVE, whole
from gradnet.tensor import Tensor

__all__ = ["LossScale"]

_WHERE: Any = formulas.where
# How many of a buffer's numbers are those of the scale.
_SHARED = 3
_NO_GRADIENTS = "LossScale: there are no gradients; call backward on the loss first"


class LossScale(host.Stateful):
    """Steps of an optimizer on gradients of a scaled loss, skipped where those are not finite.

        scale = optim.LossScale(optimizer)
        scale(loss).backward()                  # gradients times the scale
        scale.step()                            # in place of optimizer.step()

    or, to do something to the gradients before that,

        finite = scale.unscale()                # gradients, and whether all are finite
        scale.step(finite)

    After `interval` finite steps in a row the scale is doubled; gradients that are not finite halve
    it, and leave parameters, moments and the optimizer's count of steps as they are. All this
    happens on the device: no value is read, so that a step can be captured. The optimizer's own
    count of steps is brought up to date by `settle`, before its state is saved.

    The count is one for all parameters of a buffer.
    Raises ValueError for an optimizer that has a step of its own, DTypeError for parameters of 16
    bits, which have lost the small changes that the scale is to keep, and DeviceError for those of
    several devices.
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
        backends = {flat.backend for group in optimizer.groups for flat in group.flats}
        if len(backends) > 1:
            raise DeviceError(
                f"LossScale: {kind} has parameters on {sorted(b.device for b in backends)}; keep "
                "them on one device"
            )
        start = POSITIVE("LossScale", "initial", initial)
        # Of each buffer: scale, good, skipped, then the counts; the first three are alike in all.
        self._numbers: WeakKeyDictionary[Flat, Any] = WeakKeyDictionary()
        self._begun: WeakSet[Flat] = WeakSet()
        first = next(flat for group in optimizer.groups for flat in group.flats)
        self._first = self._made(optimizer.groups[0], first, (start, 0.0, 0.0))
        self.scale, self.good, self.skipped = (
            Tensor.wrap(first.backend.reshape(_part(first, self._first, i), ()), first.backend)
            for i in range(_SHARED)
        )

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
            raise GraphError(_NO_GRADIENTS)
        return finite

    def step(self, finite: Tensor | None = None) -> None:
        """The optimizer's step if all gradients are finite, else none; then adapt the scale.

        Without `finite`, of `unscale`, it is told from the gradients as they are: of the scaled
        loss, which they stay. Raises GraphError where there are none.
        """
        with no_grad():
            flats = [(g, flat, self._runs(flat)) for g in self.optimizer.groups for flat in g.flats]
            if finite is None and not any(runs for *_, runs in flats):
                raise GraphError(_NO_GRADIENTS)
            kept: list[Any] = []
            looks: list[Any] = []
            for group, flat, runs in flats:
                numbers = self._of(group, flat)
                if finite is None and runs:
                    parts = [flat.span(flat.gradients, run) for run in runs]
                    found = [flat.backend.finite(part, numbers) for part in parts]
                    looks += [fine for fine, _ in found]
                    kept.append(found[0][1])
                else:
                    kept.append(flat.backend.cast(numbers, flat.dtype))
            if finite is not None:
                looks = [finite.backend.reshape(finite.array, (1,))]
            backend = flats[0][1].backend
            fine = looks[0] if len(looks) == 1 else backend.concatenate(looks, 0)
            for (group, flat, runs), before in zip(flats, kept, strict=True):
                self._step(group, flat, runs or [(0, 0)], fine, before, scaled=finite is None)

    def _runs(self, flat: Flat) -> list[Run]:
        """The parameters that have gradients, which are in the buffer then."""
        return [(0, len(flat.parameters))] if flat.ready() else flat.runs()

    def _step(
        self, group: Group, flat: Flat, runs: list[Run], fine: Any, before: Any, *, scaled: bool
    ) -> None:
        """A step of one buffer, from its numbers `before` that."""
        update = self.optimizer.update(group)
        arrays = flat.arrays(update, group.initial)
        others = _others(group)
        scalars = host.run(self._scalars, group, flat, arrays, others)
        advance, constants = self._advance(group, others, len(scalars), scaled)
        after = self._numbers[flat]
        for run in runs:
            parts = tuple(flat.span(array, run) for array in arrays)
            numbers = (*scalars, *constants)
            flat.backend.scaled_update(
                update.formula, advance, parts, fine, before, numbers, out=after
            )
        flat.changed()

    def _advance(self, group: Group, others: Any, given: int, scaled: bool) -> Any:
        """From numbers to those after a step, the factor of gradients and the update's scalars."""
        optimizer = self.optimizer
        counts = [f"n{i}" for i in range(len(optimizer.start) + len(optimizer.decays(group)))]
        scalars = [f"s{i}" for i in range(given)]
        names = ("fine", "scale", "good", "skipped", *counts, *scalars)
        trace = Trace(names)
        fine, scale, good, skipped, *rest = map(trace.symbol, names)
        before = rest[: len(counts)]
        values: Sequence[Any] = rest[len(counts) :]
        after: list[Any] = [before[0] + 1.0, *before[1:]]
        if optimizer.counted:
            count = len(optimizer.start)
            rates = [1 - b for b in optimizer.decays(group)]
            decayed: Any = [d + r * (1.0 - d) for d, r in zip(before[count:], rates, strict=True)]
            settings: Any = {**others, "lr": values[0]}
            progress: Any = tuple(before[:count])
            progress, values = optimizer.advance(settings, progress, decayed)
            after = [*progress, *decayed]
        return trace.formula(
            trace.apply(next_scale, fine, scale, good, self.interval),
            trace.apply(next_good, fine, good, self.interval),
            trace.apply(next_skipped, fine, skipped),
            *(trace.apply(_WHERE, fine, a, b) for a, b in zip(after, before, strict=True)),
            1.0 / scale if scaled else 1.0,
            *values,
        )

    def _scalars(self, group: Group, flat: Flat, arrays: Any, others: Any) -> tuple[float, ...]:
        """What a step takes from the host: the scalars, or what they are computed from."""
        optimizer = self.optimizer
        if not flat.holds(optimizer.update(group), arrays):
            raise host.Stale
        if not optimizer.counted:
            return optimizer.scalars(group, 1)
        if others != _others(group):
            raise host.Stale
        return (group["lr"],)

    # Numbers in the device's memory

    def _of(self, group: Group, flat: Flat) -> Any:
        """The numbers of a buffer: those of the scale, and how far the optimizer has come."""
        if flat not in self._numbers:
            host.once(self._made, group, flat)
        if flat not in self._begun:
            host.once(self._begin, group, flat)
        return self._numbers[flat]

    def _made(self, group: Group, flat: Flat, start: Sequence[float] | None = None) -> Any:
        start = start or [x.item() for x in (self.scale, self.good, self.skipped)]
        count = _SHARED + len(self.optimizer.start) + len(self.optimizer.decays(group))
        numbers = self._numbers[flat] = flat.backend.full((count,), 0, flat.dtype)
        _set(flat, numbers, 0, start)
        return numbers

    def _begin(self, group: Group, flat: Flat) -> None:
        _set(flat, self._numbers[flat], _SHARED, self._reached(group, flat))
        self._begun.add(flat)

    def _reached(self, group: Group, flat: Flat) -> list[float]:
        furthest = max(flat.progress(i) for i in range(len(flat.parameters)))
        return [*furthest, *(1 - b ** furthest[0] for b in self.optimizer.decays(group))]

    def settle(self) -> None:
        """Tell the optimizer how many steps it has made: its values are read from the device."""
        for flat, numbers in self._read():
            if numbers is not None:
                t, *rest = numbers[: len(self.optimizer.start)]
                flat.set_progress([(round(t), *rest)] * len(flat.parameters))

    def _read(self) -> list[tuple[Flat, list[float] | None]]:
        """The counts of every buffer that has made a step."""
        return [
            (flat, self._values(flat)[_SHARED:] if flat in self._begun else None)
            for group in self.optimizer.groups
            for flat in group.flats
        ]

    def _values(self, flat: Flat) -> list[float]:
        numbers: list[float] = Tensor.wrap(self._numbers[flat], flat.backend).tolist()
        return numbers

    def state_dict(self) -> dict[str, Any]:
        """The scale, the finite steps since it last changed, the steps skipped, and the counts."""
        scale, good, skipped = (x.item() for x in (self.scale, self.good, self.skipped))
        counts = [numbers for _, numbers in self._read()]
        return {"scale": scale, "good": good, "skipped": skipped, "counts": counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the optimizer's own has been loaded before."""
        shared = [state[name] for name in ("scale", "good", "skipped")]
        flats = [(group, flat) for group in self.optimizer.groups for flat in group.flats]
        for (group, flat), numbers in zip(flats, state["counts"], strict=True):
            reached = self._reached(group, flat) if numbers is None else numbers
            _set(flat, self._of(group, flat), 0, [*shared, *reached])

    def __repr__(self) -> str:
        return f"LossScale({self.scale.item():g}, skipped={self.skipped.item():g})"


def _part(flat: Flat, numbers: Any, i: int) -> Any:
    return flat.backend.view(numbers, (slice(i, i + 1),))


def _set(flat: Flat, numbers: Any, begin: int, values: Sequence[float]) -> None:
    """Write numbers from a place on."""
    for i, value in enumerate(values):
        flat.backend.full((1,), value, flat.dtype, out=_part(flat, numbers, begin + i))


def _others(group: Group) -> dict[str, Any]:
    """The settings but for the learning rate, which changes from step to step."""
    return {name: value for name, value in group.settings().items() if name != "lr"}
