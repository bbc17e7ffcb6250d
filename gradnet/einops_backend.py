"""einops on Tensors. It is registered when einops is imported, by nothing that the user does."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object  # that module takes long to import

_MODULE = "einops._backends"


def _register(module: ModuleType) -> None:
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


class _Registering(Loader):
    """The loader of einops's module, and then the registration."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register(module)


class _Waiting(MetaPathFinder):
    """Finds nothing itself; sees when einops is imported, once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


def wait() -> None:
    """Register with einops, now where it is imported already, else as soon as it is."""
    if _MODULE in sys.modules:
        _register(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _Waiting())
