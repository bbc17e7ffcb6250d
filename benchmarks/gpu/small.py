"""A small program for the sanitizers: `python -m benchmarks.gpu.small BACKEND [fused]`.

Kernels of each kind on sizes that end within a block, then training steps, eager and captured; or
the kernels that hold many layers, or many steps.
Memory comes from the driver, block by block, so that a read beyond one is seen.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import gradnet as gn
from benchmarks.gpu import fused
from benchmarks.gpu.device import Bench
from gradnet import dtypes, formulas


def kernels(bench: Bench) -> None:
    """Every kind of kernel once."""
    on, rng = bench.backend, np.random.default_rng(1)

    def array(*shape: int) -> Any:
        return on.from_host(rng.standard_normal(shape).astype(np.float32), copy=True)

    x, z, bias = array(37, 53), array(37, 53), array(53)
    float32 = dtypes.float32
    tanh, slope = formulas.FORMULAS["tanh"], formulas.FORMULAS["tanh_dx"]
    on.map(formulas.multiply, x, bias, dtype=float32)
    for kind, axes in (("sum", (0,)), ("sum", (1,)), ("max", (0, 1))):
        on.reduce(kind, x, axes, False, dtype=float32)
    on.matmul(x, on.permute(z, (1, 0)))
    out = on.empty((37, 53), float32)
    on.bias_activation(z, bias, tanh, (), out=out)
    on.bias_activation_backward(x, out, slope, (), with_bias=True)
    on.softmax(x, False)
    classes = on.from_host(rng.integers(0, 53, 37), copy=True)
    on.softmax_cross_entropy(x, classes, 1 / 37, 0.1)
    for axis in (0, 1):
        for table in (x, array(2300, 3)):
            w, running = array(table.shape[1]), (array(table.shape[1]), array(table.shape[1]))
            follow = {"running": running, "momentum": 0.1} if axis == 0 else {}
            _, mean, factor = on.normalize(table, w, w, axis, 1e-3, **follow)
            on.normalize_backward(table, table, w, mean, factor, axis)
    on.take(x, (on.from_host(rng.integers(0, 37, 41), copy=True),))
    on.random("normal", 3, 0, (41,), float32)
    bench.wait()
    print("ran kernels", flush=True)


def steps(bench: Bench) -> None:
    """A few steps of a small network, op by op and captured."""
    rng = np.random.default_rng(2)
    with bench.inside():
        x = gn.asarray(rng.standard_normal((19, 13)).astype(np.float32))
        y = gn.asarray(rng.integers(0, 5, 19))
        model = gn.nn.MLP((13, 33, 5), output="softmax", dropout=0.1, seed=1)
        optimizer = gn.optim.Adam(model.parameters(), lr=1e-3)

        def step(x: Any, y: Any) -> Any:
            loss = model.output.loss(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        assert np.isfinite(float(step(x, y)))
        print("ran a step", flush=True)
        if hasattr(x.array, "__cuda_array_interface__"):
            taken = gn.capture(step)
            for _ in range(3):
                loss = taken(x, y)
            assert np.isfinite(float(loss))
            print("ran captured steps", flush=True)


def whole(bench: Bench) -> None:
    """Networks and trainings that are one kernel."""
    fused.fused_mlp(bench, few=True)
    print("ran fused networks", flush=True)
    fused.cluster(bench, few=True)
    print("ran trainings by a cluster", flush=True)


def main() -> None:
    """All of it."""
    bench = Bench(sys.argv[1])
    if not bench.dry:
        bench.cupy.cuda.set_allocator(None)
    for part in (whole,) if sys.argv[2:] == ["fused"] else (kernels, steps):
        part(bench)
    print("all has run", flush=True)


if __name__ == "__main__":
    main()
