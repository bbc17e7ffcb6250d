"""What the tests of pictures share: that no global state is touched, and small things to draw."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest

import gradnet as gn
from gradnet.training import History

THEMES = ("light", "dark", None)


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of matplotlib are as before, and no figure is left to pyplot."""
    monkeypatch.setattr("gradnet.plots.canvas.DPI", 40)
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.fixture(params=THEMES)
def theme(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def run() -> History:
    """Five epochs: the loss spans a factor of 100, the third is best."""
    history = History()
    rows = [(10.0, 9.0, 0.2), (2.0, 3.0, 0.5), (0.6, 1.0, 0.9), (0.3, 1.5, 0.8), (0.1, 2.0, 0.8)]
    for loss, held, accuracy in rows:
        history.append({"loss": loss, "val_loss": held, "val_accuracy": accuracy, "lr": 0.1})
    history.monitor, history.best_epoch = "val_loss", 3
    return history


@pytest.fixture
def probabilities() -> tuple[Any, Any]:
    """60 rows of 3 classes, and probabilities that are right for most."""
    y = np.arange(60) % 3
    z = gn.random.Generator(0).normal((60, 3)).numpy() + 2.0 * np.eye(3)[y]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return y, p
