"""The table that `model.summary()` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradnet import ops
from gradnet.graph import recording
from gradnet.nn.module import Module
from gradnet.tensor import Tensor


@dataclass(frozen=True)
class Row:
    """One layer: where it is, what it is, and what it costs for one sample.

    `output_shape` is that of one sample, None where it is not known, and so is `multiply_adds`.
    """

    name: str
    layer: str
    output_shape: tuple[int, ...] | None
    parameters: int
    multiply_adds: int | None


@dataclass(frozen=True)
class Summary:
    """The layers of a model and their sums. Printed, it is a table."""

    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    multiply_adds: int | None

    def __str__(self) -> str:
        head = ("layer", "", "output shape", "parameters", "multiply-adds")
        cells = [
            (
                row.name,
                row.layer,
                _shape(row.output_shape),
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.multiply_adds:,}" if row.multiply_adds else "",
            )
            for row in self.rows
        ]
        total = "?" if self.multiply_adds is None else f"{self.multiply_adds:,}"
        foot = ("total", "", "", f"{self.parameters:,}", total)
        table = [head, *cells, foot]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.rjust(width) if i > 2 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        text = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        if self.trainable != self.parameters:
            text.append(f"of the parameters {self.trainable:,} are trained")
        return "\n".join(text)

    __repr__ = __str__


def _shape(shape: tuple[int, ...] | None) -> str:
    return "?" if shape is None else f"({', '.join(['n', *map(str, shape)])})"


def summarize(model: Module, input_shape: int | tuple[int, ...] | None) -> Summary:
    """The summary of a model, from a forward of zeros in evaluation mode."""
    leaves = [(name, m) for name, m in model.named_modules() if _counts(m)]
    shapes: dict[int, tuple[int, ...]] = {}
    costs: dict[int, int] = {}
    x = _row(model, input_shape)
    if x is not None:
        _run(model, x, [m for _, m in leaves], shapes, costs)
    rows = []
    seen: set[int] = set()
    for name, module in leaves:
        own = [module.__dict__[key] for key, kind in module._members.items() if kind == "parameter"]
        count = sum(p.size for p in own if id(p) not in seen)
        seen.update(id(p) for p in own)
        known = id(module) in shapes
        rows.append(
            Row(
                name or type(model).__name__,
                repr(module).partition("\n")[0],
                shapes[id(module)] if known else None,
                count,
                costs[id(module)] if known else None,
            )
        )
    parameters = list(model.parameters())
    return Summary(
        tuple(rows),
        sum(p.size for p in parameters),
        sum(p.size for p in parameters if p.requires_grad),
        sum(costs.values()) if x is not None else None,
    )


def _counts(module: Module) -> bool:
    """Whether a module has a row: it has parameters of its own, or nothing below it."""
    return "parameter" in module._members.values() or not any(True for _ in module.children())


def _row(model: Module, input_shape: int | tuple[int, ...] | None) -> Tensor | None:
    """One row of zeros to call a model with, or None where its shape is not known."""
    example = model.example()
    if input_shape is None:
        return example
    lengths = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    if example is not None:
        return ops.zeros((1, *lengths), dtype=example.dtype, backend=example.backend)
    return ops.zeros((1, *lengths))


def _run(
    model: Module,
    x: Tensor,
    modules: list[Module],
    shapes: dict[int, tuple[int, ...]],
    costs: dict[int, int],
) -> None:
    """Record the shapes and costs of modules while a row goes through the model."""

    def record(module: Module, inputs: tuple[Any, ...], y: Any) -> None:
        before, after = (tuple(getattr(v, "shape", ())) for v in (inputs[0], y))
        shapes[id(module)] = after[1:]
        costs[id(module)] = costs.get(id(module), 0) + module.multiply_adds(before, after)

    modes = [(module, module.training) for module in model.modules()]
    removals = [module.register_forward_hook(record) for module in modules]
    try:
        model.eval()
        with recording(False):
            model(x)
    finally:
        for remove in removals:
            remove()
        for module, training in modes:
            module.__dict__["training"] = training
