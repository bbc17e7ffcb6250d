"""How formulas run on a backend, looked up once for each dtype.

For few elements, the backend's own look-up takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gradnet import modes
from gradnet.backends import Array, Backend
from gradnet.dtypes import DType

Run = Callable[..., Array]
# A backend, how a formula runs there, and the parameters of an op's `forward` for it.
Way = tuple[Backend | None, Any, dict[str, Any]]


class Ways(dict[DType, Way]):
    """How a formula runs on operands of each dtype, on the backend that was last asked for.

    Where that is the backend, and `modes.open_modes` is 0, its function may be called as it is;
    else what `of` gives.
    """

    def __init__(self, formula: Any, result: Callable[[DType], DType] | None = None) -> None:
        super().__init__()
        self.formula, self.result = formula, result

    def __missing__(self, dtype: DType) -> Way:
        result = dtype if self.result is None else self.result(dtype)
        self[dtype] = way = (None, None, {"dtype": result})
        return way

    def of(self, backend: Backend, dtype: DType) -> Run:
        """How it runs on operands of that dtype on that backend."""
        owner, run, _ = self[dtype]
        return run if owner is backend and not modes.open_modes else self.on(backend, dtype)

    def on(self, backend: Backend, dtype: DType) -> Run:
        """As `of`, looked up anew."""
        parameters = self[dtype][2]
        if modes.open_modes:
            # A recording may be open, which is to see the call.
            return partial(backend.map, self.formula, **parameters)
        run = backend.mapper(self.formula, dtype, parameters["dtype"])
        self[dtype] = backend, run, parameters
        return run
