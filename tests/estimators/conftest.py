"""Small data that all tests of the estimators use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

Arrays = tuple[Any, Any]


@pytest.fixture(scope="session")
def classes() -> Arrays:
    """120 rows of 5 features in three classes, named, that a plane hardly separates."""
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 3
    centres = rng.normal(size=(3, 5)) * 2
    return centres[codes] + rng.normal(size=(120, 5)), np.array(["a", "b", "c"])[codes]


@pytest.fixture(scope="session")
def values() -> Arrays:
    """120 rows of 5 features, and a number that depends on two of them."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 5))
    return X, X[:, 0] - 2 * X[:, 1] + 0.1 * rng.normal(size=120)
