"""The cases of the suite `ops`: single operations, each defined once with its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Cost = tuple[float, float]
ITEMSIZE = 4

SMALL, LARGE = (256, 1024), (4096, 2048)


@dataclass(frozen=True)
class Case:
    """One operation on float32 operands of those shapes.

    op       what is computed: a name that each peer's file has a function for
    classes  how many classes the last operand, integers, has; 0 where there is none
    """

    name: str
    group: str
    op: str
    shapes: tuple[Shape, ...]
    classes: int = 0
    dtype: str = "float32"
    bytes: float = 0.0  # moved, as the cost says; set by `record`

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Case:
        """The case that `record()` describes."""
        return cls(**{**record, "shapes": tuple(map(tuple, record["shapes"]))})

    def record(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "bytes": self.cost()[1]}

    def operands(self) -> list[NDArray[Any]]:
        """The operands, small enough that products stay of order one."""
        rng = np.random.default_rng(0)
        found: list[NDArray[Any]] = []
        for shape in self.shapes:
            scale = shape[0] ** -0.5 if self.group in ("matmul", "fused product") else 1.0
            # Sums that cancel would have no digits to compare.
            shift = 1.0 if self.group == "reductions" else 0.0
            found.append((scale * rng.standard_normal(shape) + shift).astype(self.dtype))
        if self.classes:
            found.append(rng.integers(0, self.classes, self.shapes[0][0]))
        return found

    def cost(self) -> Cost:
        """(operations, bytes), as our op of that name declares."""
        return COSTS[self.op](*self.shapes)


def _elementwise(name: str) -> Callable[..., Cost]:
    def cost(*shapes: Shape) -> Cost:
        from gradnet.ops.elementwise import op

        return op(name).cost(*shapes, itemsize=ITEMSIZE)

    return cost


def _chain(*shapes: Shape) -> Cost:
    from gradnet.ops.elementwise import elementwise_cost

    return elementwise_cost(8, shapes, ITEMSIZE)


def _reduction(axes: tuple[int, ...]) -> Callable[..., Cost]:
    def cost(shape: Shape) -> Cost:
        from gradnet.ops.reduce import SUM

        return SUM.cost(shape, axes=axes, keepdims=False, itemsize=ITEMSIZE)

    return cost


def _linear_relu(*shapes: Shape) -> Cost:
    from gradnet.ops.elementwise import op
    from gradnet.ops.fused import LINEAR

    return LINEAR.cost(*shapes, itemsize=ITEMSIZE, activation=op("relu"))


def _cross_entropy(shape: Shape) -> Cost:
    from gradnet.ops.probabilities import CROSS_ENTROPY

    return CROSS_ENTROPY.cost(shape, itemsize=ITEMSIZE)


def _matmul(*shapes: Shape) -> Cost:
    from gradnet.ops.multilinear import MATMUL

    return MATMUL.cost(*shapes, itemsize=ITEMSIZE)


def _update(name: str) -> Callable[..., Cost]:
    def cost(p: Shape, g: Shape) -> Cost:
        from benchmarks.workloads import update_cost

        return update_cost(name, p[0], ITEMSIZE)

    return cost


COSTS: dict[str, Callable[..., Cost]] = {
    "add": _elementwise("add"),
    "tanh": _elementwise("tanh"),
    "gelu": _elementwise("gelu"),
    "chain": _chain,
    "linear_relu": _linear_relu,
    "sum": _reduction((0, 1)),
    "sum_rows": _reduction((0,)),
    "max_columns": _reduction((1,)),
    "cross_entropy": _cross_entropy,
    "adam": _update("adam"),
    "sgd_momentum": _update("sgd_momentum"),
    "matmul": _matmul,
}


def _cases() -> list[Case]:
    found = []
    for label, shape in (("small", SMALL), ("large", LARGE)):
        count = (shape[0] * shape[1],)
        found += [
            Case(f"add-{label}", "elementwise", "add", (shape, shape)),
            Case(f"tanh-{label}", "elementwise", "tanh", (shape,)),
            Case(f"gelu-{label}", "elementwise", "gelu", (shape,)),
            Case(f"chain-{label}", "fused", "chain", (shape, shape, shape)),
            Case(f"sum-{label}", "reductions", "sum", (shape,)),
            Case(f"sum-rows-{label}", "reductions", "sum_rows", (shape,)),
            Case(f"max-columns-{label}", "reductions", "max_columns", (shape,)),
            Case(f"adam-{label}", "updates", "adam", (count, count)),
            Case(f"sgd-momentum-{label}", "updates", "sgd_momentum", (count, count)),
        ]
    return [
        *found,
        Case("linear-relu", "fused product", "linear_relu", ((256, 1024), (1024, 1024), (1024,))),
        Case("cross-entropy-10", "cross-entropy", "cross_entropy", ((1024, 10),), classes=10),
        Case("cross-entropy-1000", "cross-entropy", "cross_entropy", ((1024, 1000),), classes=1000),
        Case("matmul-64", "matmul", "matmul", ((64, 64), (64, 64))),
        Case("matmul-thin", "matmul", "matmul", ((128, 784), (784, 128))),
        Case("matmul-1024", "matmul", "matmul", ((1024, 1024), (1024, 1024))),
    ]


CASES = {case.name: case for case in _cases()}
