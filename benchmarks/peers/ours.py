"""gradnet: a step written by hand, the same step captured, and gn.fit."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

import gradnet as gn
from benchmarks.peers.base import Contender
from benchmarks.workloads import Workload


class Eager(Contender):
    """Op by op."""

    def prepare(self) -> None:
        x, y = self.workload.data()
        self.batches = [
            (gn.asarray(a, device=self.device), gn.asarray(b, device=self.device))
            for a, b in zip(x, y, strict=True)
        ]

    def build(self) -> None:
        work = self.workload
        self.model = model = gn.nn.MLP(
            work.sizes,
            activation=work.activation,
            output="softmax" if work.loss == "cross_entropy" else "linear",
            bias=work.bias,
            dtype=work.dtype,
            device=self.device,
            seed=0,
        )
        self.initial = [
            gn.asarray(value, device=self.device)
            for layer in work.weights()
            for value in layer
            if value is not None
        ]
        self.parameters = list(model.parameters())
        self.reset()
        if work.optimizer == "adam":
            opt: Any = gn.optim.Adam(self.parameters, lr=work.lr)
        else:
            opt = gn.optim.SGD(self.parameters, lr=work.lr)
        self.optimizer = opt
        self.plain = self.written(model, opt)
        self.step = self.wrapped(self.plain)  # type: ignore[method-assign]

    def written(self, model: gn.nn.Module, opt: Any) -> Any:
        """The step as a user writes it."""
        loss_of = gn.nn.cross_entropy if self.workload.loss == "cross_entropy" else sum_of_squares

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            loss = loss_of(model(x), y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        return step

    def wrapped(self, step: Any) -> Any:
        """The step as this mode takes it."""
        return step

    def reset(self) -> None:
        with gn.no_grad():
            for parameter, value in zip(self.parameters, self.initial, strict=True):
                parameter.assign_(value)

    def wait(self, loss: Any) -> None:
        self.parameters[0].backend.synchronize()


class Captured(Eager):
    """The same step, recorded once and replayed."""

    @classmethod
    def unfit(cls, workload: Workload, device: str) -> str:
        return "" if hasattr(gn, "capture") else "this version of gradnet has no gn.capture"

    def wrapped(self, step: Any) -> Any:
        return gn.capture(step)


class Gate(gn.training.Callback):
    """Lets a run go on for as many epochs as are asked for, and says when the last has ended.

    Between them no other thread is woken, which would take the processor from the run.
    """

    def __init__(self) -> None:
        self.permits, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.wanted = self.left = 0

    def on_epoch_start(self, run: Any) -> None:
        if not self.left:
            self.permits.acquire()
            self.left = self.wanted

    def on_epoch_end(self, run: Any) -> None:
        self.left -= 1
        if not self.left:
            self.ended.release()

    def run(self, epochs: int) -> None:
        """Let so many epochs pass."""
        self.wanted = epochs
        self.permits.release()
        self.ended.acquire()


class Fit(Eager):
    """gn.fit over as many rows as the batches have, shuffled; one long run that waits at epochs."""

    def __init__(self, workload: Workload, device: str) -> None:
        super().__init__(workload, device)
        self.stride = workload.batches  # type: ignore[misc]
        self.gate: Gate | None = None

    def prepare(self) -> None:
        x, y = self.workload.data()
        self.x = gn.asarray(x.reshape(-1, x.shape[-1]), device=self.device)
        self.y = gn.asarray(np.concatenate(list(y)), device=self.device)

    def build(self) -> None:
        super().build()
        self.loss = None if self.workload.loss == "cross_entropy" else sum_of_squares

    def fit(self, x: Any, y: Any, epochs: int, **options: Any) -> gn.training.History:
        return gn.fit(
            self.model,
            x,
            y,
            optimizer=self.optimizer,
            loss=self.loss,
            epochs=epochs,
            batch_size=self.workload.batch,
            progress=False,
            **options,
        )

    def losses(self, count: int) -> list[float]:
        """The mean of the losses, which is all that an epoch tells."""
        rows = count * self.workload.batch
        return [float(self.fit(self.x[:rows], self.y[:rows], 1, shuffle=False)["loss"][0])]

    def run(self, steps: int) -> None:
        if self.gate is None:
            self.gate = Gate()
            endless = threading.Thread(
                target=self.fit,
                args=(self.x, self.y, 10**9),
                kwargs={"callbacks": [self.gate]},
                daemon=True,
            )
            endless.start()
        self.gate.run(math.ceil(steps / self.stride))
        self.wait(None)


def sum_of_squares(z: Any, y: Any, sample_weight: Any = None) -> gn.Tensor:
    """The sum of all squared errors."""
    return gn.nn.mse(z, y, reduction="sum")
