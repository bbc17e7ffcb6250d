"""Predictions by the fully fused MLP: where it is used, and that it gives what single layers do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.steps import cupy
from gradnet.kernels import fused_mlp
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import nn
from gradnet.training import evaluation

RNG = np.random.default_rng(5)
X = RNG.standard_normal((9, 5)).astype(np.float32)
FUSED = ["launch stage", "launch fused_mlp_forward"]


def model_of(sizes: tuple[int, ...] = (5, 16, 16, 3), **options: Any) -> nn.MLP:
    model = nn.MLP(sizes, seed=0, **{"precision": "bfloat16", **options})
    for layer in model.layers:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            layer.bias.assign_(gn.asarray(RNG.standard_normal(layer.bias.shape), dtype="float32"))
    return model.eval()


def launches(cuda: CudaBackend, model: nn.Module, x: gn.Tensor) -> tuple[Any, list[str]]:
    device = cupy(cuda)
    device.done.clear()
    with gn.no_grad():
        y = model(x)
    done = [one for one in device.done if not one.startswith("allocate")]
    return y.numpy(), done


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "leaky_relu"])
def test_they_are_those_of_single_layers(
    precision: str, activation: str, backend: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(activation=activation, precision=precision, dropout=0.5)
    # Rows of a larger array begin anywhere.
    x = gn.asarray(np.concatenate([X, X]))[3:12]
    found, done = launches(backend, model, x)
    assert [one for one in done if one != "copy"] == FUSED
    monkeypatch.setenv(fused_mlp.SWITCH, "0")
    right, layered = launches(backend, model, x)
    assert "launch fused_mlp_forward" not in layered
    np.testing.assert_allclose(found, right, rtol=3e-2, atol=3e-2)


def test_two_launches(backend: CudaBackend) -> None:
    assert launches(backend, model_of(), gn.asarray(X))[1] == FUSED
    device = cupy(backend)
    model, x = model_of(), gn.asarray(X)
    device.done.clear()
    evaluation.outputs(model, x)
    assert "launch fused_mlp_forward" in device.done


def watched(model: nn.MLP) -> nn.MLP:
    list(model.layers)[1].register_forward_hook(lambda *_: None)
    return model


OTHERS: dict[str, Any] = {
    "float32": lambda: model_of(precision="float32"),
    "tf32": lambda: model_of(precision="tf32"),
    "two widths": lambda: model_of((5, 16, 32, 3)),
    "a width that has no kernel": lambda: model_of((5, 8, 3)),
    "no hidden layer": lambda: model_of((5, 3)),
    "no bias": lambda: model_of(bias=False),
    "a norm": lambda: model_of(norm="layer"),
    "another alpha": lambda: model_of(activation="elu", activation_operands={"alpha": 0.5}),
    "dropout": lambda: model_of(dropout=0.5).train(),
    "a hook": lambda: watched(model_of()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_computed_layer_by_layer(name: str, backend: CudaBackend) -> None:
    assert "launch fused_mlp_forward" not in launches(backend, OTHERS[name](), gn.asarray(X))[1]


def test_a_device_before_bfloat16(backend: CudaBackend) -> None:
    cupy(backend).attributes[75] = 7
    assert "launch fused_mlp_forward" not in launches(backend, model_of(), gn.asarray(X))[1]


def test_what_gradients_need_is_kept(backend: CudaBackend) -> None:
    model, x = model_of(), gn.asarray(X)
    cupy(backend).done.clear()
    gn.sum(model(x)).backward()
    assert "launch fused_mlp_forward" not in cupy(backend).done
    assert all(p.grad is not None for p in model.parameters())
