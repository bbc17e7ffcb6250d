"""The layers that are not activations, norms or containers: Linear, Dropout, Embedding, shapes."""

from __future__ import annotations

import math
from typing import Any

from gradnet import dtypes, ops
from gradnet.errors import DTypeError, ShapeError
from gradnet.nn import init as initializers
from gradnet.nn.activations import elementwise, operands_of
from gradnet.nn.module import Module, register
from gradnet.nn.parameter import Parameter
from gradnet.ops.values import refuse_outside
from gradnet.random import Generator, default_generator
from gradnet.tensor import Tensor


def positive(layer: str, **counts: int) -> None:
    """Raise ValueError, naming the layer, for a count that is no integer of at least 1."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{layer} needs {name} of at least 1, an integer, got {count!r}")


@register
class Linear(Module):
    """activation(x @ weight + bias): (..., inputs) -> (..., outputs), in one fused op.

    `weight` is (inputs, outputs), `bias` (outputs,) and zero at first. `init` is the name of an
    initialiser or such a function; without it the activation decides (`init.for_activation`).
    `operands` are the activation's settings, such as alpha. Raises KeyError for an unknown
    activation or initialiser.
    """

    bias: Parameter | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        activation: str | None = None,
        operands: dict[str, float] | None = None,
        init: str | initializers.Initializer | None = None,
        generator: Generator | None = None,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        positive("Linear", inputs=inputs, outputs=outputs)
        self.inputs, self.outputs = inputs, outputs
        self.activation = None if activation is None else elementwise(activation).name
        self.operands: dict[str, Any] = operands or {}
        if activation is not None:
            self.operands = operands_of(elementwise(activation), self.operands)
        elif operands:
            raise TypeError(f"Linear got settings {operands} but no activation to take them")
        self.init = init if isinstance(init, str) else None
        draw = initializers.get(init or initializers.for_activation(activation))
        self.weight = Parameter(
            draw((inputs, outputs), generator=generator, dtype=dtype, device=device)
        )
        self.bias = None
        if bias:
            self.bias = Parameter(ops.zeros((outputs,), dtype=dtype, device=device))

    def forward(self, x: Any) -> Tensor:
        """(..., inputs) -> (..., outputs)"""
        return ops.linear(x, self.weight, self.bias, activation=self.activation, **self.operands)

    def example(self) -> Tensor | None:
        return ops.zeros((1, self.inputs), dtype=self.weight.dtype, backend=self.weight.backend)

    def config(self) -> dict[str, Any]:
        return {
            "class": "Linear",
            "inputs": self.inputs,
            "outputs": self.outputs,
            "bias": self.bias is not None,
            "activation": self.activation,
            "operands": self.operands,
            "init": self.init,
        }

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Module:
        return cls(**{**arguments, "operands": arguments.get("operands") or None})

    def multiply_adds(self, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.inputs

    def details(self) -> str:
        parts = [str(self.inputs), str(self.outputs)]
        if self.bias is None:
            parts.append("bias=False")
        if self.activation is not None:
            parts.append(f"activation={self.activation!r}")
        if self.operands:
            parts.append(f"operands={self.operands}")
        return ", ".join(parts)


@register
class Dropout(Module):
    """In training, each value is 0 with probability `p`, else x / (1 - p); in evaluation, x.

    Draws from the default generator of `gradnet.random`. Raises ValueError for p outside [0, 1).
    Srivastava et al. 2014.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout needs a probability in 0 <= p < 1, got {p}")
        self.p = float(p)

    def forward(self, x: Any) -> Tensor:
        """Of the shape of x."""
        y = ops.asarray(x)
        if not self.training or self.p == 0:
            return y
        # Compared in float32 whatever x is, so that the mask depends on the seed alone.
        keep = 1 - self.p
        kept = default_generator().bernoulli(keep, y.shape, backend=y.backend)
        masked: Tensor = ops.where(kept, y * (1 / keep), 0.0)
        return masked

    def config(self) -> dict[str, Any]:
        return {"class": "Dropout", "p": self.p}

    def details(self) -> str:
        return str(self.p)


@register
class Embedding(Module):
    """A learned vector for each of `count` codes: integers (...) -> (..., width).

    The row of `padding` starts at zero and is not trained. Raises IndexError for a code out of
    range, where the codes are on the CPU.
    """

    def __init__(
        self,
        count: int,
        width: int,
        *,
        padding: int | None = None,
        init: str | initializers.Initializer = "normal",
        generator: Generator | None = None,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        positive("Embedding", count=count, width=width)
        if padding is not None and not 0 <= padding < count:
            raise ValueError(f"Embedding has codes 0 to {count - 1}, got padding={padding}")
        self.count, self.width, self.padding = count, width, padding
        self.init = init if isinstance(init, str) else None
        draw = initializers.get(init)
        values = draw((count, width), generator=generator, dtype=dtype, device=device)
        if padding is not None:
            values[padding] = 0.0
        self.weight = Parameter(values)

    def forward(self, codes: Any) -> Tensor:
        """(...) -> (..., width)

        Raises DTypeError for codes that are no integers, IndexError for one that there is not.
        """
        codes = ops.asarray(codes, backend=self.weight.backend)
        if dtypes.kind(codes.dtype) not in ("int", "uint"):
            raise DTypeError(
                f"Embedding takes integer codes, got {codes.dtype.name}; cast them with "
                "astype(gradnet.int64)"
            )
        check_codes("Embedding", codes, self.count)
        y = self.weight[codes]
        if self.padding is None:
            return y
        # Detached where padded: the same zeros, without a gradient.
        padded = ops.expand_dims(ops.equal(codes, self.padding), -1)
        masked: Tensor = ops.where(padded, y.detach(), y)
        return masked

    def example(self) -> Tensor | None:
        return ops.zeros((1,), dtype=dtypes.int64, backend=self.weight.backend)

    def config(self) -> dict[str, Any]:
        return {
            "class": "Embedding",
            "count": self.count,
            "width": self.width,
            "padding": self.padding,
            "init": self.init or "normal",
        }

    def details(self) -> str:
        padding = "" if self.padding is None else f", padding={self.padding}"
        return f"{self.count}, {self.width}{padding}"


def check_codes(layer: str, codes: Tensor, count: int) -> None:
    """Raise IndexError, naming value and place, for a code outside 0 ... count - 1."""
    refuse_outside(codes, 0, count - 1, _no_code, layer, count, codes.shape)


def _no_code(layer: str, count: int, shape: tuple[int, ...], i: int, value: Any) -> IndexError:
    return IndexError(
        f"{layer} has codes 0 to {count - 1}, got {value} at position {i} of the flattened input "
        f"of shape {shape}"
    )


@register
class Flatten(Module):
    """All axes from `start` on as one: (n, h, w) -> (n, h w)."""

    def __init__(self, start: int = 1) -> None:
        self.start = start

    def forward(self, x: Any) -> Tensor:
        """(n, ...) -> (n, product of the rest)

        Raises ShapeError for an input without that axis.
        """
        x = ops.asarray(x)
        if not 0 <= self.start <= x.ndim:
            raise ShapeError(f"Flatten from axis {self.start} got an input of shape {x.shape}")
        return ops.reshape(x, (*x.shape[: self.start], math.prod(x.shape[self.start :])))

    def config(self) -> dict[str, Any]:
        return {"class": "Flatten", "start": self.start}

    def details(self) -> str:
        return "" if self.start == 1 else f"start={self.start}"
