"""Libraries that are told of Tensors as they are imported, by nothing that the user does."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
    from importlib.machinery import ModuleSpec
else:
    Loader = MetaPathFinder = object  # those modules take long to import

# Their module that lists the backends, and ours that registers one with it.
_MODULES = {
    "autoray.autoray": "autoray",
    "einops._backends": "einops",
    "ot.backend": "pot",
    "tensorly.backend": "tensorly",
}


def _register(module: ModuleType) -> None:
    """Register with a library. One that has changed is still imported, with a warning."""
    ours = importlib.import_module(f"gradnet.interop.{_MODULES[module.__name__]}")
    try:
        ours.register(module)
    except (AttributeError, ImportError, TypeError) as error:
        library = module.__name__.partition(".")[0]
        warnings.warn(
            f"this version of {library} does not take gradnet's tensors: {error!r}", stacklevel=2
        )


class _Registering(Loader):
    """The loader of a library's module, and then the registration."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _register(module)


class _Waiting(MetaPathFinder):
    """Finds nothing itself; sees when one of the modules is imported, once each."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names:
            return None
        self._names.remove(name)
        import importlib.util

        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


def wait() -> None:
    """Register with each library, now where it is imported already, else as soon as it is."""
    waiting = set(_MODULES)
    for name in _MODULES:
        if name in sys.modules:
            waiting.remove(name)
            _register(sys.modules[name])
    if waiting:
        sys.meta_path.insert(0, _Waiting(waiting))
