"""Small data and good calls of `fit`, for the tests of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradnet as gn
from gradnet.training import fit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4)).astype(np.float32)
CLASSES = np.arange(30) % 3
VALUES = X[:, 0].copy()


def classifier(**options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((4, 6, 3), **{"output": "softmax", "seed": 0, **options})


def regressor(**options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((4, 6, 1), **{"output": "linear", "seed": 0, **options})


def call(**options: Any) -> Callable[[], Any]:
    """A call of fit that is good but for the options."""
    arguments: dict[str, Any] = {"model": classifier, "X": X, "y": CLASSES, "epochs": 1}
    arguments.update({"progress": False, **options})
    make = arguments.pop("model")
    return lambda: fit(make() if callable(make) else make, **arguments)
