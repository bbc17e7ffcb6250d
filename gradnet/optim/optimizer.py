"""What all optimizers share: groups of parameters with their settings, buffers, and state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from gradnet import dtypes, host
from gradnet.autodiff import enable_grad
from gradnet.errors import DTypeError, GraphError
from gradnet.formulas import Update
from gradnet.optim import stored
from gradnet.optim.flat import Flat, Progress, Run
from gradnet.optim.group import Group
from gradnet.optim.settings import NONNEGATIVE, Settings
from gradnet.tensor import Tensor

Closure = Callable[[], Any]
Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer(host.Stateful):
    """Base of all optimizers: takes parameters, or dicts {"params": [...], "lr": ...} of groups.

    A subclass has a `name`, `rules` for its settings, and either an `update` formula with the
    `scalars` of a step, or a `step` of its own. The parameters' arrays become views of one buffer
    per group, dtype and device; tensors that shared memory with them before no longer do. A deep
    copy of a model has parameters of its own, that its optimizer does not know: copy both at once,
    `copy.deepcopy((model, optimizer))`.

    Raises ValueError for no or repeated parameters and bad settings, TypeError for what is no
    parameter, GraphError for a tensor that gets no gradient, DTypeError for one that is not real.
    """

    name: ClassVar[str]
    rules: ClassVar[Settings] = {"lr": NONNEGATIVE}
    needs_closure: ClassVar[bool] = False
    counted: ClassVar[bool] = True  # whether scalars depend on the count of steps
    start: ClassVar[Progress] = (0,)
    _copying: bool = True  # whether state_dict gives copies

    groups: list[Group]

    def __init__(self, params: Parameters, **settings: Any) -> None:
        self._defaults = settings
        self.groups = []
        for group in self._as_groups(params):
            self.add_group(group)

    def _as_groups(self, params: Any) -> list[Mapping[str, Any]]:
        kind = type(self).__name__
        if isinstance(params, Tensor | Mapping | str) or not isinstance(params, Iterable):
            hint = "; pass its parameters()" if hasattr(params, "parameters") else ""
            raise TypeError(
                f"{kind} takes a list of tensors or of group dicts, got {type(params).__name__}"
                f"{hint or '; put it in a list'}"
            )
        items = list(params)
        if not items:
            raise ValueError(f"{kind} got no parameters; is the model empty, or a generator used?")
        dicts = [isinstance(item, Mapping) for item in items]
        if any(dicts) and not all(dicts):
            raise TypeError(f"{kind} takes tensors or group dicts, not both in one list")
        return items if dicts[0] else [{"params": items}]

    def add_group(self, group: Mapping[str, Any]) -> None:
        """Take more parameters, with settings of their own: {"params": [...], "lr": ...}.

        Raises ValueError where there are none, or one is in a group already, and TypeError for what
        is no list of tensors.
        """
        kind = type(self).__name__
        if "params" not in group:
            raise ValueError(f"{kind}: a group needs its parameters under 'params'")
        given = group["params"]
        if isinstance(given, Tensor) or not isinstance(given, Iterable):
            raise TypeError(
                f"{kind}: 'params' of a group is a list of tensors, got {type(given).__name__}"
            )
        parameters = tuple(given)
        if not parameters:
            raise ValueError(f"{kind}: group {len(self.groups)} has no parameters")
        taken = {id(p): f"group {i}" for i, g in enumerate(self.groups) for p in g["params"]}
        for i, parameter in enumerate(parameters):
            where = f"parameter {i} of group {len(self.groups)}"
            self._check_parameter(f"{kind}: {where}", parameter)
            if id(parameter) in taken:
                raise ValueError(
                    f"{kind}: {where}, shape {parameter.shape}, is in {taken[id(parameter)]} "
                    "already; a parameter can be given only once"
                )
            taken[id(parameter)] = "this group"
        made = Group(kind, self.rules, parameters)
        for name, value in {**self._defaults, **group}.items():
            if name != "params":
                made[name] = value
        self.check(made)
        kinds: dict[tuple[int, Any], list[Tensor]] = {}
        for parameter in parameters:
            kinds.setdefault((id(parameter.backend), parameter.dtype), []).append(parameter)
        made.flats = [Flat(alike, self.start) for alike in kinds.values()]
        self.groups.append(made)

    def _check_parameter(self, where: str, parameter: Any) -> None:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"{where} is a {type(parameter).__name__}; expected a Tensor")
        if not parameter.is_leaf:
            raise GraphError(
                f"{where}, shape {parameter.shape}, was computed from other tensors; only leaves "
                "can be optimized: give those, or a copy made with detach()"
            )
        if not parameter.requires_grad:
            raise GraphError(
                f"{where}, shape {parameter.shape}, does not require a gradient; "
                "set requires_grad=True, or leave it out"
            )
        if not dtypes.is_floating(parameter.dtype):
            raise DTypeError(
                f"{where}, shape {parameter.shape}, has dtype {parameter.dtype.name}; "
                "optimizers take real floating parameters"
            )

    def check(self, group: Group) -> None:
        """Raise ValueError for settings that do not go together."""

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all groups."""
        rate: float = self.groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value

    def watched(self) -> Iterable[Tensor]:
        """The parameters of all groups."""
        return (parameter for group in self.groups for parameter in group["params"])

    def snapshot(self) -> Any:
        """Settings of all groups, and how far it has come with each parameter."""
        return [
            (group.settings(), [(flat.common, list(flat.each)) for flat in group.flats])
            for group in self.groups
        ]

    def rewind(self, snapshot: Any) -> None:
        """Go back to a snapshot; moments are not part of it."""
        for group, (settings, progress) in zip(self.groups, snapshot, strict=True):
            group.update(settings)
            for flat, (common, each) in zip(group.flats, progress, strict=True):
                flat.common, flat.each = common, each

    def zero_grad(self) -> None:
        """Forget all gradients, so that the next backward starts anew."""
        for group in self.groups:
            for parameter in group["params"]:
                parameter.grad = None

    def evaluate(self, closure: Closure) -> Any:
        """What the closure returns, the loss, with the gradients that its backward leaves."""
        self.zero_grad()
        with enable_grad():
            return closure()

    # A step by formula

    def update(self, group: Group) -> Update:
        """The row of the formula table that the group's settings ask for."""
        raise NotImplementedError

    def decays(self, group: Group) -> tuple[float, ...]:
        """The numbers b for which the scalars of step t depend on 1 - b**t."""
        return ()

    def decayed(self, group: Group, t: float) -> Sequence[float]:
        """1 - b**t of the `decays`."""
        return [1 - b**t for b in self.decays(group)]

    def scalars(self, group: Group, t: float, *decayed: float) -> tuple[float, ...]:
        """The formula's scalars for the step number t = 1, 2, ..., and 1 - b**t of its `decays`.

        lr, t and those may also be arrays or tensors: of several steps, or see `LossScale`.
        """
        raise NotImplementedError

    def advance(
        self, group: Group, progress: Progress, decayed: Sequence[float] | None = None
    ) -> tuple[Progress, tuple[float, ...]]:
        """The progress after one more step, and the scalars of that step.

        `decayed` is 1 - b**t of the `decays`, where it is known; it and the rest as for `scalars`.
        """
        t = progress[0] + 1
        if decayed is None:
            decayed = self.decayed(group, t)
        return (t,), self.scalars(group, t, *decayed)

    def advance_several(
        self, group: Group, progress: Progress, count: int
    ) -> tuple[Progress, tuple[Any, ...]]:
        """The progress after so many more steps, and each scalar for all of them: one, or a row."""
        if type(self).advance is Optimizer.advance:
            first, last = progress[0] + 1, progress[0] + count
            if not type(self).__module__.startswith(f"{__package__}."):
                # A class of a user's may have more than the settings that changes.
                return (last,), self._scalars_of(group, [first + i for i in range(count)])
            return (last,), group.ahead(first, count, self._scalars_of)
        rows = []
        for _ in range(count):
            progress, scalars = self.advance(group, progress)
            rows.append(scalars)
        return progress, tuple(zip(*rows, strict=True))

    def _scalars_of(self, group: Group, steps: Sequence[float]) -> tuple[Any, ...]:
        """Each scalar for steps of those numbers: one, or a row."""
        decayed = [1 - host.row([b**t for t in steps]) for b in self.decays(group)]
        return self.scalars(group, host.row(steps), *decayed)

    def step(self, closure: Closure | None = None) -> Any:
        """Change every parameter that has a gradient; one that has none is left as it is.

        With a closure, which computes the loss and calls its backward, that is run before, on
        gradients set to none, and its result is returned.
        """
        loss = None if closure is None else self.evaluate(closure)
        for group in self.groups:
            update = self.update(group)
            for flat in group.flats:
                complete = flat.ready()
                arrays = flat.arrays(update, group.initial)
                if complete and flat.common is not None:
                    scalars = host.run(
                        self._advance_all, group, flat, arrays, several=self._advance_several
                    )
                    if flat.size:
                        flat.backend.update(update.formula, arrays, scalars)
                    flat.changed()
                else:
                    self._step_runs(group, flat, update, arrays)
        return loss

    def _advance_all(self, group: Group, flat: Flat, arrays: Any) -> tuple[float, ...]:
        """Move all parameters of a buffer on by one step; the scalars of that step."""
        if flat.common is None or not flat.holds(self.update(group), arrays):
            raise host.Stale
        flat.common, scalars = self.advance(group, flat.common)
        return scalars

    def _advance_several(self, count: int, group: Group, flat: Flat, arrays: Any) -> Any:
        """The same for so many steps in a row."""
        if flat.common is None or not flat.holds(self.update(group), arrays):
            raise host.Stale
        flat.common, scalars = self.advance_several(group, flat.common, count)
        return scalars

    def _advance_run(self, group: Group, flat: Flat, arrays: Any, run: Run) -> tuple[float, ...]:
        """Move neighbouring parameters on by one step; the scalars of that step."""
        if not flat.holds(self.update(group), arrays):
            raise host.Stale
        each = [flat.progress(i) for i in range(len(flat.parameters))]
        progress, scalars = self.advance(group, each[run[0]])
        each[run[0] : run[1]] = [progress] * (run[1] - run[0])
        flat.set_progress(each)
        return scalars

    def _step_runs(self, group: Group, flat: Flat, update: Update, arrays: tuple[Any, ...]) -> None:
        """A step where gradients are missing or were so earlier: one update for each run."""
        for run in flat.runs():
            scalars = host.run(self._advance_run, group, flat, arrays, run)
            parts = tuple(flat.span(array, run) for array in arrays)
            if parts[0].shape[0]:
                flat.backend.update(update.formula, parts, scalars)
            for i in range(*run):
                flat.parameters[i].changed()

    # State

    def live_state(self) -> dict[str, Any]:
        """`state_dict` without copies: Tensors may share memory with what the next step changes.

        A subclass overrides `state_dict` alone, and takes Tensors of its own through `kept`.
        """
        self._copying = False
        try:
            return self.state_dict()
        finally:
            self._copying = True

    def kept(self, x: Tensor) -> Tensor:
        """A Tensor for `state_dict`: a copy, but in `live_state` itself."""
        return x.copy() if self._copying else x

    def state_dict(self) -> dict[str, Any]:
        """All that a later step depends on but the parameters: a snapshot, to be stored.

        "kind" is the optimizer's name; "groups" has each group's settings, the shapes of its
        parameters, their counts of steps and the names of their moments, all plain numbers and
        lists; "0.1.m" is the Tensor of the moment m of parameter 1 in group 0.
        """
        state: dict[str, Any] = {"kind": self.name, "groups": []}
        for g, group in enumerate(self.groups):
            places = group.places()
            state["groups"].append(
                {
                    "settings": {
                        name: list(value) if isinstance(value, tuple) else value
                        for name, value in group.settings().items()
                    },
                    "shapes": [list(parameter.shape) for parameter in group["params"]],
                    "progress": [list(flat.progress(i)) for flat, i in places],
                    "moments": list(group.flats[0].state),
                }
            )
            for p, (flat, i) in enumerate(places):
                for name, buffer in flat.state.items():
                    moment = Tensor.wrap(flat.part(buffer, i), flat.backend)
                    state[f"{g}.{p}.{name}"] = self.kept(moment)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of an optimizer of the same kind over parameters alike.

        Raises ValueError for another kind or an incomplete state, ShapeError for other groups or
        shapes, and DTypeError for moments of another dtype; nothing is changed then.
        """
        stored.check(type(self).__name__, self.name, self.groups, self.rules, state)
        for g, (group, saved) in enumerate(zip(self.groups, state["groups"], strict=True)):
            for name, value in saved["settings"].items():
                group[name] = value
            places = group.places()
            for flat in group.flats:
                each = [
                    tuple(progress)
                    for progress, (place, _) in zip(saved["progress"], places, strict=True)
                    if place is flat
                ]
                flat.restore(saved["moments"], each)
            for p, (flat, i) in enumerate(places):
                for name, buffer in flat.state.items():
                    moment = Tensor.wrap(flat.part(buffer, i), flat.backend)
                    moment.assign_(state[f"{g}.{p}.{name}"])

    def __repr__(self) -> str:
        count = sum(parameter.size for group in self.groups for parameter in group["params"])
        settings = [
            ", ".join(f"{name}={value!r}" for name, value in group.settings().items())
            for group in self.groups
        ]
        listed = settings[0] if len(settings) == 1 else "; ".join(f"({item})" for item in settings)
        return f"{type(self).__name__}({listed}; {count:,} parameters)"

    def __reduce__(self) -> Any:
        # A copy joins copies of the parameters in buffers of its own.
        groups = [{**group} for group in self.groups]
        return _restored, (type(self), groups, self._defaults, self.state_dict())


def _restored(
    kind: type[Optimizer],
    groups: list[dict[str, Any]],
    defaults: dict[str, Any],
    state: dict[str, Any],
) -> Optimizer:
    made = kind(groups, **defaults)
    made.load_state_dict(state)
    return made
