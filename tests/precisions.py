"""What tests of precision compute with."""

from __future__ import annotations

from typing import Any

import numpy as np

import gradnet as gn
from gradnet.dtypes import bfloat16

# The unit roundoff of each.
ROUNDOFF = {"tf32": 2.0**-11, "bfloat16": 2.0**-8, "float16": 2.0**-11}
HALVES = {"bfloat16": bfloat16(), "float16": gn.float16}
RNG = np.random.default_rng(3)
X, W, B = (RNG.normal(size=shape).astype(np.float32) for shape in ((9, 6), (6, 4), (4,)))
G = RNG.normal(size=(9, 4)).astype(np.float32)


def leaves(*arrays: Any) -> list[gn.Tensor]:
    return [gn.asarray(x, requires_grad=True) for x in arrays]
