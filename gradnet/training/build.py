"""Building what a run needs from what users name: the model's place, optimizer and schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradnet import ops, optim
from gradnet.nn import Module
from gradnet.optim import LossScale, Optimizer, Schedule
from gradnet.precision import of_products, of_weights
from gradnet.tensor import Tensor

OptimizerLike = str | Mapping[str, Any] | Optimizer | Callable[..., Optimizer]
ScheduleLike = str | Mapping[str, Any] | Schedule | Callable[[Optimizer], Schedule] | None

# A warm-up by name takes this part of all steps.
_WARM_UP = 0.05


def reference(model: Module) -> Tensor:
    """The parameter that says where a model is and in which dtype. Raises ValueError for none."""
    found = next(model.parameters(), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no parameters: there is nothing to train")
    return found


def place(model: Module, device: str | None, precision: str | None) -> tuple[Tensor, bool]:
    """Move a model to a device and precision; gives its reference and whether it was elsewhere.

    The model carries on with the precision after training. Raises DeviceError for a device that is
    not there.
    """
    like = reference(model)
    moves = device is not None and ops.zeros((), device=device).device != like.device
    if moves:
        model.to(device)
    casts = False
    if precision is not None:
        weights = of_weights(precision)
        casts = any(p.dtype.name != weights for p in model.parameters())
        if casts:
            model.to(weights)
        if model.product_precision != (rounded := of_products(precision)):
            model.product_precision = rounded
    return reference(model), moves or casts


def loss_scale(model: Module, optimizer: Optimizer) -> LossScale | None:
    """What keeps the gradients of a model in float16 within its range; None for others.

    Raises ValueError for an optimizer that does not go with it.
    """
    return LossScale(optimizer) if model.product_precision == "float16" else None


def check_names(optimizer: Any, schedule: Any) -> None:
    """Raise TypeError or ValueError for what names neither an optimizer nor a schedule.

    Unknown names and settings of theirs are found when they are made, before training too.
    """
    for name, given, kind in (
        ("optimizer", optimizer, Optimizer),
        ("schedule", schedule, Schedule),
    ):
        if given is None and kind is Schedule:
            continue
        if isinstance(given, Mapping):
            if not isinstance(given.get("name"), str):
                raise ValueError(f'{name} as a mapping needs its "name", but is {given!r:.80}')
        elif not isinstance(given, str | kind) and not callable(given):
            raise TypeError(
                f"{name} must be a name, a mapping with a name, {kind.__name__} or a function, "
                f"not {type(given).__name__}"
            )


def optimizer(wanted: OptimizerLike, model: Module, lr: float | None, moved: bool) -> Optimizer:
    """The optimizer of the model's parameters that a call of `fit` asks for.

    One that was made before the model was `moved` follows it. Raises ValueError for one of another
    model, for a learning rate beside an Optimizer object, and where nothing is to be trained.
    """
    settings = {} if lr is None else {"lr": lr}
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("all parameters of the model are frozen: there is nothing to train")
    if isinstance(wanted, Optimizer):
        if settings:
            raise ValueError(
                f"lr is given beside the {type(wanted).__name__} object, which has its own; set "
                "that, or give the optimizer by name"
            )
        own = {id(p) for p in parameters}
        if not any(id(p) in own for group in wanted.groups for p in group["params"]):
            raise ValueError(
                f"the {type(wanted).__name__} object has no parameter of the model; make it of "
                "model.parameters()"
            )
        if moved:
            _follow(wanted, parameters[0])
        return wanted
    if isinstance(wanted, str | Mapping):
        name, given = _named(wanted)
        return optim.create(name, parameters, **{**given, **settings})
    made = wanted(parameters, **settings)
    if not isinstance(made, Optimizer):
        raise TypeError(
            f"optimizer must give an Optimizer of the parameters, it gave {type(made).__name__}"
        )
    return made


def _named(wanted: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A name and its settings."""
    if isinstance(wanted, str):
        return wanted, {}
    settings = dict(wanted)
    return settings.pop("name"), settings


def _follow(optimizer: Optimizer, like: Tensor) -> None:
    """Have an optimizer's buffers made anew where its parameters have been moved to."""
    state = {
        name: ops.asarray(value, dtype=like.dtype, backend=like.backend)
        if isinstance(value, Tensor)
        else value
        for name, value in optimizer.state_dict().items()
    }
    groups = [{"params": group["params"], **group.settings()} for group in optimizer.groups]
    optimizer.groups.clear()
    for group in groups:
        optimizer.add_group(group)
    optimizer.load_state_dict(state)


def schedule(
    wanted: ScheduleLike, optimizer: Optimizer, epochs: int, steps: int | None
) -> Schedule | None:
    """The schedule of the optimizer's learning rate that a call of `fit` asks for.

    One that is named is told how many steps there are to be, and a warm-up takes a twentieth of
    them. Raises ValueError for a schedule of another optimizer and for settings that are missing.
    """
    if wanted is None:
        return None
    if isinstance(wanted, Schedule):
        if wanted.optimizer is not optimizer:
            raise ValueError(
                f"the {type(wanted).__name__} object is of another optimizer; pass both, or the "
                "schedule as a function of the optimizer"
            )
        return wanted
    if isinstance(wanted, str | Mapping):
        name, settings = _named(wanted)
        missing = [need for need in optim.schedule_needs(name) if need not in settings]
        for setting in missing:
            settings[setting] = _known(name, setting, settings.get("per"), epochs, steps)
        return optim.schedule(name, optimizer, **settings)
    made = wanted(optimizer)
    if not isinstance(made, Schedule):
        raise TypeError(
            f"schedule must give a Schedule of the optimizer, it gave {type(made).__name__}"
        )
    return made


def _known(name: str, setting: str, per: Any, epochs: int, steps: int | None) -> int:
    """What a run knows of a setting that a schedule needs."""
    if setting not in ("total_steps", "steps"):
        raise ValueError(
            f"the schedule {name!r} needs its setting {setting!r}: pass "
            f'schedule={{"name": {name!r}, {setting!r}: ...}}'
        )
    if steps is None and per != "epoch":
        raise ValueError(
            f"the schedule {name!r} needs the number of steps, which the data set does not tell; "
            f'give it a __len__, or pass schedule={{"name": {name!r}, {setting!r}: ...}}'
        )
    total = epochs if per == "epoch" or steps is None else epochs * steps
    return total if setting == "total_steps" else max(1, round(_WARM_UP * total))
