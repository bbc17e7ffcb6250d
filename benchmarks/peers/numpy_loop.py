"""The lecture's loop: a network of two layers in plain NumPy, its gradient written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.base import Contender
from benchmarks.workloads import Workload


class Loop(Contender):
    """As the lecture writes it."""

    @classmethod
    def unfit(cls, workload: Workload, device: str) -> str:
        if device != "cpu":
            return "runs on the CPU only"
        return "" if workload.name == "lecture" else "the lecture's network only"

    def prepare(self) -> None:
        self.batches = list(zip(*self.workload.data(), strict=True))

    def build(self) -> None:
        self.initial = [w for w, _ in self.workload.weights()]
        self.w1, self.w2 = (w.copy() for w in self.initial)

    def step(self, x: Any, y: Any) -> Any:
        h = 1 / (1 + np.exp(-x.dot(self.w1)))
        y_pred = h.dot(self.w2)
        loss = np.square(y_pred - y).sum()
        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h.T.dot(grad_y_pred)
        grad_h = grad_y_pred.dot(self.w2.T)
        grad_w1 = x.T.dot(grad_h * h * (1 - h))
        self.w1 -= self.workload.lr * grad_w1
        self.w2 -= self.workload.lr * grad_w2
        return loss

    def reset(self) -> None:
        self.w1[...], self.w2[...] = self.initial
