"""JAX: the data on the device, an epoch of whole batches as one compiled scan."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.fitting.clock import Job
from benchmarks.peers.with_jax import adam

Key = Any


def main() -> None:
    job = Job()
    arrays = job.arrays()
    X, y, X_test, y_test = (jnp.asarray(arrays[k]) for k in ("X", "y", "X_test", "y_test"))
    key = jax.random.key(job.seed)
    layers = []
    for n, m in zip(job.sizes, job.sizes[1:], strict=False):
        key, own = jax.random.split(key)
        layers.append((jax.random.normal(own, (n, m)) * (2 / n) ** 0.5, jnp.zeros(m)))

    def forward(layers: Any, x: Any, key: Key | None) -> Any:
        for w, b in layers[:-1]:
            x = jax.nn.relu(x @ w + b)
            if key is not None and job.dropout:
                key, own = jax.random.split(key)
                keep = jax.random.bernoulli(own, 1 - job.dropout, x.shape)
                x = jnp.where(keep, x / (1 - job.dropout), 0)
        w, b = layers[-1]
        return x @ w + b

    def loss_of(layers: Any, x: Any, y: Any, key: Key) -> Any:
        z = forward(layers, x, key)
        if job.classification:
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1))
        return jnp.mean((z - y) ** 2)

    def step(carry: Any, rows: Any) -> Any:
        state, key = carry
        key, own = jax.random.split(key)
        loss, g = jax.value_and_grad(loss_of)(state[0], X[rows], y[rows], own)
        return (adam(state, g, job.lr), key), loss

    batches = len(X) // job.batch

    @jax.jit
    def epoch_of(carry: Any) -> Any:
        state, key = carry
        key, own = jax.random.split(key)
        order = jax.random.permutation(own, len(X))[: batches * job.batch]
        return jax.lax.scan(step, (state, key), order.reshape(batches, job.batch))[0]

    @jax.jit
    def score_of(layers: Any) -> Any:
        z = forward(layers, X_test, None)
        if job.classification:
            return jnp.mean(z.argmax(1) == y_test)
        return -jnp.sqrt(jnp.mean((z - y_test) ** 2))

    zeros = [jax.tree.map(jnp.zeros_like, layers) for _ in range(2)]
    carry: Any = ((layers, *zeros, jnp.zeros(())), key)
    for epoch in range(1, job.epochs + 1):
        carry = epoch_of(carry)
        if job.tell(epoch, float(score_of(carry[0][0]))):
            break


main()
