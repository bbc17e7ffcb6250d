"""How the operands of an elementwise kernel lie in memory, as few axes as describe all of them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gradnet.backends import Shape
from gradnet.dtypes import DType

Strides = tuple[int, ...]

# The codes of dtypes that kernels are compiled for; see cuda_templates/program.py.
_CODES = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "bfloat16": "b2",
    "bool": "u1",
    **{
        f"{kind}{8 * size}": f"{kind[0]}{size}" for kind in ("int", "uint") for size in (1, 2, 4, 8)
    },
}
# The floats among them, and the size of the type that they are computed in.
BITS = {"f4": 32, "f8": 64, "f2": 32, "b2": 32}


def code_of(dtype: DType) -> str:
    """The code of a dtype; empty for complex numbers, which no kernel here computes with."""
    return _CODES.get(dtype.name, "")


class Layout(NamedTuple):
    """A loop over elements.

    lengths   of its axes, one at least
    kinds     of the arrays: "c" in the loop's order, "e" one element, "t" strided
    strides   those of the strided arrays, one after the other
    """

    lengths: tuple[int, ...]
    kinds: tuple[str, ...]
    strides: tuple[int, ...]


@lru_cache(maxsize=4096)
def layout(shape: Shape, arrays: tuple[tuple[Shape, Strides], ...]) -> Layout:
    """The loop over a shape, for arrays that broadcast to it, with strides in elements."""
    ndim = len(shape)
    full = [
        (0,) * (ndim - len(own))
        + tuple(0 if n == 1 else s for n, s in zip(own, strides, strict=True))
        for own, strides in arrays
    ]
    axes: list[list[int]] = []
    for axis, length in enumerate(shape):
        if length == 1:
            continue
        steps = [strides[axis] for strides in full]
        if axes and all(
            outer == inner * length for outer, inner in zip(axes[-1][1:], steps, strict=True)
        ):
            axes[-1] = [axes[-1][0] * length, *steps]
        else:
            axes.append([length, *steps])
    axes = axes or [[1] + [0] * len(arrays)]
    lengths = tuple(axis[0] for axis in axes)
    dense = [1] * len(axes)
    for d in reversed(range(len(axes) - 1)):
        dense[d] = dense[d + 1] * lengths[d + 1]
    kinds, rest = [], []
    for number in range(len(arrays)):
        strides_ = [axis[1 + number] for axis in axes]
        if lengths == (1,):
            kinds.append("c")
        elif not any(strides_):
            kinds.append("e")
        elif strides_ == dense:
            kinds.append("c")
        else:
            kinds.append("t")
            rest += strides_
    return Layout(lengths, tuple(kinds), tuple(rest))
