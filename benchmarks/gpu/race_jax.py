"""JAX in the races: the step jitted, and a scan over all batches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.races import Race
from benchmarks.peers import with_jax

# On a GPU JAX takes TF32 for float32 unless told otherwise.
PRODUCTS = {"tf32": "tensorfloat32"}
HALVES = ("bfloat16", "float16")


def place(device: str) -> Any:
    """JAX's first device of that kind."""
    return jax.devices("cpu" if device == "cpu" else "gpu")[0]


def settle() -> None:
    """Wait for the device. Raises where it does no more."""
    jax.block_until_ready(jnp.ones(8) + 1)


class Jit(with_jax.Jit):
    """One compiled call per step; halves by casting weights and rows within the step."""

    precision: str

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        if race.precision == "float16":
            return "float16 needs a loss scale, which makes another step of it"
        return cls.unfit(race.workload, "cpu" if dry else "cuda")

    @staticmethod
    def configure(precision: str, dry: bool) -> None:
        """Set what JAX knows of precision for the whole process."""
        jax.config.update("jax_enable_x64", precision == "float64")
        products = "highest" if dry else PRODUCTS.get(precision, "highest")
        jax.config.update("jax_default_matmul_precision", products)

    @classmethod
    def racing(cls, race: Race, dry: bool) -> Jit:
        cls.configure(race.precision, dry)
        found = cls(race.workload, "cpu" if dry else "cuda")
        found.precision = race.precision
        return found

    def compile(self, step: Any) -> None:
        if self.precision not in HALVES:
            super().compile(step)
            return
        work = self.workload
        activation, dtype = with_jax.ACTIVATIONS[work.activation], jnp.dtype(self.precision)

        def loss_of(layers: Any, x: Any, y: Any) -> Any:
            low = jax.tree.map(lambda w: w.astype(dtype), layers)
            z = with_jax.forward(low, x.astype(dtype), activation).astype(jnp.float32)
            logp = jax.nn.log_softmax(z)
            return -jnp.mean(jnp.take_along_axis(logp, y[:, None], axis=1))

        def mixed(state: Any, x: Any, y: Any) -> Any:
            value, g = jax.value_and_grad(loss_of)(state[0], x, y)
            return with_jax.adam(state, g, work.lr), value

        super().compile(mixed)

    def turn(self) -> None:
        """All of a race are set alike."""

    def start_memory(self) -> None:
        self.before = self._memory()

    def peak_memory(self) -> int | None:
        """Bytes, where the peak of the process is of this contender: it cannot be set back."""
        (peak, _), (before, held) = self._memory(), self.before
        return peak - held if peak > before else None

    def _memory(self) -> tuple[int, int]:
        """The most bytes that were in use, and those that are; zeros where nobody counts."""
        stats = place(self.device).memory_stats() or {}
        return int(stats.get("peak_bytes_in_use", 0)), int(stats.get("bytes_in_use", 0))

    def told(self, counted: bool) -> dict[str, Any]:
        """What else there is to tell."""
        return self.info


class Scan(Jit, with_jax.Scan):
    """One compiled call for as many steps as there are batches."""
