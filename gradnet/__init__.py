"""gradnet: write a network once, run it on NumPy or on a CUDA GPU.

`gradnet` itself is the array namespace: creation, arithmetic, reductions, indexing and linear
algebra on Tensors that differentiate. `gradnet.nn` has layers and losses, `gradnet.optim` the
optimizers, and `gradnet.fit` trains.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gradnet import backends as backends
from gradnet import dtypes as dtypes
from gradnet import ops as ops
from gradnet.autodiff import (
    checkpoint as checkpoint,
)
from gradnet.autodiff import (
    enable_grad as enable_grad,
)
from gradnet.autodiff import (
    grad as grad,
)
from gradnet.autodiff import (
    hessian as hessian,
)
from gradnet.autodiff import (
    hvp as hvp,
)
from gradnet.autodiff import (
    is_grad_enabled as is_grad_enabled,
)
from gradnet.autodiff import (
    jacobian as jacobian,
)
from gradnet.autodiff import (
    jvp as jvp,
)
from gradnet.autodiff import (
    no_grad as no_grad,
)
from gradnet.autodiff import (
    value_and_grad as value_and_grad,
)
from gradnet.autodiff import (
    vjp as vjp,
)
from gradnet.dtypes import (
    complex64 as complex64,
)
from gradnet.dtypes import (
    complex128 as complex128,
)
from gradnet.dtypes import (
    float16 as float16,
)
from gradnet.dtypes import (
    float32 as float32,
)
from gradnet.dtypes import (
    float64 as float64,
)
from gradnet.dtypes import (
    int8 as int8,
)
from gradnet.dtypes import (
    int16 as int16,
)
from gradnet.dtypes import (
    int32 as int32,
)
from gradnet.dtypes import (
    int64 as int64,
)
from gradnet.dtypes import (
    uint8 as uint8,
)
from gradnet.dtypes import (
    uint16 as uint16,
)
from gradnet.dtypes import (
    uint32 as uint32,
)
from gradnet.dtypes import (
    uint64 as uint64,
)
from gradnet.interop import hooks as _hooks
from gradnet.tensor import Tensor as Tensor

__version__ = "0.1.0"

bool = dtypes.bool_

e, pi, inf, nan, newaxis = math.e, math.pi, math.inf, math.nan, None

# Names of the rooms above the array namespace, imported at first use.
_LAZY = {
    "__array_api_version__": "gradnet.inspection",
    "__array_namespace_info__": "gradnet.inspection",
    "broadcast_shapes": "gradnet.inspection",
    "can_cast": "gradnet.inspection",
    "finfo": "gradnet.inspection",
    "iinfo": "gradnet.inspection",
    "isdtype": "gradnet.inspection",
    "result_type": "gradnet.inspection",
    "device_info": "gradnet.backends",
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
_INNER = {"Any", "ModuleType", "TYPE_CHECKING", "annotations", "importlib", "math"}
_ROOMS = (
    "check",
    "data",
    "errors",
    "estimators",
    "fft",
    "interop",
    "io",
    "learners",
    "linalg",
    "nn",
    "optim",
    "plots",
    "precision",
    "random",
    "training",
)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = getattr(importlib.import_module(_LAZY[name]), name)
    elif name in _ROOMS:
        found = importlib.import_module(f"gradnet.{name}")
    elif name == "bfloat16":
        from gradnet.dtypes import bfloat16

        found = bfloat16()
    elif name.startswith("__"):
        raise AttributeError(f"module 'gradnet' has no attribute {name!r}")
    else:
        found = getattr(ops, name, None)
        if found is None or isinstance(found, ModuleType):
            raise AttributeError(f"module 'gradnet' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    inner = (name for name in dir(ops) if not isinstance(getattr(ops, name), ModuleType))
    return sorted({*globals(), *_LAZY, *_ROOMS, *inner, "bfloat16"} - _INNER)


_hooks.wait()

if TYPE_CHECKING:
    from gradnet.check import gradcheck as gradcheck
