"""ONNX files: what onnxruntime computes with them is what the model computes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas, nn
from gradnet.errors import ExportError
from gradnet.formulas import exp, hypot, nextafter
from gradnet.io import to_onnx

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 6)).astype(np.float32) * 2
SPREAD = np.concatenate(
    [np.linspace(-9, 9, 200), [-300, -88, -40, -1e-3, -1e-6, 0, 1e-6, 1e-3, 40, 88, 300, 1e6]]
)
SETTINGS = {"leaky_relu": {"alpha": 0.3}, "elu": {"alpha": 1.7}, "maxout": {"groups": 3}}


def run(path: Path, **inputs: Any) -> dict[str, Any]:
    """What the file computes."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Within 1e-5, relative where large."""
    expected = np.asarray(
        expected.detach().numpy() if isinstance(expected, gn.Tensor) else expected
    )
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def warmed(model: Any) -> Any:
    """The model in evaluation with random biases, norms and running statistics."""
    for _, x in sorted(model.state_dict().items()):
        if x.ndim == 1:
            x.assign_(np.abs(RNG.normal(size=x.shape)) + 0.1)
    return model.eval()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", nn.activations.names())
def test_every_activation(name: str, dtype: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.activation(name, **SETTINGS.get(name, {}))).to(dtype)
    x = np.resize(SPREAD, (35, 6)).astype(dtype)
    to_onnx(model, tmp_path / "m.onnx", example=x)
    close(run(tmp_path / "m.onnx", x=x)["y"], model(gn.asarray(x)))


@pytest.mark.parametrize("name", nn.activations.names())
def test_every_activation_in_a_network(name: str, tmp_path: Path) -> None:
    operands = SETTINGS.get(name, {})
    model = warmed(nn.MLP((6, 5, 3), name, output="softmax", activation_operands=operands, seed=1))
    to_onnx(model, tmp_path / "m.onnx")
    close(run(tmp_path / "m.onnx", x=X)["probabilities"], model.output.predict(model(X)))


NETWORKS: dict[str, Callable[[], Any]] = {
    "dropout": lambda: nn.MLP((6, 8, 3), dropout=0.5, input_dropout=0.2, output="softmax"),
    "batch norm": lambda: nn.MLP((6, 8, 8, 3), norm="batch", residual=True, dropout=0.1),
    "layer norm": lambda: nn.MLP((6, 8, 3), "gelu", norm="layer", bias=False),
    "norm and maxout": lambda: nn.MLP((6, 8, 3), "maxout", norm="layer"),
    "norm and prelu": lambda: nn.MLP((6, 8, 3), "prelu", norm="batch"),
    "no hidden layer": lambda: nn.MLP((6, 1), output="sigmoid"),
    "sequence": lambda: nn.Sequential(
        nn.Linear(6, 4, activation="tanh"),
        nn.BatchNorm1d(4, affine=False),
        nn.LeakyReLU(0.3),
        nn.LayerNorm(4, affine=False),
        nn.Residual(nn.Linear(4, 2), nn.Linear(4, 2, bias=False)),
        nn.Residual(nn.Sequential(nn.Tanh(), nn.Linear(2, 2))),
        nn.LogSoftmax(),
    ),
    "layer": lambda: nn.Linear(6, 2),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, dtype: str, tmp_path: Path) -> None:
    gn.random.seed(0)
    model = warmed(NETWORKS[name]().to(dtype))
    x = X.astype(dtype)
    to_onnx(model, tmp_path / "m.onnx")
    (found,) = run(tmp_path / "m.onnx", x=x).values()
    z = model(gn.asarray(x))
    close(found, model.output.predict(z) if isinstance(model, nn.MLP) else z)
    one = run(tmp_path / "m.onnx", x=x[:1])  # any number of rows
    assert next(iter(one.values())).shape[0] == 1


def test_a_network_in_training_is_written_as_in_evaluation(tmp_path: Path) -> None:
    model = nn.MLP((6, 8, 3), norm="batch", dropout=0.5)
    model(gn.asarray(X))
    to_onnx(model, tmp_path / "m.onnx")
    assert model.training
    close(run(tmp_path / "m.onnx", x=X)["prediction"], model.eval()(X))


@pytest.mark.parametrize("name", nn.outputs.names())
@pytest.mark.parametrize("targets", [1, 2])
def test_every_output_unit(name: str, targets: int, tmp_path: Path) -> None:
    model = warmed(nn.MLP((6, 8, targets), "tanh", output=name, seed=0))
    to_onnx(model, tmp_path / "m.onnx")
    found = run(tmp_path / "m.onnx", x=X)
    expected = model.output.predict(model(X))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for y, z in zip(found.values(), expected, strict=True):
        close(y, z)
    to_onnx(model, tmp_path / "raw.onnx", predict=False)
    close(run(tmp_path / "raw.onnx", x=X)["z"], model(X))


def test_embeddings(tmp_path: Path) -> None:
    model = nn.MLP((4, 8, 2), embeddings=[(1, 5), (3, 3, 2)], output="softmax", seed=0)
    x = np.stack([X[:, 0], RNG.integers(0, 5, 7), X[:, 1], RNG.integers(0, 3, 7)], 1)
    x = x.astype(np.float32)
    to_onnx(model, tmp_path / "m.onnx")
    close(run(tmp_path / "m.onnx", x=x)["probabilities"], model.output.predict(model(x)))
    words = nn.Sequential(nn.Embedding(9, 3, padding=0), nn.Flatten(), nn.Linear(12, 2))
    codes = RNG.integers(0, 9, (5, 4))
    to_onnx(words, tmp_path / "w.onnx", example=codes)
    close(run(tmp_path / "w.onnx", x=codes)["y"], words(codes))
    to_onnx(nn.Embedding(9, 3), tmp_path / "e.onnx")
    assert run(tmp_path / "e.onnx", x=np.arange(4))["y"].shape == (4, 3)


def test_inputs_of_more_axes(tmp_path: Path) -> None:
    model = warmed(
        nn.Sequential(
            nn.Linear(6, 8), nn.LayerNorm(8), nn.Maxout(2), nn.Softmax(1), nn.Flatten(2), nn.Tanh()
        )
    )
    x = RNG.normal(size=(2, 3, 6)).astype(np.float32)
    to_onnx(model, tmp_path / "m.onnx", example=x)
    close(run(tmp_path / "m.onnx", x=x)["y"], model(x))


def bump(x: Any, width: Any) -> Any:
    """exp(-(x / width)**2)."""
    return exp(-(x / width) * (x / width)) + 0 * hypot(x, width)


def bent(x: Any) -> Any:
    """A formula that ONNX has no way to compute."""
    return nextafter(x, 0.0)


def test_activations_registered_by_the_user_are_exported_too(tmp_path: Path) -> None:
    formulas.register(formulas.Row("bump", bump, defaults={"width": 0.5}, activation=True))
    formulas.register(formulas.Row("bent", bent, activation=True))
    try:
        model = nn.MLP((6, 5, 3), "bump", activation_operands={"width": 2.0}, seed=0)
        to_onnx(model, tmp_path / "m.onnx")
        close(run(tmp_path / "m.onnx", x=X)["prediction"], model(X))
        with pytest.raises(ExportError, match="no way to compute the activation 'bent'"):
            to_onnx(nn.MLP((6, 5, 3), "bent"), tmp_path / "n.onnx")
    finally:
        formulas.unregister("bump")
        formulas.unregister("bent")


def test_a_layer_that_is_not_known(tmp_path: Path) -> None:
    class Bump(nn.Module):
        def forward(self, x: Any) -> Any:
            return gn.exp(-x * x)

    with pytest.raises(ExportError, match=r"does not know the layer Bump; it knows .*BatchNorm1d"):
        to_onnx(nn.Sequential(nn.Linear(2, 2), Bump()), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"

    class Odd(nn.outputs.LinearOutput):
        name = "odd"

    odd = nn.MLP((2, 1), output=Odd())
    with pytest.raises(ExportError, match=r"output unit 'odd' predicts; .* predict=False"):
        to_onnx(odd, path)
    for dtype in ("float16", "bfloat16"):
        with pytest.raises(ExportError, match=rf'has {dtype}; cast it: model.to\("float32"\)'):
            to_onnx(nn.Linear(2, 2).to(dtype), path)
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype="float64"))
    with pytest.raises(ExportError, match="this one has float32, float64"):
        to_onnx(mixed, path)
    with pytest.raises(ExportError, match="ReLU takes inputs of any shape: give one as example=x"):
        to_onnx(nn.ReLU(), path)
    with pytest.raises(ExportError, match="example is a single number"):
        to_onnx(nn.ReLU(), path, example=1.0)
    with pytest.raises(ExportError, match="Flatten from axis 3 gets an input of 2 axes"):
        to_onnx(nn.Flatten(3), path, example=X)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_onnx(nn.Linear(2, 2), tmp_path / "none" / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="install it with: pip install onnx"):
        to_onnx(nn.Linear(2, 2), path)
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    to_onnx(nn.MLP((6, 8, 3), "gelu"), path)
    made = onnx.load(path)
    assert made.producer_name == "gradnet"
    assert made.producer_version == gn.__version__
    assert [version.version for version in made.opset_import] == [20]
    assert [node.op_type for node in made.graph.node] == [
        *("MatMul", "Add", "Gelu", "MatMul", "Add", "Identity")
    ]
    assert [x.name for x in made.graph.input] == ["x"]
