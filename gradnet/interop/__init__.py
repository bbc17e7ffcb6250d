"""Other libraries on Tensors, with gradients: NumPy, einops, autoray, POT and TensorLy.

Nothing has to be called: NumPy asks each Tensor, and the other libraries are told of Tensors as
they are imported. In TensorLy, `tensorly.set_backend("gradnet")` chooses them. Keras takes the
backends of its own closed list alone, so that it cannot run on gradnet.
"""

from __future__ import annotations

from typing import Any

_NAMES = ("array_function", "array_ufunc")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gradnet.interop import numpy_functions

    return getattr(numpy_functions, name)
