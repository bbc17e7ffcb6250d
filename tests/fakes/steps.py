"""Training steps to capture, and what is to be seen of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from captured_steps import Step as Step
from captured_steps import step_of
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_fused_replay import Undecided
from gradnet.kernels.cuda_graph import Graphs

import gradnet as gn
from fakes.cupy_over_numpy import Cupy
from gradnet import nn, optim

FEATURES, CLASSES, ROWS = 5, 3, 8
# What a replayed step asks of the device.
REPLAY = ["allocate", "launch stage", "graph", "launch stage"]


def cupy(cuda: CudaBackend) -> Cupy:
    found: Cupy = cuda._device.cupy
    return found


def batch(seed: int, rows: int = ROWS) -> tuple[gn.Tensor, gn.Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, FEATURES)).astype(np.float32)
    return gn.asarray(x), gn.asarray(rng.integers(0, CLASSES, rows))


def training(
    optimizer: str = "adam", *, schedule: str = "", clip: float = 0.0, **options: Any
) -> tuple[nn.MLP, Any, Step]:
    """A model, its optimizer, and a step of training."""
    gn.random.seed(3)
    model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", seed=0, **options)
    made = optim.create(optimizer, model.parameters(), lr=0.05)
    falling = optim.schedule(schedule, made, total_steps=20) if schedule else None
    return model, made, step_of(model, made, falling, clip or None)


def bits(model: nn.Module, losses: list[gn.Tensor]) -> list[bytes]:
    found = [*model.state_dict().values(), *losses]
    return [x.numpy().tobytes() for x in found]


def replay_of(captured: Any) -> Graphs:
    found = captured._last._replay
    found = found.taken if isinstance(found, Undecided) else found
    assert isinstance(found, Graphs)
    return found
