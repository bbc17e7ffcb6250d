"""How a Tensor gives its values away: to Python, NumPy, other libraries, dtypes and devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import gradnet.ops as _ops
from gradnet import backends, dtypes
from gradnet.errors import DeviceError, GraphError, ShapeError
from gradnet.graph import is_handle

if TYPE_CHECKING:
    from gradnet.tensor import Tensor

# Of the array API standard: later ones add to earlier ones.
_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12", "2025.12")

ops: Any = _ops  # its names are made when asked for


class Exchange:
    """Conversions and the protocols of Python and other array libraries. Mixed into Tensor."""

    __slots__ = ()

    # Values

    def numpy(self: Any) -> np.ndarray[Any, Any]:
        """The values as a NumPy array, sharing memory on the CPU; gradients are left behind."""
        return self.backend.to_host(self.array)

    def item(self: Any) -> Any:
        """The value of a tensor of one element, as a Python scalar.

        Raises ShapeError for another number of elements.
        """
        if self.size != 1:
            raise ShapeError(f"item() is for one element, but the tensor has shape {self.shape}")
        return self.numpy().reshape(()).item()

    def tolist(self: Any) -> Any:
        """The values as nested Python lists."""
        return self.numpy().tolist()

    def to(self: Any, target: Any, *, copy: bool = False) -> Tensor:
        """The values on another device ("cpu", "cuda:0") or in another dtype."""
        if isinstance(target, str) and (target == "cpu" or target.startswith("cuda")):
            if target in (self.device, self.device.removesuffix(":0")):
                return self.copy() if copy else self
            return ops.to_backend(self, backends.for_device(target), copy=copy)
        return ops.astype(self, target, copy=copy)

    def to_device(self: Any, device: str, /, *, stream: Any = None) -> Tensor:
        """The values on another device, as the array API names it."""
        if stream is not None:
            raise DeviceError("to_device takes no stream; work is ordered on the device's own")
        return self.to(device)

    def astype(self: Any, dtype: Any, *, copy: bool = True) -> Tensor:
        """The values as another dtype."""
        return ops.astype(self, dtype, copy=copy)

    def copy(self: Any) -> Tensor:
        """The values in memory of their own; gradients flow through."""
        return ops.copy(self)

    # Copies

    def __copy__(self: Any) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Tensor:
        if self.is_leaf and not self.tangents and (self.node is None or not is_handle(self.node)):
            copied = object.__new__(type(self))
            copied._take(self.backend.cast(self.array, self.dtype), self.backend, None, None, None)
            copied.requires_grad = self.node is not None
        else:  # gradients flow through it, for other libraries copy what they hold
            copied = ops.copy(self)
        memo[id(self)] = copied
        return copied

    # Protocols

    def __array__(self: Any, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if self.node is not None or self.tangents:
            raise GraphError(
                "NumPy cannot carry the gradient of this tensor; use x.detach().numpy(), or "
                "gradnet's own function in place of NumPy's"
            )
        if self.device != "cpu":
            raise DeviceError(
                f"NumPy cannot read a tensor on {self.device}; use x.numpy() to copy it to the CPU"
            )
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_ufunc__(self: Any, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        from gradnet.interop.numpy_functions import array_ufunc

        return array_ufunc(ufunc, method, inputs, options)

    def __array_function__(self: Any, function: Any, types: Any, args: Any, options: Any) -> Any:
        from gradnet.interop.numpy_functions import array_function
        from gradnet.tensor import Tensor

        theirs = np.ndarray.__array_function__
        if not all(issubclass(t, Tensor) or t.__array_function__ is theirs for t in types):
            return NotImplemented
        return array_function(function, args, options)

    def __dlpack__(
        self: Any,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[Any, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if self.node is not None or self.tangents:
            raise GraphError("DLPack cannot carry the gradient of this tensor; export x.detach()")
        options = {"max_version": max_version, "dl_device": dl_device, "copy": copy}
        given = {name: value for name, value in options.items() if value is not None}
        return self.array.__dlpack__(stream=stream, **given)

    def __dlpack_device__(self: Any) -> Any:
        return self.array.__dlpack_device__()

    @property
    def __cuda_array_interface__(self: Any) -> dict[str, Any]:
        if self.device == "cpu":
            raise AttributeError("a tensor on the CPU has no __cuda_array_interface__")
        if self.node is not None or self.tangents:
            raise GraphError(
                "__cuda_array_interface__ cannot carry the gradient of this tensor; give x.detach()"
            )
        interface: dict[str, Any] = self.array.__cuda_array_interface__
        return interface

    def __array_namespace__(self: Any, *, api_version: str | None = None) -> Any:
        import gradnet

        if api_version not in (None, *_VERSIONS):
            raise ValueError(
                f"gradnet has no array API of the version {api_version!r}; it has "
                f"{', '.join(_VERSIONS)}"
            )
        return gradnet

    # Python's protocols

    def __repr__(self: Any) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="Tensor(")
        parts = [values]
        if self.dtype != dtypes.DEFAULT_FLOAT:
            parts.append(f"dtype={self.dtype.name}")
        if self.device != "cpu":
            parts.append(f"device={self.device!r}")
        if self.node is not None:
            op = self.node[0].op
            parts.append("requires_grad=True" if op is None else f"op={op.name}")
        return f"Tensor({', '.join(parts)})"

    def __format__(self: Any, spec: str) -> str:
        return format(self.item() if spec and self.size == 1 else str(self), spec)

    def __len__(self: Any) -> int:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self: Any) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor cannot be iterated over")
        return (self[i] for i in range(self.shape[0]))

    def _scalar(self: Any, kind: str) -> Any:
        if self.size != 1:
            raise ShapeError(
                f"a tensor of shape {self.shape} has no single {kind} value"
                + ("; use .any() or .all()" if kind == "bool" else "")
            )
        return self.item()

    def __bool__(self: Any) -> bool:
        return bool(self._scalar("bool"))

    def __int__(self: Any) -> int:
        return int(self._scalar("int"))

    def __float__(self: Any) -> float:
        return float(self._scalar("float"))

    def __complex__(self: Any) -> complex:
        return complex(self._scalar("complex"))

    def __index__(self: Any) -> int:
        if dtypes.kind(self.dtype) not in ("int", "uint"):
            raise TypeError(f"a {self.dtype.name} tensor cannot be an index")
        return int(self._scalar("int"))

    def __getitem__(self: Any, index: Any) -> Tensor:
        return ops.getitem(self, index)

    def __setitem__(self: Any, index: Any, value: Any) -> None:
        ops.setitem(self, index, value)
