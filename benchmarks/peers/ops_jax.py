"""The operations of JAX, jitted."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases import Case
from benchmarks.peers.operation import Call, Operation
from benchmarks.peers.with_jax import adam


def gradient(z: Any, y: Any) -> Any:
    def loss(z: Any) -> Any:
        logp = jax.nn.log_softmax(z)
        return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1))

    return jax.grad(loss)(z)


FUNCTIONS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "tanh": lambda x: jnp.tanh(x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "chain": lambda x, y, z: x * y / (1 + jnp.exp(-x)) + z,
    "linear_relu": lambda x, w, b: jax.nn.relu(x @ w + b),
    "sum": lambda x: x.sum(),
    "sum_rows": lambda x: x.sum(axis=0),
    "max_columns": lambda x: x.max(axis=1),
    "cross_entropy": gradient,
    "matmul": lambda a, b: a @ b,
}


def momentum(state: Any, g: Any) -> Any:
    p, m = state
    m = 0.9 * m + g
    return p - 1e-3 * m, m


def _jitted(name: str) -> Any:
    def make(*xs: Any) -> Call:
        compiled = jax.jit(FUNCTIONS[name])
        return lambda: compiled(*xs)

    return make


def _updated(rule: Any, states: int, counts: bool) -> Any:
    def make(p: Any, g: Any) -> Call:
        compiled = jax.jit(rule, donate_argnums=0)
        moments = [jnp.zeros_like(p) for _ in range(states)]
        state = (jnp.array(p, copy=True), *moments, *([jnp.zeros(())] if counts else []))

        def call() -> Any:
            nonlocal state
            state = compiled(state, g)
            return state[0]

        return call

    return make


class Jax(Operation):
    """A compiled function for each operation; updates get their state donated."""

    makers: ClassVar = {
        **{name: _jitted(name) for name in FUNCTIONS},
        "adam": _updated(partial(adam, lr=1e-3), 2, True),
        "sgd_momentum": _updated(momentum, 1, False),
    }

    @classmethod
    def unfit(cls, workload: Case, device: str) -> str:  # type: ignore[override]
        try:
            jax.devices("gpu" if device.startswith("cuda") else "cpu")
        except RuntimeError as error:
            return f"JAX has no such device: {str(error).splitlines()[0]}"
        return super().unfit(workload, device)

    def operand(self, x: Any) -> Any:
        return jnp.asarray(x.astype(np.int32) if x.dtype == np.int64 else x)

    def wait(self, loss: Any) -> None:
        jax.block_until_ready(loss)
