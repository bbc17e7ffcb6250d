"""What an optimizer's `state_dict` must be for another optimizer to go on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gradnet.errors import DTypeError, ShapeError
from gradnet.optim.group import Group
from gradnet.optim.settings import Settings
from gradnet.tensor import Tensor


def check(
    kind: str, name: str, groups: Sequence[Group], rules: Settings, state: Mapping[str, Any]
) -> None:
    """Raise where an optimizer could not take all of a state.

    `kind` is its class's name, `name` that of its algorithm. Raises ValueError for another
    algorithm or an incomplete state, ShapeError for other groups or shapes, and DTypeError for
    moments of another dtype.
    """
    if state.get("kind") != name:
        raise ValueError(
            f"{kind} cannot load the state of {state.get('kind')!r}; "
            f"it takes a state_dict of the optimizer {name!r}"
        )
    if "groups" not in state:
        raise ValueError(f"{kind} cannot load a state without 'groups'; is it a state_dict?")
    shapes = [[list(p.shape) for p in group["params"]] for group in groups]
    saved = [[list(shape) for shape in group["shapes"]] for group in state["groups"]]
    if shapes != saved:
        raise ShapeError(
            f"{kind} cannot load a state for parameters of shapes {saved}: "
            f"it has {shapes}, a list per group"
        )
    expected: dict[str, Tensor] = {}
    for g, group in enumerate(state["groups"]):
        trial = Group(kind, rules, ())
        for setting, value in group["settings"].items():
            trial[setting] = value
        if len(group["progress"]) != len(groups[g]["params"]):
            raise ValueError(
                f"{kind} cannot load the progress of {len(group['progress'])} parameters for "
                f"the {len(groups[g]['params'])} of group {g}"
            )
        for p, parameter in enumerate(groups[g]["params"]):
            expected.update({f"{g}.{p}.{moment}": parameter for moment in group["moments"]})
    found = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if found.keys() != expected.keys():
        odd = ", ".join(sorted(found.keys() ^ expected.keys()))
        raise ValueError(f"{kind} cannot load a state with missing or unknown moments: {odd}")
    for key, moment in found.items():
        parameter = expected[key]
        if moment.shape != parameter.shape:
            raise ShapeError(
                f"{kind} cannot load {key!r} of shape {moment.shape} for a parameter of shape "
                f"{parameter.shape}"
            )
        if moment.dtype != parameter.dtype:
            raise DTypeError(
                f"{kind} cannot load {key!r} of dtype {moment.dtype.name} for a parameter of "
                f"dtype {parameter.dtype.name}; cast the model before the optimizer is made"
            )
