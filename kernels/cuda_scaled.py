"""The CUDA backend's updates from gradients of a scaled loss: two launches, and none that waits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gradnet import binding
from gradnet.backends import Array, Formula

from .cuda_checks import Checks
from .cuda_device import on_device
from .cuda_elementwise import compiles, floats, width_of
from .cuda_layout import BITS, code_of
from .cuda_templates import scaled
from .cuda_templates.elementwise import FEW
from .cuda_templates.program import blocks_for

_finite = cache(scaled.finite)
_scaled_update = cache(scaled.scaled_update)


class Scaled(Checks):
    """What trains with a scale for the loss. Part of the CUDA backend."""

    @on_device
    def finite(self, x: Array, numbers: Array) -> tuple[Array, Array]:
        fine = self._device.empty((scaled.parts_of(x.size),), np.dtype(np.bool_))
        kept = self._device.empty(numbers.shape, numbers.dtype)
        self._are_finite(x, numbers, fine, kept)
        return fine, kept

    def _are_finite(self, x: Array, numbers: Array, fine: Array, kept: Array) -> None:
        """Both results of `finite`, in contiguous memory."""
        x, code = self._dense(x), code_of(x.dtype)
        program = _finite(BITS[code], code, width_of(x))
        arrays = (x, fine, self._dense(numbers), kept)
        self._launch(program, scaled.parts_of(x.size), *arrays, x.size, numbers.size)

    @on_device
    def scaled_update(
        self,
        formula: Formula,
        advance: Formula,
        arrays: tuple[Array, ...],
        finite: Array,
        numbers: Array,
        scalars: tuple[float, ...],
        *,
        out: Array,
    ) -> Array:
        self._scaled(formula, advance, arrays, finite, numbers, floats(scalars), out)
        return out

    def _scaled(
        self,
        formula: Formula,
        advance: Formula,
        arrays: tuple[Array, ...],
        finite: Array,
        numbers: Array,
        scalars: Sequence[Any],
        out: Array,
        *,
        held: bool = False,
    ) -> None:
        """As `scaled_update`, by scalars, or by the array in which a captured step has them."""
        p = arrays[0]
        code = code_of(p.dtype)
        if not (compiles(formula) and compiles(advance)):
            raise TypeError(
                f"scaled_update cannot compile {formula.__name__}; it must be free of integer "
                "operators"
            )
        width = min(width_of(*arrays), FEW)
        sources = binding.source(formula), binding.source(advance)
        rest = (BITS[code], code, len(arrays), numbers.size, width, held)
        program = _scaled_update(*sources, *rest)
        given = (*arrays, finite, numbers, out, p.size, finite.size, *scalars)
        self._launch(program, blocks_for(-(-p.size // width)), *given)
