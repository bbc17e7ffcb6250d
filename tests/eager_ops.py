"""What tests of eager ops in machine code share."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
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


def holds_nothing(turn: Callable[[], None], objects: Sequence[Any]) -> None:
    """Fail where calls leave references to objects behind, or memory."""
    gc.collect()
    before, blocks = [sys.getrefcount(o) for o in objects], sys.getallocatedblocks()
    for _ in range(120):
        turn()
    gc.collect()
    grown = [sys.getrefcount(o) - n for o, n in zip(objects, before, strict=True)]
    assert not [o for o, n in zip(objects, grown, strict=True) if abs(n) >= 100]
    assert sys.getallocatedblocks() - blocks < 120


def leaf(*shape: int, dtype: Any = np.float32) -> Tensor:
    values = np.random.default_rng(0).uniform(0.2, 0.9, shape)
    return gn.asarray(values.astype(dtype), requires_grad=True)


def chain(x: Tensor, w: Tensor) -> Tensor:
    y = x
    for _ in range(5):
        y = gn.sin(gn.tanh(y) * w + x)
    return gn.sum(y)
