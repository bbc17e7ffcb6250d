"""einops on Tensors."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any


def register(module: ModuleType) -> None:
    """Declare the backend: einops finds the subclasses of its abstract one."""

    class GradnetBackend(module.AbstractBackend):  # type: ignore[misc, name-defined]
        """Tensors by the functions of the array namespace."""

        framework_name = "gradnet"

        def __init__(self) -> None:
            import gradnet

            self.xp: Any = gradnet

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, self.xp.Tensor)

        def from_numpy(self, x: Any) -> Any:
            return self.xp.asarray(x)

        def to_numpy(self, x: Any) -> Any:
            return x.numpy()

        def arange(self, start: int, stop: int) -> Any:
            return self.xp.arange(start, stop)

        def reduce(self, x: Any, operation: str, axes: Sequence[int]) -> Any:
            return getattr(self.xp, operation)(x, axis=tuple(axes))

        def stack_on_zeroth_dimension(self, tensors: list[Any]) -> Any:
            return self.xp.stack(tensors)

        def add_axis(self, x: Any, new_position: int) -> Any:
            return self.xp.expand_dims(x, axis=new_position)

        def tile(self, x: Any, repeats: Sequence[int]) -> Any:
            return self.xp.tile(x, tuple(repeats))

        def concat(self, tensors: Sequence[Any], axis: int) -> Any:
            return self.xp.concat(list(tensors), axis=axis)

        def is_float_type(self, x: Any) -> bool:
            return bool(self.xp.isdtype(x.dtype, ("real floating", "complex floating")))

        def einsum(self, pattern: str, *x: Any) -> Any:
            return self.xp.einsum(pattern, *x)

    # einops knows its backends by these subclasses, so this one must live on.
    module.GradnetBackend = GradnetBackend  # type: ignore[attr-defined]
