"""POT (Python Optimal Transport) on Tensors: its NumPy backend, whose calls NumPy hands to us."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any


def register(module: ModuleType) -> None:
    """Declare the backend to POT, which then finds it by the type of its arguments."""
    import gradnet

    gn: Any = gradnet

    def like(type_as: Any) -> dict[str, Any]:
        return {} if type_as is None else {"dtype": type_as.dtype, "device": type_as.device}

    class GradnetBackend(module.NumpyBackend):  # type: ignore[misc, name-defined]
        """Tensors: what is made here is ours, what NumPy is asked for has gradients anyway."""

        __name__ = "gradnet"
        __type__ = gn.Tensor
        __type_list__ = ()  # what POT would measure itself with
        rng_ = gn.random.Generator(0)

        def _to_numpy(self, a: Any) -> Any:
            return a.detach().numpy() if isinstance(a, gn.Tensor) else a

        def _from_numpy(self, a: Any, type_as: Any = None) -> Any:
            return gn.asarray(a, **like(type_as))

        def _detach(self, a: Any) -> Any:
            return a.detach()

        def set_gradients(self, val: Any, inputs: Any, grads: Any) -> Any:
            # Zeros that have these gradients: POT's own solvers compute outside of any graph.
            zeros = (gn.sum((x - x.detach()) * g) for x, g in zip(inputs, grads, strict=True))
            return functools.reduce(gn.add, zeros, val)

        def full(self, shape: Any, fill_value: Any, type_as: Any = None) -> Any:
            return gn.full(shape, fill_value, **like(type_as))

        def zeros(self, shape: Any, type_as: Any = None) -> Any:
            return gn.zeros(shape, **like(type_as))

        def ones(self, shape: Any, type_as: Any = None) -> Any:
            return gn.ones(shape, **like(type_as))

        def eye(self, N: int, M: int | None = None, type_as: Any = None) -> Any:
            return gn.eye(N, M, **like(type_as))

        def arange(self, stop: Any, start: Any = 0, step: Any = 1, type_as: Any = None) -> Any:
            return gn.arange(start, stop, step, device=like(type_as).get("device"))

        def linspace(self, start: Any, stop: Any, num: int, type_as: Any = None) -> Any:
            return gn.linspace(start, stop, num, **like(type_as))

        def seed(self, seed: int | None = None) -> None:
            if seed is not None:
                self.rng_.seed(seed)

        def rand(self, *size: int, type_as: Any = None) -> Any:
            return self.rng_.uniform(size, **like(type_as))

        def randn(self, *size: int, type_as: Any = None) -> Any:
            return self.rng_.normal(size, **like(type_as))

        def randperm(self, size: int, type_as: Any = None) -> Any:
            return self.rng_.permutation(size)

        def inv(self, a: Any) -> Any:
            return gn.linalg.inv(a)

        def logsumexp(self, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
            return gn.ops.logsumexp(a, axis=axis, keepdims=keepdims)

        def searchsorted(self, a: Any, v: Any, side: str = "left") -> Any:
            if a.ndim == 1:
                return gn.searchsorted(a, v, side=side)
            rows = zip(a, v, strict=True)
            return gn.stack([gn.searchsorted(x, y, side=side) for x, y in rows])

        def dtype_device(self, a: Any) -> tuple[Any, str]:
            return a.dtype, a.device

        def device_type(self, type_as: Any) -> str:
            return "GPU" if type_as.device.startswith("cuda") else "CPU"

    module._register_backend_implementation(GradnetBackend)
