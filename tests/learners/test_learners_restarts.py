"""Restarts: members as networks fitted alone, the best one, and the spread of the minima."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import learners, nn

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR = np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("data", "sizes", "output"), [("xor", (2, 4, 1), "sigmoid"), ("spirals", (2, 8, 3), "softmax")]
)
def test_members_are_single_fits(data: str, sizes: Any, output: str, backend: Any) -> None:
    part = gn.data.load(data).split(seed=0).train
    X, y = part.X[:90], part.y[:90]
    options: dict[str, Any] = {"lr": 0.05, "epochs": 3, "batch_size": 32, "seed": 4}
    together = learners.Restarts(sizes, "tanh", output, members=5, **options).fit(X, y)
    assert np.shape(together.trace) == (3, 5)
    for r in range(5):
        model = nn.MLP(sizes, "tanh", output=output, seed=4 + r)
        history = gn.fit(model, X, y, progress=False, **options)
        np.testing.assert_allclose([losses[r] for losses in together.trace], history["loss"], 1e-5)
        np.testing.assert_allclose(
            together.member(r)(X).detach().numpy(), model(X).detach().numpy(), atol=1e-4
        )
        assert together.losses[r] == pytest.approx(model.output.loss(model(X), y).item(), rel=1e-4)
    assert together.history["loss"][-1] == pytest.approx(sum(together.trace[-1]), rel=1e-5)


def test_the_best_of_many_starts_learns_xor() -> None:
    restarts = learners.Restarts(
        (2, 2, 1), members=30, lr=0.1, epochs=150, batch_size=None, seed=0
    ).fit(CORNERS, XOR)
    found = restarts.predict(CORNERS).numpy()[:, 0]
    np.testing.assert_array_equal(found > 0.5, XOR == 1)
    assert restarts.losses[restarts.best] == min(restarts.losses)
    spread = restarts.spread()
    assert spread.lowest == min(restarts.losses) < 0.1
    assert spread.highest == max(restarts.losses)
    assert spread.lowest < spread.median < spread.highest
    # Some starts end in a minimum that is none of XOR: half of the corners, or all, undecided.
    assert spread.highest > 0.3
    assert sum(members for _, members in spread.minima) == 30
    assert len(spread.minima) > 1
    levels = [loss for loss, _ in spread.minima]
    assert levels == sorted(levels)


def test_fitting_again_starts_anew() -> None:
    restarts = learners.Restarts((2, 3, 1), members=3, epochs=2, batch_size=None)
    first = restarts.fit(CORNERS, XOR).losses
    assert restarts.fit(CORNERS, XOR).losses == first
    assert len(restarts.trace) == 2


def test_equal_losses_are_one_minimum() -> None:
    restarts = learners.Restarts((2, 1), members=4, epochs=1)
    restarts.losses = [1.0, 0.5, 1.01, 0.5]
    assert restarts.spread(0.1) == (0.5, 0.75, 1.01, [(0.5, 2), (pytest.approx(1.005), 2)])
    restarts.losses = [0.3] * 4
    assert restarts.spread().minima == [(pytest.approx(0.3), 4)]
