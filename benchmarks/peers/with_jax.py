"""JAX: the whole step jitted with its state donated, and a scan over all batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.base import Contender
from benchmarks.workloads import Workload

ACTIVATIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}


def forward(layers: Any, x: Any, activation: Any) -> Any:
    for w, b in layers[:-1]:
        x = activation(x @ w if b is None else x @ w + b)
    w, b = layers[-1]
    return x @ w if b is None else x @ w + b


def cross_entropy(layers: Any, x: Any, y: Any, activation: Any) -> Any:
    logp = jax.nn.log_softmax(forward(layers, x, activation))
    return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1))


def squared_error(layers: Any, x: Any, y: Any, activation: Any) -> Any:
    return jnp.sum((forward(layers, x, activation) - y) ** 2)


def sgd(state: Any, g: Any, lr: float) -> Any:
    (layers,) = state
    return (jax.tree.map(lambda p, g: p - lr * g, layers, g),)


def adam(state: Any, g: Any, lr: float) -> Any:
    layers, m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + (1 - 0.9) * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + (1 - 0.999) * g * g, v, g)
    c1, c2 = 1 - 0.9**t, 1 - 0.999**t
    layers = jax.tree.map(
        lambda p, m, v: p - lr * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), layers, m, v
    )
    return layers, m, v, t


class Jit(Contender):
    """One compiled call per step."""

    @classmethod
    def unfit(cls, workload: Workload, device: str) -> str:
        kind = "gpu" if device.startswith("cuda") else "cpu"
        try:
            jax.devices(kind)
        except RuntimeError as error:
            return f"JAX has no device {kind}: {str(error).splitlines()[0]}"
        return ""

    def prepare(self) -> None:
        if self.workload.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        kind, _, number = self.device.partition(":")
        self.place = jax.devices("gpu" if kind == "cuda" else "cpu")[int(number or 0)]
        jax.config.update("jax_default_device", self.place)
        x, y = self.workload.data()
        if y.dtype == np.int64:
            y = y.astype(np.int32)  # JAX's own integers
        self.x, self.y = jnp.asarray(x), jnp.asarray(y)
        self.batches = [(self.x[i], self.y[i]) for i in range(len(x))]
        jax.block_until_ready(self.batches)

    def build(self) -> None:
        work = self.workload
        activation = ACTIVATIONS[work.activation]
        loss = {"cross_entropy": cross_entropy, "squared_error": squared_error}[work.loss]
        update = {"adam": adam, "sgd": sgd}[work.optimizer]

        def step(state: Any, x: Any, y: Any) -> Any:
            value, g = jax.value_and_grad(loss)(state[0], x, y, activation)
            return update(state, g, work.lr), value

        self.compile(step)
        layers = self.initial()
        if work.optimizer == "adam":
            zeros = [jax.tree.map(jnp.zeros_like, layers) for _ in range(2)]
            self.state: Any = (layers, *zeros, jnp.zeros((), self.x.dtype))
        else:
            self.state = (layers,)

    def initial(self) -> Any:
        """The initial weights, in buffers of their own."""
        return jax.tree.map(partial(jnp.array, copy=True), self.workload.weights())

    def compile(self, step: Any) -> None:
        """The step as this mode takes it."""
        self.compiled = jax.jit(step, donate_argnums=0)

    def step(self, x: Any, y: Any) -> Any:
        self.state, loss = self.compiled(self.state, x, y)
        return loss

    def reset(self) -> None:
        self.state = (self.initial(), *self.state[1:])

    def wait(self, loss: Any) -> None:
        jax.block_until_ready((loss, self.state))


class Scan(Jit):
    """One compiled call for as many steps as there are batches."""

    def __init__(self, workload: Workload, device: str) -> None:
        super().__init__(workload, device)
        self.stride = workload.batches  # type: ignore[misc]

    def compile(self, step: Any) -> None:
        def epoch(state: Any, x: Any, y: Any) -> Any:
            return jax.lax.scan(lambda state, batch: step(state, *batch), state, (x, y))

        self.compiled = jax.jit(epoch, donate_argnums=0)

    def losses(self, count: int) -> list[float]:
        return [float(loss) for loss in self.step(self.x, self.y)[:count]]

    def run(self, steps: int) -> None:
        for _ in range(-(-steps // self.stride)):
            loss = self.step(self.x, self.y)
        self.wait(loss)
