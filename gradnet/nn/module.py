"""Module: a piece of a network that owns parameters, buffers and further modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradnet import dtypes, host, ops, precision
from gradnet.errors import DataError
from gradnet.nn.parameter import Parameter, is_dtype
from gradnet.tensor import Tensor

if TYPE_CHECKING:
    import os
    from typing import Self

    from gradnet.nn.summary import Summary

ForwardHook = Callable[["Module", tuple[Any, ...], Any], Any]


class LoadedKeys(NamedTuple):
    """What `load_state_dict(strict=False)` left out: absent from the state, and unknown to it."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class Module:
    """Base of all layers and models. Subclasses set attributes in `__init__` and give `forward`.

    Parameters and Modules are registered when they are assigned to an attribute, buffers by
    `register_buffer`. `module(x)` calls `forward(x)`, with the factors of its matrix products
    rounded to `product_precision`, if it has one ("tf32", "bfloat16", "float16"); what it gives is
    float32 then.
    """

    training: bool
    product_precision: str | None
    extra: dict[str, Any]  # what travelled in the file that the model was loaded from

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        # Set here, so that a subclass need not call super().__init__().
        module.__dict__.update(
            training=True, extra={}, product_precision=None, _members={}, _hooks=()
        )
        return module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the module."""
        raise NotImplementedError(f"{type(self).__name__} has no forward; define it")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.product_precision is None:
            y = self.forward(*args, **kwargs)
        else:
            with precision.use(self.product_precision):
                y = precision.widened(self.forward(*args, **kwargs))
        if self._hooks:
            for hook in self._hooks:
                replaced = hook(self, args, y)
                y = y if replaced is None else replaced
        return y

    def register_forward_hook(self, hook: ForwardHook) -> Callable[[], None]:
        """Have `hook(module, inputs, output)` called after each forward; returns its removal.

        What the hook returns, unless None, takes the output's place.
        """
        self.__dict__["_hooks"] = (*self._hooks, hook)
        host.changed()

        def remove() -> None:
            self.__dict__["_hooks"] = tuple(kept for kept in self._hooks if kept is not hook)
            host.changed()

        return remove

    # Registration

    _members: dict[str, str]  # name of attribute -> "parameter", "buffer" or "module"
    _hooks: tuple[ForwardHook, ...]

    def __setattr__(self, name: str, value: Any) -> None:
        kind = None
        if isinstance(value, Parameter):
            kind = "parameter"
        elif isinstance(value, Module):
            kind = "module"
        elif isinstance(value, Tensor):
            kind = self._kind_of_tensor(name, value)
        elif isinstance(value, list | tuple) and any(
            isinstance(item, Module | Parameter) for item in value
        ):
            raise TypeError(
                f"{type(self).__name__}.{name} is a {type(value).__name__} that holds modules or "
                "parameters, which would not be registered; use nn.Sequential, or an attribute each"
            )
        if kind is not None:
            self._members[name] = kind
        else:
            self._members.pop(name, None)
        object.__setattr__(self, name, value)
        host.changed()

    def _kind_of_tensor(self, name: str, value: Tensor) -> str | None:
        kind = self._members.get(name)
        if kind in ("parameter", "module"):
            raise TypeError(
                f"{type(self).__name__}.{name} is a {kind}, got a plain Tensor; assign an "
                "nn.Parameter, or write into the values with assign_"
            )
        if value.requires_grad and value.is_leaf:
            raise TypeError(
                f"{type(self).__name__}.{name} requires a gradient but is no nn.Parameter, so it "
                "would not be trained; wrap it: nn.Parameter(x)"
            )
        return kind

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._members.pop(name, None)

    def register_buffer(self, name: str, tensor: Tensor) -> None:
        """Register values that are saved and moved with the module but not trained.

        Raises TypeError for what is no Tensor.
        """
        if not isinstance(tensor, Tensor):
            raise TypeError(f"buffer {name!r} is a Tensor, got {type(tensor).__name__}")
        object.__setattr__(self, name, tensor.detach())
        self._members[name] = "buffer"

    # Walking

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one, with their names."""
        for name, kind in self._members.items():
            if kind == "module":
                yield name, self.__dict__[name]

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names; its own is ""."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def places(self) -> Iterator[tuple[str, Module, str]]:
        """Every parameter and buffer under all its names: dotted name, owner, attribute."""
        for prefix, module in self._walk(""):
            for name, kind in module._members.items():
                if kind != "module":
                    yield (f"{prefix}.{name}" if prefix else name), module, name

    def _named(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Tensors of a kind, each once, with dotted names."""
        seen: set[int] = set()
        for name, owner, attribute in self.places():
            tensor = owner.__dict__[attribute]
            if owner._members[attribute] == kind and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters, each once, with dotted names."""
        return self._named("parameter")

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers, each once, with dotted names."""
        return self._named("buffer")

    def buffers(self) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def apply(self, f: Callable[[Module], None]) -> Self:
        """Call `f` on this module and all below it."""
        for module in self.modules():
            f(module)
        return self

    # State

    def train(self, training: bool = True) -> Self:
        """Switch to training: dropout drops, batch norm uses the batch's own statistics."""
        changes = False
        for module in self.modules():
            changes = changes or module.__dict__["training"] is not training
            module.__dict__["training"] = training
        if changes:
            host.changed()
        return self

    def eval(self) -> Self:
        """Switch to evaluation: no dropout, running statistics."""
        return self.train(False)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Set `requires_grad` of all parameters: False freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad = wanted
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, *targets: Any) -> Self:
        """Move all parameters and buffers to a device ("cpu", "cuda:0") or a floating dtype.

        Parameters stay the same objects; integers and booleans keep their dtype. Raises TypeError
        for another dtype.
        """
        for target in targets:
            floating_only = is_dtype(target)
            if floating_only and not dtypes.is_inexact(dtypes.canonical(target)):
                raise TypeError(
                    f"{type(self).__name__}.to takes a floating dtype or a device, got {target!r}"
                )
            for parameter in self.parameters():
                parameter.move_(target)
            for module in self.modules():
                for name, kind in module._members.items():
                    buffer = module.__dict__[name]
                    if kind == "buffer" and not (
                        floating_only and not dtypes.is_inexact(buffer.dtype)
                    ):
                        module.__dict__[name] = buffer.to(target)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by dotted name, detached and sharing memory.

        A parameter shared by two modules is there under both names.
        """
        return {
            name: owner.__dict__[attribute].detach() for name, owner, attribute in self.places()
        }

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> LoadedKeys:
        """Write the values of a `state_dict` into this module's parameters and buffers, in place.

        Values are cast to the dtype and device of what they replace. With `strict`, the names must
        be the same. Raises DataError that lists the missing, unexpected and misshapen ones, and
        then changes nothing.
        """
        own = self.state_dict()
        missing = tuple(name for name in own if name not in state)
        unexpected = tuple(name for name in state if name not in own)
        given = {name: ops.asarray(state[name]) for name in own if name in state}
        misshapen = [
            f"{name} has shape {value.shape}, the model's has {own[name].shape}"
            for name, value in given.items()
            if value.shape != own[name].shape
        ]
        wrong = []
        if missing and strict:
            wrong.append(f"missing: {', '.join(missing)}")
        if unexpected and strict:
            wrong.append(f"unexpected: {', '.join(unexpected)}")
        if misshapen:
            wrong.append(f"misshapen: {'; '.join(misshapen)}")
        if wrong:
            raise DataError(
                f"load_state_dict: the state does not fit this {type(self).__name__} "
                f"({' | '.join(wrong)}); load it into a model of the same layout"
                + ("" if misshapen or not strict else ", or pass strict=False to load what fits")
            )
        for name, value in given.items():
            own[name].assign_(value)
        return LoadedKeys(missing, unexpected)

    # Description

    def config(self) -> dict[str, Any]:
        """Class name and arguments, JSON-able, for `from_config`; TypeError where undefined."""
        raise TypeError(
            f"{type(self).__name__} does not describe itself, so its layout cannot be saved; "
            "define config() and register the class with gradnet.nn.register, or save the values "
            "alone: gradnet.io.save_tensors(model.state_dict(), path)"
        )

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Module:
        """The module that `config` has described by these arguments."""
        return cls(**arguments)

    def save(self, path: str | os.PathLike[str], extra: dict[str, Any] | None = None) -> None:
        """Write layout and values to a safetensors file; see `gradnet.io.save`."""
        from gradnet.io import save

        save(self, path, extra)

    def multiply_adds(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        """Multiply-adds of the products of this module itself, for one call of those shapes."""
        return 0

    def example(self) -> Tensor | None:
        """One row of zeros that this module can be called with, or None where any shape may be."""
        rows = (child.example() for _, child in self.children())
        return next((row for row in rows if row is not None), None)

    def summary(self, input_shape: int | tuple[int, ...] | None = None) -> Summary:
        """A table of the layers: output shape, parameters, multiply-adds of one sample.

        `input_shape` is that of one sample; shapes stay unknown where it is neither given nor
        known from the first layer.
        """
        from gradnet.nn.summary import summarize

        return summarize(self, input_shape)

    def details(self) -> str:
        """What stands between the parentheses of this module in a printout."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        details = self.details()
        if not lines:
            return f"{type(self).__name__}({details})"
        head = f"{details}," if details else ""
        return f"{type(self).__name__}({head}\n  " + "\n  ".join(lines) + "\n)"


# Classes by name, so that a file can be read without running code from it.

_CLASSES: dict[str, type[Module]] = {}
C = TypeVar("C", bound=type[Module])


def register(cls: C) -> C:
    """Let a class be rebuilt from its `config()`; use it as a decorator.

    Raises ValueError where another class of that name is registered.
    """
    known = _CLASSES.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ValueError(
            f"cannot register {cls.__module__}.{cls.__name__}: {known.__module__} has registered a "
            "module class of that name; rename one"
        )
    _CLASSES[cls.__name__] = cls
    return cls


def from_config(config: Mapping[str, Any]) -> Module:
    """A new module, with new initial values, from what `config()` gave.

    Its "precision" becomes the `product_precision`. Raises DataError for an unknown class or
    arguments that it does not take.
    """
    arguments = {name: _rebuilt(value) for name, value in config.items() if name != "class"}
    rounded = arguments.pop("precision", None)
    name = config.get("class")
    found = _CLASSES.get(name) if isinstance(name, str) else None
    if found is None:
        raise DataError(
            f"there is no module class {name!r} to rebuild; there are "
            f"{', '.join(sorted(_CLASSES))} (register your own with gradnet.nn.register before "
            "loading)"
        )
    try:
        made = found.from_arguments(arguments)
        if rounded is not None:
            made.product_precision = precision.of_products(rounded)
        return made
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{name} cannot be rebuilt from its description: {error}") from error


def _rebuilt(value: Any) -> Any:
    """A description's value, in which descriptions of modules have become modules."""
    if isinstance(value, Mapping):
        if "class" in value:
            return from_config(value)
        return {name: _rebuilt(item) for name, item in value.items()}
    return [_rebuilt(item) for item in value] if isinstance(value, list | tuple) else value
