"""save and load of models: layout, values, dtypes, sharing, extra, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.errors import DataError
from gradnet.io import load_tensors, save, save_tensors

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)

MODELS: dict[str, Any] = {
    "contract": lambda: nn.MLP((3, 8, 2), "relu", 0.1, output="softmax"),
    "norms": lambda: nn.MLP((3, 4, 4, 1), "prelu", norm="batch", residual=True, output="sigmoid"),
    "maxout": lambda: nn.MLP((3, 4, 2), "maxout", norm="layer", output="gaussian"),
    "settings": lambda: nn.MLP(
        (3, 4, 2), "elu", activation_operands={"alpha": 0.5}, init="orthogonal", bias=False
    ),
    "sequence": lambda: nn.Sequential(
        nn.Linear(3, 4, activation="tanh"),
        nn.BatchNorm1d(4, momentum=0.5),
        nn.LeakyReLU(0.3),
        nn.Residual(nn.Linear(4, 2), nn.Linear(4, 2, bias=False)),
        nn.LogSoftmax(),
    ),
    "layer": lambda: nn.Linear(3, 2, init=lambda shape, **options: gn.nn.init.ones(shape)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_to_the_bit(name: str, tmp_path: Path, backend: Any) -> None:
    model = MODELS[name]()
    x = gn.asarray(X)
    model(x)  # moves running statistics
    path = tmp_path / "m.safetensors"
    model.save(path)
    state = gn.random.default_generator().get_state()
    loaded = gn.load(path)
    assert gn.random.default_generator().get_state() == state
    assert type(loaded) is type(model)
    assert repr(loaded) == repr(model)
    assert not loaded.training
    assert model.training
    assert loaded(x).tolist() == model.eval()(x).tolist()
    for (key, ours), (other, theirs) in zip(
        loaded.state_dict().items(), model.state_dict().items(), strict=True
    ):
        assert key == other
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert all(p.requires_grad for p in loaded.parameters())
    if isinstance(model, nn.MLP):
        assert loaded.output is model.output


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes_are_kept(dtype: str, tmp_path: Path, backend: Any) -> None:
    model = nn.MLP((3, 4, 2), norm="batch").to(dtype)
    model.save(tmp_path / "m.safetensors")
    loaded = gn.load(tmp_path / "m.safetensors", device="cpu")
    assert {x.dtype.name for x in loaded.state_dict().values()} == {dtype}
    for ours, theirs in zip(loaded.parameters(), model.parameters(), strict=True):
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())


def test_extra_travels_and_is_kept(tmp_path: Path) -> None:
    extra = {"columns": ["a", "b"], "mean": np.array([0.5, 1.5]), "classes": {"yes": 1}}
    model = nn.Linear(2, 1)
    assert model.extra == {}
    save(model, tmp_path / "m.safetensors", extra)
    loaded = gn.load(tmp_path / "m.safetensors")
    assert loaded.extra == {"columns": ["a", "b"], "mean": [0.5, 1.5], "classes": {"yes": 1}}
    loaded.save(tmp_path / "again.safetensors")
    assert gn.load(tmp_path / "again.safetensors").extra == loaded.extra
    loaded.save(tmp_path / "empty.safetensors", {})
    assert gn.load(tmp_path / "empty.safetensors").extra == {}


def test_shared_parameters_are_stored_once_and_stay_shared(tmp_path: Path) -> None:
    layer = nn.Linear(3, 3)
    tied = nn.Linear(3, 3)
    tied.weight = layer.weight
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(layer, norm, layer, tied, norm)
    path = tmp_path / "m.safetensors"
    model.save(path)
    assert len([name for name in load_tensors(path)[0] if "weight" in name]) == 2
    loaded = gn.load(path)
    assert isinstance(loaded, nn.Sequential)
    assert loaded[0].weight is loaded[2].weight
    assert loaded[0].weight is loaded[3].weight
    assert loaded[0].bias is loaded[2].bias
    assert loaded[0].bias is not loaded[3].bias
    assert loaded[1].running_mean is loaded[4].running_mean
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    assert loaded(gn.asarray(X)).tolist() == model.eval()(gn.asarray(X)).tolist()


def test_a_loaded_model_trains_on(tmp_path: Path) -> None:
    nn.MLP((3, 4, 2), output="softmax").save(tmp_path / "m.safetensors")
    model = gn.load(tmp_path / "m.safetensors").train()
    model.output.loss(model(gn.asarray(X)), [0, 1, 0, 1, 1]).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_saving_over_a_model_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    nn.Linear(2, 1).save(path)
    nn.Linear(3, 1).save(str(path))
    loaded = gn.load(str(path))
    assert isinstance(loaded, nn.Linear)
    assert loaded.inputs == 3
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


class Custom(nn.Module):
    """A module that describes itself."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.inner = nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        return self.inner(x)

    def config(self) -> dict[str, Any]:
        return {"class": "Custom", "width": self.width}


def test_own_modules_need_to_be_registered(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = nn.Sequential(Custom(3))
    model.save(path)
    with pytest.raises(DataError, match=r"'Custom'.*nn.register"):
        gn.load(path)
    nn.register(Custom)
    assert gn.load(path)(gn.asarray(X)).tolist() == model(gn.asarray(X)).tolist()


class Silent(nn.Module):
    """A module that does not describe itself."""


def test_what_cannot_be_saved_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Silent does not describe itself"):
        nn.Sequential(Silent()).save(tmp_path / "m.safetensors")
    with pytest.raises(DataError, match="extra"):
        nn.Linear(1, 1).save(tmp_path / "m.safetensors", {"f": print})
    assert list(tmp_path.iterdir()) == []


def write(path: Path, model: Any, tensors: Any = None, **metadata: Any) -> None:
    state = nn.Linear(2, 1).state_dict() if tensors is None else tensors
    save_tensors(state, path, {"model": model, **metadata})


LINEAR = nn.Linear(2, 1).config()
INTEGERS = {"weight": np.ones((2, 1), np.int32), "bias": np.ones(1, np.float32)}


@pytest.mark.parametrize(
    ("model", "others", "pieces"),
    [
        (None, {}, ["holds tensors but no model", "load_tensors"]),
        ("Linear", {}, ["no model"]),
        ({"class": "Popen", "args": ["true"]}, {}, ["no module class 'Popen'"]),
        ({"class": "os.system"}, {}, ["no module class 'os.system'"]),
        ({"class": ["Linear"]}, {}, ["no module class ['Linear']"]),
        ({**LINEAR, "size": 1}, {}, ["Linear cannot be rebuilt", "size"]),
        ({**LINEAR, "activation": "gone"}, {}, ["Linear cannot be rebuilt", "gone"]),
        ({**LINEAR, "inputs": 3}, {}, ["misshapen", "(2, 1)", "(3, 1)"]),
        ({**LINEAR, "bias": False}, {}, ["unexpected: bias"]),
        (LINEAR, {"tensors": {"weight": np.ones((2, 1))}}, ["missing: bias"]),
        (LINEAR, {"shared": {"bias": "gone"}}, ["bias is to share gone"]),
        (LINEAR, {"shared": {"forward.__globals__": "bias"}}, ["forward.__globals__"]),
        (LINEAR, {"shared": "bias"}, ["'shared' and 'extra' must be mappings"]),
        (LINEAR, {"extra": [1]}, ["'shared' and 'extra' must be mappings"]),
        (LINEAR, {"tensors": INTEGERS}, ["weight is int32 in the file", "model's is float32"]),
        ({"class": "Sequential"}, {}, ["Sequential cannot be rebuilt"]),
        ({"class": "Sequential", "layers": [1]}, {}, ["Sequential takes modules"]),
    ],
)
def test_descriptions_that_make_no_model(
    model: Any, others: dict[str, Any], pieces: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    write(path, model, **others)
    with pytest.raises(DataError) as caught:
        gn.load(path)
    for piece in [str(path), *pieces]:
        assert piece in str(caught.value)
