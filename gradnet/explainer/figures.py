"""Values as tables and drawings write them."""

from __future__ import annotations

from typing import Any

from gradnet.tensor import Tensor


def shown(x: Tensor | None) -> str:
    """A value as the tables have it: four digits, large arrays cut short with their shape."""
    if x is None:
        return ""
    values: Any = x.tolist()
    if x.size == 1:
        while isinstance(values, list):
            values = values[0]
        return figure(values)
    if x.size <= 8 and x.ndim <= 2:
        return _nested(values)
    flat = x.reshape(-1)
    head = ", ".join(figure(v) for v in flat[:2].tolist())
    shape = "x".join(map(str, x.shape))
    return f"[{head}, ... {figure(flat[-1].item())}] {shape}"


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return f"[{', '.join(map(_nested, values))}]"
    return figure(values)


def figure(value: float) -> str:
    """A number in four digits, without an exponent where it is short: 0.6434, -9, 0.0003702."""
    if isinstance(value, bool | int):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    text = f"{value:.4g}"
    if "e" in text and 1e-5 <= abs(value) < 1e6:
        text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.8f}".rstrip("0")
    return "0" if text == "-0" else text
