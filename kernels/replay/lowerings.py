"""How each call of a program becomes calls of kernels, for one thread or split between several."""

from __future__ import annotations

from .base import Ranks, Unsupported
from .elementwise import Elementwise
from .norms import Norms
from .products import Products
from .rows import Rows

__all__ = ["Lowering", "Ranks", "Unsupported"]


class Lowering(Elementwise, Rows, Norms, Products):
    """Makes the calls of a program's machine code: a method `_name` for each of the backend's."""
