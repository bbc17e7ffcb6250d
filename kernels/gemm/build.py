"""The machine code of products: made once for a processor, and kept for the next process."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm

from gradnet.dtypes import DType

from .. import objects
from ..objects import Processor, host
from . import deep, driver, packing, text, tile
from .tile import Shape


class Code:
    """The functions of one element type; see driver.py."""

    def __init__(self, shape: Shape, target: Processor) -> None:
        self.shape = shape
        writers = objects.texts((deep, driver, packing, text, tile))

        def make() -> bytes:
            module = llvm.parse_assembly((deep if shape.deep else driver).text(shape))
            module.verify()
            made: bytes = objects.machine(target, 2).emit_object(module)
            return made

        self._engine = objects.Engine()
        self._engine.load(objects.kept("product", (writers, shape, target), make))
        self.product, self.stack, self.places, self.objects = map(
            self._engine.address, ("product", "stack", "places", "objects")
        )
        if shape.deep:
            self.pack, self.panels = map(self._engine.address, ("pack", "panels"))


def shape(dtype: DType, features: str, large: bool = False) -> Shape | None:
    """The tile for a processor's vectors and registers; None where it has no fused product.

    That of large products has a vector more to each row, so that more is done with each element of
    A that is loaded; as many rows are a half or a whole vector, in which panels of A are packed.
    """
    bits = {"float32": 32, "float64": 64}.get(dtype.name)
    if bits is None or not dtype.isnative:
        return None
    has = set(features.split(","))
    if {"+avx512f", "+avx512vl", "+avx512dq"} <= has:
        return Shape(512 // bits, 8, bits, 3) if large else Shape(512 // bits, 14, bits)
    if {"+avx2", "+fma"} <= has:
        return Shape(256 // bits, 4, bits, 3) if large else Shape(256 // bits, 6, bits)
    return None


@cache
def code(dtype: DType, large: bool = False) -> Code | None:
    """The functions of an element type on this processor, or None."""
    found = shape(dtype, host().features, large)
    return None if found is None else made(found, host())


@cache
def made(shape: Shape, target: Processor) -> Code:
    """The functions for a tile and a processor."""
    return Code(shape, target)
