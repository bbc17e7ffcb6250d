"""Training steps by blocks that tell each other numbers, as NVRTC compiles them, run.

The blocks take turns in an order that chance chooses. Needs NVRTC.
"""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest
from fakes import clustered
from fakes.shim import poisoned
from gradnet.kernels import cluster_split, cluster_step, launch
from gradnet.kernels.cluster_split import Training
from ptx import launching
from ptx.launching import Loaded
from ptx.memory import Fault

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("nvrtc")]

TILED = Training((13, 9, 3), 7, "relu", "adam", threads=32, split=(2, 2, True))
CASES = [TILED]
# Compiled by hand alone, of some seconds each.
WIDER = [
    Training((5, 3), 3, "leaky_relu", "sgd", (3, 70), threads=32, split=(1, 1, True)),
    Training((6, 17, 2, 4), 9, "gelu", "adam", threads=64, split=(2, 1, False)),
    Training((12, 5, 4, 2, 3), 2, "tanh", "adam", threads=32, split=(2, 3, False)),
    Training((18, 7, 5, 2), 5, "tanh", "adam", threads=32, split=(4, 2, True)),
]
if os.environ.get("GRADNET_COMPILE_EVERY_KERNEL"):
    CASES += WIDER
NUMBERS = {"adam": (0.01, 0.1, 0.001, 1.5, 1e-3, 1e-3), "sgd": (0.1, 1e-3)}


def arguments_of(training: Training, steps: int) -> dict[str, Any]:
    """Random ones for some steps, by the names of `cluster_step.train`."""
    rng = np.random.default_rng(sum(training.sizes))
    inputs, classes, size = training.sizes[0], training.sizes[-1], training.places[-1] + 2
    numbers = np.array(NUMBERS[training.update], np.float32)
    moments = len(cluster_split.rule(training).state)
    return {
        "x": rng.standard_normal((40, inputs), np.float32),
        "classes": rng.integers(classes, size=40),
        "order": rng.integers(40, size=(steps, training.batch)),
        "scalars": np.tile(numbers, (steps, 1)),
        "p": rng.standard_normal(size, np.float32) / 2,
        "states": rng.random((moments, size), np.float32),
        "losses": poisoned((steps,)),
        "room": np.zeros(cluster_split.room_of(training), np.uint64),
    }


def trained(loaded: Loaded, training: Training, given: dict[str, Any]) -> dict[str, Any]:
    """What steps make of a copy of arguments."""
    made = {name: x.copy() for name, x in given.items()}

    def give(one: Any, blocks: int, *arguments: Any) -> None:
        typed = launch.numbers(one, arguments)
        loaded(blocks, one.threads, typed, one.shared, one.cluster, axis="y")

    cluster_step.train(give, training, **made)
    return made


@pytest.mark.parametrize("training", CASES, ids=lambda one: f"{one.sizes} {one.split}")
def test_against_float64(training: Training) -> None:
    """The same to the bit in whatever order blocks take turns."""
    loaded = launching.loaded(cluster_step.program(training))
    given = arguments_of(training, 4)
    right = clustered.reference(training, given)
    found = []
    for loaded.seed in range(2):
        found.append(trained(loaded, training, given))
    for name, exact in zip(("p", "states", "losses"), right, strict=True):
        assert np.allclose(found[0][name], exact, rtol=2e-5, atol=2e-6), name
        assert all(np.array_equal(one[name], found[0][name]) for one in found), name


# What is taken out of the text, which of those there are, and what is seen of it.
WITHOUT = [
    (r"bar\.sync\s+0;", 3, "a race: thread"),
    (r"bar\.sync\s+0;", 8, "a race: thread"),
    (r"bar\.sync\s+0;", -1, "a race: thread .* of the memory of"),
    (r"cp\.async\.wait_all;", 1, "to which a copy is under way"),
    (r"st\.relaxed\.gpu\.global\.b64 [^;]*;", 0, "wait for one another forever"),
]


@pytest.mark.parametrize(("pattern", "number", "message"), WITHOUT, ids=str)
def test_what_is_missing_is_found(pattern: str, number: int, message: str) -> None:
    text = launching.of_cuda(cluster_step.program(TILED).text, launching.CLUSTERS)
    begin, end = [x.span() for x in re.finditer(pattern, text)][number]
    loaded = Loaded(text[:begin] + text[end:])
    with pytest.raises(Fault, match=message):
        trained(loaded, TILED, arguments_of(TILED, 3))
