"""`gradnet export`: files that other programs read, from a model that train saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradnet as gn
from gradnet import cli, data, nn

pytest.importorskip("safetensors")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder as train leaves it, with a model of iris that was not trained."""
    pytest.importorskip("pyarrow")
    fit = data.load("iris").split(0, 0).preprocessing
    made = nn.MLP((4, 5, 3), "tanh", output="softmax", seed=0)
    made.save(tmp_path / "model.safetensors", {"preprocessing": fit.to_json()})
    return tmp_path


def test_onnx_and_torch(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    files = model / "m.onnx", model / "t.safetensors"
    assert cli.main(["export", str(model), "--onnx", str(files[0]), "--torch", str(files[1])]) == 0
    assert capsys.readouterr().err.splitlines() == [f"{file} written" for file in files]
    session = runtime.InferenceSession(str(files[0]))
    inputs = {x.name: np.array([5.0, np.nan]) for x in session.get_inputs()}
    names, probabilities = session.run(["prediction", "probabilities"], inputs)
    assert len(inputs) == 4
    assert set(names) <= {"setosa", "versicolor", "virginica"}
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    state, _ = gn.io.load_tensors(files[1])
    assert {name: x.shape for name, x in state.items()} == {
        "0.weight": (5, 4),
        "0.bias": (5,),
        "2.weight": (3, 5),
        "2.bias": (3,),
    }


def test_refusals(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = model / "model.safetensors"
    before = own.read_bytes()
    for line, reason in (
        ([], "there is nothing to write: give --onnx FILE or --torch FILE"),
        (["--torch", str(own)], "exists, and nothing is ever overwritten"),
        (["--onnx", str(model)], "exists, and nothing is ever overwritten"),
    ):
        assert cli.main(["export", str(model), *line]) == 2
        assert reason in capsys.readouterr().err
    assert cli.main(["export", str(model / "none"), "--onnx", "m.onnx"]) == 2
    assert "no such model; give a folder that gradnet train saved" in capsys.readouterr().err
    assert own.read_bytes() == before
    assert [path.name for path in model.iterdir()] == ["model.safetensors"]
