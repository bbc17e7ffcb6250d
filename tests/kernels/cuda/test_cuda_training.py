"""Networks train on the CUDA backend as they do on NumPy, and the same way on every run."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import test_ops
from fakes.cupy_over_numpy import fake_backend
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import backends, nn, optim

RNG = np.random.default_rng(11)
X = RNG.standard_normal((28, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(np.int64) + (X[:, 2] > 1)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The CUDA backend under its own name."""
    module: Any = ModuleType("fake_cuda_module")
    module.BACKEND = fake_backend()
    monkeypatch.setitem(sys.modules, "fake_cuda_module", module)
    monkeypatch.setattr(backends, "_MODULES", {**backends._MODULES, "cuda": "fake_cuda_module"})
    monkeypatch.setattr(backends, "_loaded", {("numpy", 0): backends.get("numpy")})
    with backends.use("numpy"):
        yield module.BACKEND


def fitted(device: str, **options: Any) -> tuple[list[float], dict[str, Any]]:
    model = nn.MLP((5, 8, 3), dropout=0.2, norm="batch", output="softmax", seed=2)
    history = gn.fit(
        model, X, Y, epochs=2, batch_size=8, validation=0.2, device=device, seed=3, lr=0.01,
        progress=False, clip_norm=1.0, class_weight="balanced", **options,
    )  # fmt: skip
    losses = [*history["loss"], *history["val_loss"]]
    return losses, {name: x.numpy() for name, x in model.state_dict().items()}


def test_fit_goes_as_on_the_cpu(registered: CudaBackend) -> None:
    expected, right = fitted("cpu")
    found, state = fitted("cuda")
    np.testing.assert_allclose(found, expected, rtol=2e-4)
    for name, value in state.items():
        np.testing.assert_allclose(value, right[name], rtol=2e-3, atol=2e-4, err_msg=name)
    registered._device.launch.backwards = True  # type: ignore[attr-defined]
    again, same = fitted("cuda")
    assert again == found
    assert all(same[name].tobytes() == value.tobytes() for name, value in state.items())


# Not those that search along a line: a rounding may send them another way.
@pytest.mark.parametrize(
    "name", [n for n in optim.names() if n not in ("lbfgs", "conjugate_gradient")]
)
def test_optimizers(name: str, backend: CudaBackend) -> None:
    def losses(on: Any) -> list[float]:
        with backends.use(on):
            model = nn.MLP((5, 4, 3), activation="tanh", output="softmax", seed=1)
            optimizer = optim.create(name, model.parameters(), lr=0.02)
            x, y = gn.asarray(X[:10]), gn.asarray(Y[:10])

            found = []
            for _ in range(3):
                optimizer.zero_grad()
                loss = model.output.loss(model(x), y)
                loss.backward()
                optimizer.step()
                found.append(float(loss))
            return found

    np.testing.assert_allclose(losses(backend), losses("numpy"), rtol=1e-3)


OPS = ("MATMUL", "SUM", "MAX", "CUMSUM", "TAKE", "SCATTER", "SETITEM", "CONCATENATE", "VIEW")


@pytest.mark.parametrize("name", OPS)
def test_derivatives(name: str, backend: CudaBackend) -> None:
    test_ops.test_derivatives_of_ops(name, backend)


@pytest.mark.parametrize("precision", ["float64", "float16", "bfloat16"])
def test_networks_in_other_floats(precision: str, backend: CudaBackend) -> None:
    model = nn.MLP((5, 6, 3), activation="gelu", output="softmax", seed=1)
    model.to(getattr(gn, precision))
    x = gn.astype(gn.asarray(X[:9]), getattr(gn, precision))
    loss = model.output.loss(model(x), gn.asarray(Y[:9]))
    loss.backward()
    assert loss.dtype == (gn.float64 if precision == "float64" else gn.float32)
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == parameter.dtype
        assert np.isfinite(parameter.grad.numpy().astype(np.float64)).all()
