"""The cost of backpropagation: backward takes about twice forward's time on wide layers.

A layer's forward is one matrix product; its backward is two of the same size, one for the gradient
of the weights and one for that of the layer's input, which the first layer does not need.

    pytest benchmarks/test_backprop_cost.py --benchmark-columns=min,median
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import gradnet as gn

DEPTH = 4
ROUNDS = 12


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(("width", "batch"), [(256, 128), (1024, 256), (2048, 512)])
def test_backward_against_forward(benchmark: Any, width: int, batch: int, activation: str) -> None:
    """Forward with backward, and in `extra_info` each alone and their ratio."""
    model = gn.nn.MLP((width,) * (DEPTH + 1), activation=activation, output="linear")
    generator = gn.random.Generator(0)
    x, target = (generator.normal((batch, width)) for _ in range(2))
    seconds: list[float] = []

    def forward() -> gn.Tensor:
        return ((model(x) - target) ** 2).mean()

    def both() -> None:
        start = time.perf_counter()
        loss = forward()
        middle = time.perf_counter()
        loss.backward()
        end = time.perf_counter()
        seconds.extend((middle - start, end - middle))
        for parameter in model.parameters():
            parameter.grad = None

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=3)
    ahead, back = (min(seconds[i + 6 :: 2]) for i in (0, 1))
    layer = 2 * batch * width * width
    benchmark.extra_info.update(
        forward_seconds=ahead,
        backward_seconds=back,
        backward_over_forward=back / ahead,
        products_backward_over_forward=(2 * DEPTH - 1) / DEPTH,
        forward_gflops=DEPTH * layer / ahead / 1e9,
        backward_gflops=(2 * DEPTH - 1) * layer / back / 1e9,
    )
