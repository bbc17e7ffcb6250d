"""TensorLy on Tensors, as `tensorly.set_backend("gradnet")`: its NumPy backend, answered by us."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

# What TensorLy asks its NumPy backend for that takes no array, and so would not come to us.
_MADE = ("arange", "eye", "ones", "zeros")
_UNLIKE_NUMPY = ("logsumexp", "einsum")


def register(module: ModuleType) -> None:
    """Declare the backend to TensorLy, which knows the subclasses of its own by name."""
    from tensorly.backend.numpy_backend import NumpyBackend

    import gradnet

    gn: Any = gradnet

    class GradnetBackend(NumpyBackend, backend_name="gradnet"):  # type: ignore[misc, call-arg]
        """Tensors: what is made here is ours, what NumPy is asked for has gradients anyway."""

        @staticmethod
        def context(tensor: Any) -> dict[str, Any]:
            return {"dtype": tensor.dtype, "device": tensor.device}

        @staticmethod
        def tensor(data: Any, dtype: Any = None, device: Any = None, **_: Any) -> Any:
            return gn.asarray(data, dtype=dtype, device=device)

        @staticmethod
        def is_tensor(tensor: Any) -> bool:
            return isinstance(tensor, gn.Tensor)

        @staticmethod
        def to_numpy(tensor: Any) -> Any:
            return tensor.detach().numpy() if isinstance(tensor, gn.Tensor) else tensor

        @staticmethod
        def index_update(tensor: Any, indices: Any, values: Any) -> Any:
            changed = gn.copy(tensor)
            changed[indices] = values
            return changed

        @staticmethod
        def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any]:
            x = gn.linalg.pinv(a, rtol=rcond) @ b
            return x, gn.sum((a @ x - b) ** 2, axis=0)

    for name in _MADE:
        GradnetBackend.register_method(name, getattr(gn, name))
    for name in _UNLIKE_NUMPY:
        GradnetBackend.register_method(name, functools.partial(getattr(gn.ops, name)))
    module.BackendManager.available_backend_names.append("gradnet")
