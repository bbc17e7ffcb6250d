"""PyTorch: eager with Adam(), with Adam(fused=True), and the whole step compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers.base import Contender, quickest
from benchmarks.workloads import Workload

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def network(work: Workload, device: str) -> nn.Sequential:
    """The workload's network with its initial weights."""
    dtype = getattr(torch, work.dtype)
    layers: list[nn.Module] = []
    for w, b in work.weights():
        n, m = w.shape
        layer = nn.Linear(n, m, bias=work.bias, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T))
            if b is not None:
                layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, ACTIVATIONS[work.activation]()]
    return nn.Sequential(*layers[:-1]).to(device)


class Eager(Contender):
    """The loop of every tutorial."""

    fused: bool | None = None  # as PyTorch itself chooses

    @classmethod
    def unfit(cls, workload: Workload, device: str) -> str:
        if device.startswith("cuda") and not torch.cuda.is_available():
            return "this PyTorch sees no GPU"
        return ""

    def prepare(self) -> None:
        x, y = self.workload.data()
        self.batches = [
            (torch.from_numpy(a).to(self.device), torch.from_numpy(np.asarray(b)).to(self.device))
            for a, b in zip(x, y, strict=True)
        ]

    def build(self) -> None:
        work = self.workload
        self.model = model = network(work, self.device)
        self.initial = [p.detach().clone() for p in model.parameters()]
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[work.optimizer]
        opt = kind(model.parameters(), lr=work.lr, fused=self.fused)

        if work.loss == "cross_entropy":

            def loss_of(x: Any, y: Any) -> Any:
                return F.cross_entropy(model(x), y)
        else:

            def loss_of(x: Any, y: Any) -> Any:
                return F.mse_loss(model(x), y, reduction="sum")

        self.make(loss_of, opt)

    def make(self, loss_of: Any, opt: Any) -> None:
        """The step as this mode takes it."""

        def step(x: Any, y: Any) -> Any:
            loss = loss_of(x, y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        self.step = step  # type: ignore[method-assign]

    @torch.no_grad()
    def reset(self) -> None:
        for p, value in zip(self.model.parameters(), self.initial, strict=True):
            p.copy_(value)

    def losses(self, count: int) -> list[float]:
        cycled = (self.batches[i % len(self.batches)] for i in range(count))
        return [self.step(x, y).item() for x, y in cycled]

    def wait(self, loss: Any) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


class Fused(Eager):
    """With the optimizer's update as one kernel."""

    fused = True


class Compiled(Eager):
    """Compiled: the whole step, or forward and backward beside the fused update, as is faster."""

    fused = True

    def make(self, loss_of: Any, opt: Any) -> None:
        def step(x: Any, y: Any) -> Any:
            loss = loss_of(x, y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        inner = torch.compile(loss_of, fullgraph=True)

        def outer(x: Any, y: Any) -> Any:
            loss = inner(x, y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        self.ways = {"the whole step": torch.compile(step), "forward and backward": outer}
        self.step = self.ways["the whole step"]  # type: ignore[method-assign]

    def tune(self) -> None:
        seconds = {}
        for label, step in self.ways.items():
            self.step = step  # type: ignore[method-assign]
            seconds[label] = quickest(self.run)
        self.info["compiled"] = best = min(seconds, key=seconds.__getitem__)
        self.step = self.ways[best]  # type: ignore[method-assign]
