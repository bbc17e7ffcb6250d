"""The operations of NumPy, and the ceilings: what memory and the BLAS can do at best."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np

from benchmarks.cases import Case
from benchmarks.peers.base import quickest
from benchmarks.peers.operation import Operation

PRODUCT = 1024


class NumPy(Operation):
    """One call, or a few, for each operation."""

    makers: ClassVar = {
        "add": lambda x, y: lambda: x + y,
        "tanh": lambda x: lambda: np.tanh(x),
        "chain": lambda x, y, z: lambda: x * y / (1 + np.exp(-x)) + z,
        "linear_relu": lambda x, w, b: lambda: np.maximum(x @ w + b, 0),
        "sum": lambda x: lambda: x.sum(),
        "sum_rows": lambda x: lambda: x.sum(axis=0),
        "max_columns": lambda x: lambda: x.max(axis=1),
        "matmul": lambda a, b: lambda: a @ b,
    }

    @classmethod
    def unfit(cls, workload: Case, device: str) -> str:  # type: ignore[override]
        return super().unfit(workload, device) if device == "cpu" else "runs on the CPU only"

    def operand(self, x: Any) -> Any:
        return x


class Memory(NumPy):
    """A copy that moves as many bytes as the case, on one core or all, as is faster."""

    @classmethod
    def unfit(cls, workload: Case, device: str) -> str:  # type: ignore[override]
        return "" if device == "cpu" else "runs on the CPU only"

    def prepare(self) -> None:
        count = max(1, int(self.workload.bytes) // 2)
        self.source = np.ones(count, np.uint8)
        self.target = np.zeros(count, np.uint8)

    def build(self) -> None:
        self.call = lambda: np.copyto(self.target, self.source)

    def losses(self, count: int) -> list[float]:
        return []

    def tune(self) -> None:
        one = self.call
        cores = os.cpu_count() or 1
        threads = ThreadPoolExecutor(cores)
        parts = list(
            zip(
                np.array_split(self.target, cores),
                np.array_split(self.source, cores),
                strict=True,
            )
        )

        def every() -> Any:
            for done in [threads.submit(np.copyto, a, b) for a, b in parts[1:]]:
                np.copyto(*parts[0])
                done.result()

        seconds = {}
        for label, call in (("one core", one), ("all cores", every)):
            self.call = call
            seconds[label] = quickest(self.run)
        self.info["copied on"] = best = min(seconds, key=seconds.__getitem__)
        self.call = {"one core": one, "all cores": every}[best]


class Arithmetic(Memory):
    """A product of square matrices, large enough for the BLAS to be at its best."""

    def prepare(self) -> None:
        rng = np.random.default_rng(0)
        self.a, self.b = rng.standard_normal((2, PRODUCT, PRODUCT)).astype(self.workload.dtype)
        self.c = np.empty_like(self.a)

    def build(self) -> None:
        self.call = lambda: np.matmul(self.a, self.b, out=self.c)

    def tune(self) -> None:
        pass
