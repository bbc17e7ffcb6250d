"""Small data sets that the tests of training share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray


class Sample(NamedTuple):
    X: NDArray[np.float32]
    y: NDArray[np.int64] | NDArray[np.float32]


@pytest.fixture(scope="session")
def classes() -> Sample:
    """90 rows of 5 features in 3 classes, learnable but not separable."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    centres = rng.normal(size=(3, 5)) * 1.5
    X = centres[y] + rng.normal(size=(90, 5))
    order = rng.permutation(90)
    return Sample(X[order].astype(np.float32), y[order].astype(np.int64))


@pytest.fixture(scope="session")
def values() -> Sample:
    """80 rows of 4 features and a smooth function of them with noise."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(80, 4))
    y = np.sin(X[:, 0]) + 0.5 * X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=80)
    return Sample(X.astype(np.float32), y.astype(np.float32))
