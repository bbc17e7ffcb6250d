"""A contender of the suite `ops`: one operation of one library, called again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from benchmarks.cases import Case
from benchmarks.peers.base import Contender

Call = Callable[[], Any]


class Operation(Contender):
    """Makes operands from a case, and a function of none that computes the result."""

    makers: ClassVar[dict[str, Callable[..., Call]]]
    workload: Case  # type: ignore[assignment]

    @staticmethod
    def read(record: dict[str, Any]) -> Case:  # type: ignore[override]
        return Case.of(record)

    @classmethod
    def unfit(cls, workload: Case, device: str) -> str:  # type: ignore[override]
        return "" if workload.op in cls.makers else "it has no such operation"

    def operand(self, x: Any) -> Any:
        """An operand as the library wants it on the device."""
        raise NotImplementedError

    def host(self, x: Any) -> Any:
        """A result as a NumPy array."""
        return np.asarray(x)

    def prepare(self) -> None:
        self.operands = [self.operand(x) for x in self.workload.operands()]

    def build(self) -> None:
        self.call = self.makers[self.workload.op](*self.operands)

    def reset(self) -> None:
        pass

    def losses(self, count: int) -> list[float]:
        """The mean size of the result, and of its first column or its beginning."""
        result = np.atleast_1d(self.host(self.call())).astype(np.float64)
        return [float(np.abs(result).mean()), float(np.abs(result[..., :1]).mean())]

    def run(self, steps: int) -> None:
        call = self.call
        for _ in range(steps):
            result = call()
        self.wait(result)
