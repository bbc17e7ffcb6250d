"""Where a number stopped being finite: the first layer, gradient or update in which it arose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import TrainingError
from gradnet.nn import Module
from gradnet.random import default_generator
from gradnet.tensor import Tensor
from gradnet.training.checks import is_finite
from gradnet.training.history import History
from gradnet.training.sources import Rows
from gradnet.training.step import Step

_LARGE_INPUT = 100.0
# The gradients of a loss that is scaled by less than this should have been finite.
SMALLEST_SCALE = 1.0


class NotFinite(TrainingError):
    """NaN or infinity in a run.

    epoch, batch   where, both counted from 1; batch is None where validation found it
    layer          the name of the layer or parameter in which it arose, if one could be told
    history        what was measured until then

    The model is left with the weights before the step that failed, or the best ones if early
    stopping keeps those.
    """

    history: History

    def __init__(self, message: str, epoch: int, batch: int | None, layer: str | None) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
        self.layer = layer


class Finding(Exception):
    """What `careful_step` has found: the sentence, the layer, and a remedy of its own."""

    def __init__(self, text: str, layer: str | None, remedy: str) -> None:
        super().__init__(text)
        self.text = text
        self.layer = layer
        self.remedy = remedy


def _kind(x: Tensor) -> str:
    return "NaN" if bool(ops.elementwise("isnan")(x.detach()).any()) else "infinity"


def first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> tuple[str, Tensor] | None:
    """The first of some named tensors that holds NaN or infinity."""
    return next(((name, x) for name, x in named if x is not None and not is_finite(x)), None)


@contextmanager
def watched(model: Module) -> Iterator[list[tuple[str, Module, Tensor]]]:
    """Within a `with` block, note the layers whose output is not finite, in order of forward."""
    found: list[tuple[str, Module, Tensor]] = []

    def watch(name: str) -> Callable[[Module, tuple[Any, ...], Any], None]:
        def look(module: Module, inputs: tuple[Any, ...], y: Any) -> None:
            if isinstance(y, Tensor) and not is_finite(y):
                found.append((name, module, y))

        return look

    removals = [m.register_forward_hook(watch(name)) for name, m in model.named_modules()]
    try:
        yield found
    finally:
        for remove in removals:
            remove()


def layer_found(found: list[tuple[str, Module, Tensor]], batch: Rows) -> Finding:
    """What is to say of the layers that `watched` has noted while a loss was not finite."""
    if not found:
        return Finding(
            "all layers' outputs are finite, so it arose in the loss itself",
            "loss",
            "look at the targets and the loss",
        )
    name, module, y = found[0]
    label = f"layer {name!r} ({type(module).__name__})" if name else type(module).__name__
    wrong = int(ops.count_nonzero(~ops.elementwise("isfinite")(y.detach())))
    share = "all" if wrong == y.size else f"{wrong}"
    text = f"{_kind(y)} arose first in {label}, in {share} of its {y.size} outputs"
    largest = float(ops.max(ops.abs(batch.x)).item())
    if dtypes.is_inexact(batch.x.dtype) and largest > _LARGE_INPUT:
        return Finding(text, name, f"standardise X, whose largest value here is {largest:.3g}")
    return Finding(text, name, "")


def careful_step(step: Step, batch: Rows) -> None:
    """A step of training, which raises Finding where something is not finite, before or after."""
    noise, state = default_generator(), default_generator().get_state()
    before = {name: x.copy() for name, x in step.model.state_dict().items()}
    with watched(step.model) as found:
        loss, total = step.losses(batch)
    if not is_finite(loss):
        raise layer_found(found, batch)
    if not is_finite(total):
        raise Finding("the penalties l1 and l2 are not finite", None, "make them smaller")
    step.backward(total)
    # Backward runs from the last layer to the first: the last parameter is the first it reaches.
    named = list(step.model.named_parameters())
    wrong = first_not_finite((name, p.grad) for name, p in reversed(named))
    # A scale that is large is why, and the step makes it smaller.
    scaled = step.scale is not None and float(step.scale.scale.item()) >= SMALLEST_SCALE
    if wrong is not None and not scaled:
        step.optimizer.zero_grad()
        text = f"{_kind(wrong[1])} arose first in the gradient of {wrong[0]!r}"
        raise Finding(text, wrong[0], "")
    if step.optimizer.needs_closure:
        noise.set_state(state)
        step(batch)
    else:
        step.update()
    wrong = first_not_finite(named)
    if wrong is not None:
        step.model.load_state_dict(before)
        text = f"{_kind(wrong[1])} arose first in the update of {wrong[0]!r}"
        raise Finding(text, wrong[0], "")
