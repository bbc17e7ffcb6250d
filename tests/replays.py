"""What tests of compiled replays share."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from gradnet.kernels import replay
from gradnet.kernels.replay import team

import gradnet as gn
from gradnet.captured import Captured

Array = np.ndarray[Any, Any]


@cache
def team_of(size: int) -> Any:
    """A team of so many threads, the same one each time."""
    return team.Team(size)


def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def normal(*shape: int, dtype: str = "float32") -> Array:
    return np.asarray(rng().standard_normal(shape), dtype)


def compiled(captured: Captured[..., Any]) -> bool:
    """Whether all of the latest recording is machine code."""
    run = captured._last._replay  # type: ignore[union-attr]
    return isinstance(run, replay._Run) and not run._by_storage


def twice(function: Any, *xs: Array) -> Any:
    """The results of a recording and of a replay, which are the same to the bit."""
    captured = gn.capture(function)
    tensors = [gn.asarray(x) for x in xs]
    first, second = captured(*tensors), captured(*tensors)
    assert captured.replays == 1
    assert compiled(captured)
    for a, b in zip(_all(first), _all(second), strict=True):
        np.testing.assert_array_equal(a, b)
    return second


def _all(tree: Any) -> list[Array]:
    return [x.numpy() for x in (tree if isinstance(tree, tuple) else (tree,))]
