"""The operations of PyTorch, eager and compiled."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from benchmarks.cases import Case
from benchmarks.peers.operation import Call, Operation


def gradient(z: Any, y: Any) -> Any:
    z = z.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(z, y), z)[0]


def update(p: Any, g: Any, kind: Any, **settings: Any) -> Call:
    parameter = torch.nn.Parameter(p)
    optimizer = kind([parameter], lr=1e-3, fused=True, **settings)
    parameter.grad = g

    def call() -> Any:
        optimizer.step()
        return parameter

    return call


FUNCTIONS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "tanh": lambda x: torch.tanh(x),
    "gelu": lambda x: F.gelu(x),
    "chain": lambda x, y, z: x * y / (1 + torch.exp(-x)) + z,
    "linear_relu": lambda x, w, b: F.relu(x @ w + b),
    "sum": lambda x: x.sum(),
    "sum_rows": lambda x: x.sum(dim=0),
    "max_columns": lambda x: x.amax(dim=1),
    "cross_entropy": gradient,
    "matmul": lambda a, b: a @ b,
}


def _eager(name: str) -> Any:
    return lambda *xs: lambda: FUNCTIONS[name](*xs)


def _compiled(name: str) -> Any:
    def make(*xs: Any) -> Call:
        compiled = torch.compile(FUNCTIONS[name])
        return lambda: compiled(*xs)

    return make


class Torch(Operation):
    """Called op by op."""

    makers: ClassVar = {
        **{name: _eager(name) for name in FUNCTIONS},
        "adam": lambda p, g: update(p, g, torch.optim.Adam),
        "sgd_momentum": lambda p, g: update(p, g, torch.optim.SGD, momentum=0.9),
    }

    @classmethod
    def unfit(cls, workload: Case, device: str) -> str:  # type: ignore[override]
        if device.startswith("cuda") and not torch.cuda.is_available():
            return "this PyTorch sees no GPU"
        return super().unfit(workload, device)

    def operand(self, x: Any) -> Any:
        return torch.from_numpy(x).to(self.device)

    def host(self, x: Any) -> Any:
        return x.detach().cpu().numpy()

    def wait(self, loss: Any) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


class Compiled(Torch):
    """Compiled where there is something to fuse."""

    makers: ClassVar = {name: _compiled(name) for name in ("gelu", "chain", "linear_relu")}
