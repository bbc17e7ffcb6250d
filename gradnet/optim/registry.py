"""Optimizers and schedules by name: every subclass that has one, as soon as it is defined."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from gradnet.optim.optimizer import Optimizer, Parameters
from gradnet.optim.schedules import Schedule
from gradnet.optim.settings import closest, plain

T = TypeVar("T")


def _subclasses(base: type[T]) -> dict[str, type[T]]:
    """All subclasses that name themselves, by name."""
    found: dict[str, type[T]] = {}
    for kind in base.__subclasses__():
        if "name" in vars(kind):
            found[vars(kind)["name"]] = kind
        found.update(_subclasses(kind))
    return found


def _find(what: str, base: type[T], name: str) -> type[T]:
    found = _subclasses(base)
    kinds = {plain(known): kind for known, kind in found.items()}
    kind = kinds.get(plain(name))
    if kind is None:
        raise ValueError(f"no {what} is called {name!r}: {closest(name, found)}")
    return kind


def _make(what: str, base: type[T], name: str, first: Any, settings: dict[str, Any]) -> T:
    kind = _find(what, base, name)
    known = list(inspect.signature(kind).parameters)[1:]
    for setting in settings:
        if setting not in known:
            raise ValueError(
                f"the {what} {name!r} has no setting {setting!r}: {closest(setting, known)}"
            )
    return kind(first, **settings)  # type: ignore[call-arg]


def create(name: str, params: Parameters, **settings: Any) -> Optimizer:
    """The optimizer of that name over parameters or groups: create("adam", params, lr=1e-3).

    Case, hyphens and underscores do not matter. Raises ValueError, with what comes closest, for an
    unknown name or setting.
    """
    return _make("optimizer", Optimizer, name, params, settings)


def names() -> tuple[str, ...]:
    """The names of all optimizers."""
    return tuple(sorted(_subclasses(Optimizer)))


def schedule(name: str, optimizer: Optimizer, **settings: Any) -> Schedule:
    """The schedule of that name: schedule("cosine", optimizer, total_steps=1000).

    Case, hyphens and underscores do not matter. Raises ValueError, with what comes closest, for an
    unknown name or setting.
    """
    return _make("schedule", Schedule, name, optimizer, settings)


def schedule_needs(name: str) -> tuple[str, ...]:
    """The settings without a default of the schedule of that name. Raises as `schedule`."""
    parameters = list(inspect.signature(_find("schedule", Schedule, name)).parameters.values())[1:]
    return tuple(p.name for p in parameters if p.default is p.empty)


def schedule_names() -> tuple[str, ...]:
    """The names of all schedules."""
    return tuple(sorted(_subclasses(Schedule)))
