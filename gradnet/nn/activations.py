"""Activations: every activation of the catalogue as a function and as a layer, found by name.

An activation that is registered in `gradnet.formulas` is here at once: `nn.softplus`,
`nn.Softplus()`, `nn.activation("softplus")`, `nn.MLP(..., activation="softplus")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradnet import dtypes, formulas, ops, precision
from gradnet.errors import ShapeError
from gradnet.nn.module import Module, register
from gradnet.nn.names import unknown
from gradnet.nn.parameter import Parameter
from gradnet.ops.elementwise import Elementwise
from gradnet.tensor import Tensor

# The parts of names that are not simply capitalised.
_SPELLINGS = {
    "relu": "ReLU",
    "prelu": "PReLU",
    "relu6": "ReLU6",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
}


def class_name(name: str) -> str:
    """The layer's name for an activation's: "leaky_relu" -> "LeakyReLU"."""
    return "".join(_SPELLINGS.get(part, part.capitalize()) for part in name.split("_"))


def elementwise(name: str) -> Elementwise:
    """The op of an elementwise activation, by its name or another name of it.

    Raises KeyError, with close matches, where no activation is called so.
    """
    try:
        op = ops.elementwise(name)
    except KeyError:
        op = None
    if op is None or not op.row.activation:
        raise unknown("activation", name, names())
    return op


def names() -> tuple[str, ...]:
    """The names that `activation` and `MLP(activation=...)` take."""
    return (*formulas.activations(), *_LAYERS)


def operands_of(op: Elementwise, given: dict[str, Any]) -> dict[str, float]:
    """The operands of an activation after the first, by name, completed by its defaults.

    Raises TypeError for unknown and missing ones.
    """
    wanted = op.names[1:]
    unknown = [name for name in given if name not in wanted]
    values = {**op.row.defaults, **given}
    missing = [name for name in wanted if name not in values]
    if unknown or missing:
        raise TypeError(
            f"{op.name} takes {', '.join(wanted) if wanted else 'no settings'}, "
            f"got {', '.join(unknown) if unknown else f'no {missing[0]}'}"
        )
    return {name: float(values[name]) for name in wanted}


@register
class Activation(Module):
    """An elementwise activation as a layer: y = f(x, settings).

    `Activation("leaky_relu", alpha=0.1)` is `LeakyReLU(alpha=0.1)`.
    """

    def __init__(self, name: str, /, *settings: float, **named: float) -> None:
        op = elementwise(name)
        if len(settings) > len(op.names) - 1:
            raise TypeError(
                f"{op.name} takes {len(op.names) - 1} settings "
                f"({', '.join(op.names[1:])}), got {len(settings)}"
            )
        given = dict(zip(op.names[1:], settings, strict=False))
        self.name = name
        self.operands = operands_of(op, {**given, **named})

    def forward(self, x: Any) -> Tensor:
        """f(x), of the shape of x."""
        y: Tensor = ops.elementwise(self.name)(x, *self.operands.values())
        return y

    def config(self) -> dict[str, Any]:
        return {"class": "Activation", "name": self.name, **self.operands}

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Module:
        return activation(**arguments)

    def details(self) -> str:
        settings = [f"{name}={value}" for name, value in self.operands.items()]
        return ", ".join(settings if type(self) is not Activation else [self.name, *settings])


_generated: dict[str, Callable[..., Activation]] = {}


def layer_class(name: str) -> Callable[..., Activation]:
    """The layer of an elementwise activation: the class `nn.ReLU` for "relu"."""
    op = elementwise(name)
    found = _generated.get(name)
    if found is None:

        def __init__(self: Activation, *settings: float, **named: float) -> None:
            Activation.__init__(self, name, *settings, **named)

        settings = ", ".join(f"{key}={op.row.defaults.get(key)}" for key in op.names[1:])
        body = {
            "__init__": __init__,
            "__module__": "gradnet.nn",
            "__doc__": f"{class_name(name)}({settings}), elementwise: {op.row.formula.__doc__}",
        }
        found = _generated[name] = type(class_name(name), (Activation,), body)
    return found


def find_layer(attribute: str) -> Callable[..., Activation] | None:
    """The layer class of that name, if an activation of the catalogue has it."""
    for row in formulas.rows():
        if row.activation:
            for name in (row.name, *row.aliases):
                if class_name(name) == attribute:
                    return layer_class(name)
    return None


# Those that are not elementwise functions of one operand


def prelu(x: Any, alpha: Any) -> Tensor:
    """x for x > 0, else alpha x, with a learned alpha (1,) or per unit. arXiv:1502.01852."""
    y: Tensor = ops.leaky_relu(x, alpha)
    return y


def maxout(x: Any, groups: int = 2) -> Tensor:
    """The largest of each `groups` neighbouring values: (..., groups m) -> (..., m).

    Raises ShapeError where the last axis is no multiple. Goodfellow et al. 2013, arXiv:1302.4389.
    """
    x = ops.asarray(x)
    if not x.ndim or x.shape[-1] % groups:
        raise ShapeError(
            f"maxout got shape {x.shape}, whose last axis is no multiple of groups={groups}"
        )
    return ops.max(ops.reshape(x, (*x.shape[:-1], x.shape[-1] // groups, groups)), axis=-1)


@register
class PReLU(Module):
    """x for x > 0, else alpha x, alpha learned: one for all units, or `count` of them.

    He et al. 2015, arXiv:1502.01852, who leave it out of the weight decay. Raises ValueError for a
    count below 1.
    """

    def __init__(
        self, count: int = 1, alpha: float = 0.25, *, dtype: Any = None, device: str | None = None
    ) -> None:
        if count < 1:
            raise ValueError(f"PReLU needs a count of at least 1, got {count}")
        self.count, self.start = count, float(alpha)
        self.alpha = Parameter(
            ops.full((count,), float(alpha), dtype=dtype or dtypes.DEFAULT_FLOAT, device=device)
        )

    def forward(self, x: Any) -> Tensor:
        """(..., count) -> (..., count)"""
        y = prelu(x, self.alpha)
        # Between layers of 16 bits; alpha and its gradient are float32 there.
        return ops.astype(y, x.dtype) if precision.is_factor(x, self.alpha) else y

    def config(self) -> dict[str, Any]:
        return {"class": "PReLU", "count": self.count, "alpha": self.start}

    def details(self) -> str:
        return str(self.count)


@register
class Maxout(Module):
    """The largest of each `groups` neighbouring values: (..., groups m) -> (..., m).

    Goodfellow et al. 2013, arXiv:1302.4389. Raises ValueError for fewer groups than 1.
    """

    def __init__(self, groups: int = 2) -> None:
        if groups < 1:
            raise ValueError(f"Maxout needs at least 1 group, got {groups}")
        self.groups = groups

    def forward(self, x: Any) -> Tensor:
        """(..., groups m) -> (..., m)"""
        return maxout(x, self.groups)

    def config(self) -> dict[str, Any]:
        return {"class": "Maxout", "groups": self.groups}

    def details(self) -> str:
        return str(self.groups)


@register
class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        """Of the shape of x."""
        return ops.softmax(x, axis=self.axis)

    def config(self) -> dict[str, Any]:
        return {"class": type(self).__name__, "axis": self.axis}

    def details(self) -> str:
        return f"axis={self.axis}"


@register
class LogSoftmax(Softmax):
    """x - log(sum(exp(x))) along an axis."""

    def forward(self, x: Any) -> Tensor:
        """Of the shape of x."""
        return ops.log_softmax(x, axis=self.axis)


_LAYERS: dict[str, type[Module]] = {
    "prelu": PReLU,
    "maxout": Maxout,
    "softmax": Softmax,
    "log_softmax": LogSoftmax,
}


def activation(name: str, **settings: Any) -> Module:
    """A new layer by the activation's name, with its settings, such as alpha.

    Raises KeyError, with close matches, for an unknown name and TypeError for unknown settings.
    """
    layer = _LAYERS.get(name)
    return layer(**settings) if layer is not None else layer_class(name)(**settings)
