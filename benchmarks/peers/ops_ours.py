"""The operations of gradnet."""

from __future__ import annotations

from typing import Any, ClassVar

import gradnet as gn
from benchmarks.peers.operation import Call, Operation
from gradnet.formulas import exp


@gn.elementwise
def chain(x: Any, y: Any, z: Any) -> Any:
    return x * y / (1 + exp(-x)) + z


def cross_entropy(z: gn.Tensor, y: gn.Tensor) -> Call:
    return lambda: gn.grad(lambda z: gn.nn.cross_entropy(z, y))(z)


def update(p: gn.Tensor, g: gn.Tensor, kind: Any, **settings: Any) -> Call:
    parameter = gn.nn.Parameter(p)
    optimizer = kind([parameter], lr=1e-3, **settings)
    parameter.grad = g

    def call() -> gn.Tensor:
        optimizer.step()
        return parameter.detach()

    return call


class Gradnet(Operation):
    """One call for each operation."""

    makers: ClassVar = {
        "add": lambda x, y: lambda: x + y,
        "tanh": lambda x: lambda: gn.tanh(x),
        "gelu": lambda x: lambda: gn.nn.gelu(x),
        "chain": lambda x, y, z: lambda: chain(x, y, z),
        "linear_relu": lambda x, w, b: lambda: gn.ops.linear(x, w, b, activation="relu"),
        "sum": lambda x: lambda: gn.sum(x),
        "sum_rows": lambda x: lambda: gn.sum(x, axis=0),
        "max_columns": lambda x: lambda: gn.max(x, axis=1),
        "cross_entropy": cross_entropy,
        "adam": lambda p, g: update(p, g, gn.optim.Adam),
        "sgd_momentum": lambda p, g: update(p, g, gn.optim.SGD, momentum=0.9),
        "matmul": lambda a, b: lambda: a @ b,
    }

    def operand(self, x: Any) -> Any:
        return gn.asarray(x, device=self.device)

    def host(self, x: Any) -> Any:
        return x.numpy()

    def wait(self, loss: Any) -> None:
        loss.backend.synchronize()
