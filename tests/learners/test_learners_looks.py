"""How learners show themselves: with their settings, and without arrays."""

from __future__ import annotations

from typing import Any

import pytest

from gradnet import learners


@pytest.mark.parametrize(
    ("learner", "shown"),
    [
        (
            learners.Perceptron(7, lr=0.5),
            "Perceptron(epochs=7, lr=0.5, has_bias=True, shuffle=False, seed=0)",
        ),
        (learners.LinearRegression("descent"), "LinearRegression(method='descent', steps=1000)"),
        (
            learners.SoftmaxRegression(l2=0.1),
            "SoftmaxRegression(l2=0.1, optimizer='lbfgs', epochs=100, seed=0)",
        ),
        (
            learners.MixtureDensityNetwork(2, (8,)),
            "MixtureDensityNetwork(hidden=(8,), activation='tanh')",
        ),
        (learners.Restarts((2, 4, 1), members=5), "Restarts((2, 4, 1), members=5)"),
    ],
)
def test_settings_are_shown(learner: Any, shown: str) -> None:
    assert repr(learner) == shown


def test_what_was_learned_is_not_shown() -> None:
    learner = learners.Perceptron().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    assert repr(learner) == repr(learners.Perceptron())
