"""gradnet: write a network once, run it on NumPy or on a CUDA GPU.

`gradnet` itself is the array namespace: creation, arithmetic, reductions, indexing and linear
algebra on Tensors that differentiate. `gradnet.nn` has layers and losses, `gradnet.optim` the
optimizers, and `gradnet.fit` trains.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

from gradnet import dtypes
from gradnet.dtypes import (
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from gradnet.interop import hooks as _hooks

if TYPE_CHECKING:
    from gradnet import backends, ops
    from gradnet.autodiff import (
        enable_grad,
        grad,
        hessian,
        hvp,
        is_grad_enabled,
        jacobian,
        jvp,
        no_grad,
        value_and_grad,
        vjp,
    )
    from gradnet.check import gradcheck as gradcheck
    from gradnet.recomputation import checkpoint
    from gradnet.tensor import Tensor

__version__ = "0.1.0"

bool = dtypes.bool_

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None

# Where names are declared, for they are imported at first use; those of the ops come besides.
_LAZY = {
    "Tensor": "gradnet.tensor",
    "checkpoint": "gradnet.recomputation",
    "enable_grad": "gradnet.autodiff",
    "grad": "gradnet.autodiff",
    "hessian": "gradnet.autodiff",
    "hvp": "gradnet.autodiff",
    "is_grad_enabled": "gradnet.autodiff",
    "jacobian": "gradnet.autodiff",
    "jvp": "gradnet.autodiff",
    "no_grad": "gradnet.autodiff",
    "value_and_grad": "gradnet.autodiff",
    "vjp": "gradnet.autodiff",
    "__array_api_version__": "gradnet.inspection",
    "__array_namespace_info__": "gradnet.inspection",
    "broadcast_shapes": "gradnet.inspection",
    "can_cast": "gradnet.inspection",
    "finfo": "gradnet.inspection",
    "iinfo": "gradnet.inspection",
    "isdtype": "gradnet.inspection",
    "result_type": "gradnet.inspection",
    "device_info": "gradnet.backends",
    "cumprod": "gradnet.interop.habits",
    "cumsum": "gradnet.interop.habits",
    "gradient": "gradnet.interop.habits",
    "lib": "gradnet.interop.habits",
    "elementwise": "gradnet.ops.custom",
    "op": "gradnet.ops.custom",
    "wrap": "gradnet.ops.custom",
    "Trainer": "gradnet.training",
    "capture": "gradnet.captured",
    "explain": "gradnet.explainer",
    "fit": "gradnet.training",
    "gradcheck": "gradnet.check",
    "load": "gradnet.io",
}
_ROOMS = (
    "autodiff",
    "backends",
    "check",
    "data",
    "errors",
    "estimators",
    "fft",
    "formulas",
    "interop",
    "io",
    "learners",
    "linalg",
    "nn",
    "ops",
    "optim",
    "plots",
    "precision",
    "random",
    "training",
)
_INNER = {"Any", "TYPE_CHECKING", "annotations", "importlib", "math"}

# What `from gradnet import *` gives; not the ops, some of which have the names of Python's own.
__all__ = [
    "Tensor",
    "backends",
    "bool",
    "checkpoint",
    "complex64",
    "complex128",
    "dtypes",
    "e",
    "enable_grad",
    "float16",
    "float32",
    "float64",
    "grad",
    "hessian",
    "hvp",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "nan",
    "newaxis",
    "no_grad",
    "ops",
    "pi",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "value_and_grad",
    "vjp",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = getattr(importlib.import_module(_LAZY[name]), name)
    elif name in _ROOMS:
        return importlib.import_module(f"gradnet.{name}")
    elif name == "bfloat16":
        found = dtypes.bfloat16()
    elif not name.startswith("__") and (named := importlib.import_module("gradnet.ops")).has(name):
        found = getattr(named, name)
    else:
        raise AttributeError(f"module 'gradnet' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    named = importlib.import_module("gradnet.ops").names()
    return sorted({*globals(), *_LAZY, *_ROOMS, *named, "bfloat16"} - _INNER)


_hooks.wait()
