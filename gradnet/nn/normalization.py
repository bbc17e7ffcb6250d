"""Normalisation: batch norm over the rows of a batch, layer norm over the units of a row."""

from __future__ import annotations

from typing import Any

from gradnet import ops
from gradnet.autodiff import is_recomputing
from gradnet.errors import ShapeError
from gradnet.nn.layers import positive
from gradnet.nn.module import Module, register
from gradnet.nn.parameter import Parameter
from gradnet.tensor import Tensor


class _Norm(Module):
    """Shared by both: scale and shift per unit, and the checks."""

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, features: int, *, eps: float, affine: bool, dtype: Any, device: str | None
    ) -> None:
        positive(type(self).__name__, features=features)
        if not eps >= 0:
            raise ValueError(f"{type(self).__name__} needs eps of at least 0, got {eps}")
        self.features, self.eps = features, eps
        self.weight = self.bias = None
        if affine:
            self.weight = Parameter(ops.ones((features,), dtype=dtype, device=device))
            self.bias = Parameter(ops.zeros((features,), dtype=dtype, device=device))

    def _refuse(self, expected: str, x: Tensor) -> None:
        raise ShapeError(f"{type(self).__name__} takes {expected}, got shape {x.shape}")

    def example(self) -> Tensor | None:
        if self.weight is None:
            return ops.zeros((1, self.features))
        return ops.zeros((1, self.features), dtype=self.weight.dtype, backend=self.weight.backend)

    def config(self) -> dict[str, Any]:
        return {
            "class": type(self).__name__,
            "features": self.features,
            "eps": self.eps,
            "affine": self.weight is not None,
        }

    def details(self) -> str:
        affine = "" if self.weight is not None else ", affine=False"
        return f"{self.features}, eps={self.eps}{affine}"


@register
class BatchNorm1d(_Norm):
    """(x - mean) / sqrt(var + eps) * weight + bias over the rows of a batch: (n, features).

    In training, mean and variance are the batch's (the variance divided by n), and the buffers
    follow them: running = (1 - momentum) running + momentum batch, with the variance divided by
    n - 1. In evaluation they are the buffers. Raises ValueError in training for a single row.
    Ioffe and Szegedy 2015, arXiv:1502.03167.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        super().__init__(features, eps=eps, affine=affine, dtype=dtype, device=device)
        if not 0 <= momentum <= 1:
            raise ValueError(f"BatchNorm1d needs a momentum in 0 ... 1, got {momentum}")
        self.momentum = momentum
        self.register_buffer("running_mean", ops.zeros((features,), dtype=dtype, device=device))
        self.register_buffer("running_var", ops.ones((features,), dtype=dtype, device=device))

    def forward(self, x: Any) -> Tensor:
        """(n, features) -> (n, features)"""
        x = ops.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.features:
            self._refuse(f"(n, {self.features})", x)
        running = self.running_mean, self.running_var
        return ops.batch_norm(
            x,
            self.weight,
            self.bias,
            running=None if self.training and is_recomputing() else running,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )

    def example(self) -> Tensor | None:
        return ops.zeros(
            (1, self.features), dtype=self.running_mean.dtype, backend=self.running_mean.backend
        )

    def config(self) -> dict[str, Any]:
        return {**super().config(), "momentum": self.momentum}


@register
class LayerNorm(_Norm):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis: (..., features).

    Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        device: str | None = None,
    ) -> None:
        super().__init__(features, eps=eps, affine=affine, dtype=dtype, device=device)

    def forward(self, x: Any) -> Tensor:
        """(..., features) -> (..., features)"""
        x = ops.asarray(x)
        if x.ndim == 0 or x.shape[-1] != self.features:
            self._refuse(f"(..., {self.features})", x)
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)
