"""scikit-learn: MLPClassifier, one partial_fit per step."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from benchmarks.peers.base import Contender
from benchmarks.workloads import Workload


class PartialFit(Contender):
    """A step for each call; its loss and optimizer are ours where there are three classes."""

    @classmethod
    def unfit(cls, workload: Workload, device: str) -> str:
        if device != "cpu":
            return "runs on the CPU only"
        if workload.loss != "cross_entropy" or not workload.bias or workload.optimizer != "adam":
            return "it has no such loss"
        return "it has one output unit for two classes" if workload.sizes[-1] < 3 else ""

    def prepare(self) -> None:
        self.batches = list(zip(*self.workload.data(), strict=True))

    def build(self) -> None:
        work = self.workload
        self.model = MLPClassifier(
            work.sizes[1:-1],
            activation=work.activation,
            solver="adam",
            alpha=0.0,
            batch_size=work.batch,
            learning_rate_init=work.lr,
            shuffle=False,
            random_state=0,
        )
        # Its own first step makes the arrays; the workload's weights take their place.
        x, y = self.batches[0]
        self.model.partial_fit(x, y, classes=np.arange(work.sizes[-1]))
        self.initial = work.weights()
        self.reset()
        del self.model._optimizer

    def step(self, x: Any, y: Any) -> Any:
        self.model.partial_fit(x, y)
        return self.model.loss_

    def reset(self) -> None:
        for i, (w, b) in enumerate(self.initial):
            self.model.coefs_[i][...] = w
            self.model.intercepts_[i][...] = b
