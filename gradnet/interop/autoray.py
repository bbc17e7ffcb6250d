"""autoray on Tensors: NumPy's names for functions that the namespace has under others.

autoray looks for a function under NumPy's name in a tensor's module. What is not there is NumPy's
own function, which asks the tensors for ours.
"""

from __future__ import annotations

import operator
from types import ModuleType
from typing import Any


def _expm(x: Any) -> Any:
    """SciPy's exponential of a matrix, as an op: its derivative is a block of another one."""
    import importlib

    from gradnet import ops
    from gradnet.ops.custom import op

    exponential = importlib.import_module("scipy.linalg").expm

    def pulled(g: Any, _: Any, x: Any) -> Any:
        turned = ops.conj(ops.matrix_transpose(x))
        upper = ops.concat([turned, g], axis=-1)
        lower = ops.concat([ops.zeros_like(x), turned], axis=-1)
        n = x.shape[-1]
        return found(ops.concat([upper, lower], axis=-2))[..., :n, n:]

    found = op(exponential, vjp=pulled, name="expm")
    return found(x)


def register(module: ModuleType) -> None:
    """Tell autoray of the functions that it would not find."""
    import numpy as np

    import gradnet
    from gradnet import random
    from gradnet.interop.numpy_table import FUNCTIONS, POSITIONS, UFUNCS

    def found(room: Any, path: str) -> Any:
        try:
            return operator.attrgetter(path)(room)
        except AttributeError:
            return None

    for path in ("allclose", *FUNCTIONS, *POSITIONS, *UFUNCS):
        theirs = found(np, path)
        if theirs is not None and found(gradnet, path) is None:
            module.register_function("gradnet", path, theirs)

    ours = {
        "clone": gradnet.copy,
        "complex": lambda real, imag: real + 1j * imag,
        "identity": gradnet.eye,
        "linalg.expm": _expm,
        "random.normal": lambda loc=0.0, scale=1.0, size=(): loc + scale * random.normal(size),
        "random.uniform": lambda low=0.0, high=1.0, size=(): (
            low + (high - low) * random.uniform(size)
        ),
    }
    for name, function in ours.items():
        module.register_function("gradnet", name, function)
