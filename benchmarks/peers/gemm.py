"""The floor: the matrix products of a step alone, through NumPy's BLAS, into buffers that wait."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from benchmarks.peers.base import Contender, quickest
from gradnet import blas

ALONE, TOGETHER = 0, 1 << 62  # multiply-adds for which `blas.prepare` takes one thread, or all


class Gemm(Contender):
    """One product per layer forward, two backward; no gradient for the first layer's input."""

    def prepare(self) -> None:
        self.xp: Any = np
        if self.device != "cpu":
            self.xp = importlib.import_module("cupy")
        x, _ = self.workload.data()
        self.batches = [(self.xp.asarray(rows), None) for rows in x]

    def build(self) -> None:
        xp, work = self.xp, self.workload
        rng = np.random.default_rng(work.seed + 2)
        self.weights = [xp.asarray(w) for w, _ in work.weights()]
        # Values of order one stand for activations and their gradients.
        self.values, self.slopes = (
            [
                xp.asarray(rng.standard_normal((work.batch, m)).astype(work.dtype))
                for m in work.sizes[1:]
            ]
            for _ in range(2)
        )
        self.forward = [xp.empty_like(value) for value in self.values]
        self.outer = [xp.empty_like(w) for w in self.weights]
        self.inner = [xp.empty_like(value) for value in self.values[:-1]]

    def tune(self) -> None:
        """Keep one thread or all of them, whichever is faster for this step."""
        if self.device != "cpu":
            return
        seconds = {}
        for label, choice in (("one", ALONE), ("all", TOGETHER)):
            blas.prepare(choice)
            seconds[label] = quickest(self.run)
        self.info["threads"] = min(seconds, key=seconds.__getitem__)
        blas.prepare(ALONE if self.info["threads"] == "one" else TOGETHER)

    def step(self, x: Any, y: Any) -> Any:
        matmul = self.xp.matmul
        inputs = [x, *self.values]
        for i, w in enumerate(self.weights):
            matmul(inputs[i], w, out=self.forward[i])
        for i in range(len(self.weights) - 1, -1, -1):
            matmul(inputs[i].T, self.slopes[i], out=self.outer[i])
            if i:
                matmul(self.slopes[i], self.weights[i].T, out=self.inner[i - 1])

    def reset(self) -> None:
        pass

    def wait(self, loss: Any) -> None:
        if self.device != "cpu":
            self.xp.cuda.get_current_stream().synchronize()

    def losses(self, count: int) -> list[float]:
        return []
