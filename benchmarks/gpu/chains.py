"""Chains of elementwise ops over a large array: bytes read and written once, over the copy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.gpu.device import Bench


def chains(bench: Bench, copy: float | None) -> dict[str, Any]:
    """The time of a chain, and its bytes per second over those of a copy.

    captured  the chain as gn.capture joins it, from tensors that it knows into one that it knows
    given     the same of tensors that it is given anew, which a graph has copied, as its result is
    eager     the same, op by op
    """
    import numpy as np

    import gradnet as gn

    count = 1 << 8 if bench.dry else 1 << 26
    found = {}
    with bench.inside():
        x = gn.asarray(np.random.default_rng().standard_normal(count).astype(np.float32))
        y = gn.asarray(np.ones(count, np.float32))
        z = gn.asarray(np.zeros(count, np.float32))

        def chain(x: Any, y: Any) -> Any:
            return gn.nn.gelu(x * y + 0.5) * y

        def known() -> None:
            z.assign_(chain(x, y))

        jobs: dict[str, Callable[[], Any]] = {"eager": lambda: chain(x, y)}
        if hasattr(x.array, "__cuda_array_interface__"):
            jobs["captured"], given = gn.capture(known), gn.capture(chain)
            jobs["given"] = lambda: given(x, y)
        with gn.no_grad():
            for name, job in jobs.items():
                job()  # recorded, and captured
                seconds = bench.seconds(job)
                rate = seconds and 3 * x.array.nbytes / seconds
                found[name] = {
                    "median": seconds,
                    "bytes": 3 * x.array.nbytes,
                    "of_copy_ceiling": rate / copy if rate and copy else None,
                }
    return found
