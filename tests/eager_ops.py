"""What tests of eager ops in machine code share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import gradnet as gn
from gradnet import backends
from gradnet.errors import GraphError, ShapeError
from gradnet.ops import quick
from gradnet.tensor import Tensor

BUILTIN = type(len)
FAILURES = (GraphError, ShapeError, TypeError, ValueError, OverflowError)


@contextmanager
def as_before() -> Iterator[None]:
    """Ops on the CPU backend with loops, left in Python or in machine code as they were."""
    was = isinstance(gn.add.direct, BUILTIN)
    with backends.use("numba"):
        yield
    (quick.install if was else quick.remove)()


def leaf(*shape: int, dtype: Any = np.float32) -> Tensor:
    values = np.random.default_rng(0).uniform(0.2, 0.9, shape)
    return gn.asarray(values.astype(dtype), requires_grad=True)


def chain(x: Tensor, w: Tensor) -> Tensor:
    y = x
    for _ in range(5):
        y = gn.sin(gn.tanh(y) * w + x)
    return gn.sum(y)
