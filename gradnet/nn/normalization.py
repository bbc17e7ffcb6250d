"""Normalisation: batch norm over the rows of a batch, layer norm over the units of a row."""

from __future__ import annotations

from typing import Any

from gradnet import dtypes, ops
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

    def _checked(self, x: Tensor, fits: bool, expected: str) -> Tensor:
        """x in the dtype of the computation."""
        if not fits:
            raise ShapeError(f"{type(self).__name__} takes {expected}, got shape {x.shape}")
        # 16-bit floats have too few digits for the sums.
        return ops.astype(x, dtypes.compute_dtype(dtypes.to_float(x.dtype)), copy=False)

    def _scaled(self, centred: Tensor, variance: Tensor, dtype: Any) -> Tensor:
        """centred / sqrt(variance + eps) * weight + bias, in the dtype asked for."""
        factor = ops.rsqrt(variance + self.eps)
        if self.weight is None or self.bias is None:
            y = centred * factor
        else:
            # The two factors first: of a batch norm they are no longer than a row.
            y = centred * (factor * self.weight) + self.bias
        return ops.astype(y, dtype, copy=False)

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
        dtype = dtypes.to_float(x.dtype)
        fits = x.ndim == 2 and x.shape[1] == self.features
        x = self._checked(x, fits, f"(n, {self.features})")
        if not self.training:
            return self._scaled(x - self.running_mean, self.running_var, dtype)
        n = x.shape[0]
        if n < 2:
            raise ValueError(
                f"BatchNorm1d in training needs at least 2 rows for a variance, got {n}; use a "
                "larger batch, drop the last partial one, or call eval()"
            )
        mean = ops.mean(x, axis=0)
        centred = x - mean
        variance = ops.mean(ops.square(centred), axis=0)
        if not is_recomputing():
            self._follow(self.running_mean, mean)
            self._follow(self.running_var, variance * (n / (n - 1)))
        return self._scaled(centred, variance, dtype)

    def _follow(self, running: Tensor, batch: Tensor) -> None:
        running.assign_(running * (1 - self.momentum) + batch.detach() * self.momentum)

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
        dtype = dtypes.to_float(x.dtype)
        fits = x.ndim > 0 and x.shape[-1] == self.features
        x = self._checked(x, fits, f"(..., {self.features})")
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        return self._scaled(centred, variance, dtype)
