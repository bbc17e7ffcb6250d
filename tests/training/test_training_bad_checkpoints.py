"""Checkpoints that cannot be resumed from: of another run, of another format, or not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gradnet as gn
from gradnet.errors import DataError
from gradnet.training import Callback, fit


def mlp(norm: str | None = "batch") -> gn.nn.MLP:
    return gn.nn.MLP((5, 4, 3), output="softmax", norm=norm, seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 32}, "a run with batch_size=16, this one has 32"),
        ({"seed": 1}, "a run with seed=0, this one has 1"),
        ({"validation": 0.3}, "a run with rows=72, this one has 63"),
        ({"shuffle": False}, "a run with shuffle=True, this one has False"),
        ({"precision": "float64"}, "precision='float32', this one has 'float64'"),
        ({"schedule": "cosine"}, "run had no schedule, this one has"),
        ({"optimizer": "sgd"}, "SGD cannot load the state of 'adam'"),
    ],
)
def test_another_run_cannot_be_resumed(
    options: dict[str, Any], message: str, classes: Any, tmp_path: Path
) -> None:
    base: dict[str, Any] = {"batch_size": 16, "validation": 0.2, "progress": False}
    fit(mlp(), *classes, epochs=1, checkpoint=tmp_path / "run", **base)
    with pytest.raises(ValueError, match=message):
        fit(mlp(), *classes, epochs=2, resume=tmp_path / "run", **{**base, **options})


def test_files_that_are_no_checkpoint(classes: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no checkpoint at"):
        fit(mlp(), *classes, resume=tmp_path / "none", progress=False)
    mlp().save(tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="no checkpoint of a training run"):
        fit(mlp(), *classes, resume=tmp_path / "model.safetensors", progress=False)
    with pytest.raises(FileNotFoundError, match="has no folder to be written to"):
        fit(mlp(), *classes, checkpoint=tmp_path / "no" / "run", progress=False)
    fit(mlp(), *classes, epochs=1, checkpoint=tmp_path / "run", progress=False)
    with pytest.raises(DataError, match="load_state_dict"):
        fit(mlp(norm=None), *classes, resume=tmp_path / "run", progress=False)
    whole_file = (tmp_path / "run").read_bytes()
    (tmp_path / "cut").write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(DataError):
        fit(mlp(), *classes, resume=tmp_path / "cut", progress=False)


def test_a_newer_format_is_refused(
    classes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradnet.training.checkpoints.FORMAT", 2)
    fit(mlp(), *classes, epochs=1, checkpoint=tmp_path, progress=False)
    monkeypatch.undo()
    with pytest.raises(DataError, match="of format 2, this version of gradnet reads format 1"):
        fit(mlp(), *classes, resume=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("position", None),
        ("history columns", ["loss"]),
        ("position noise", "x"),
        ("position optimizer groups 0 progress 0", None),
        ("position optimizer 0.0.m", {"$tensor": "gone"}),
        ("losses", ...),
    ],
)
def test_a_checkpoint_that_lacks_something(
    place: str, value: Any, classes: Any, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    fit(mlp(), *classes, epochs=1, checkpoint=path, progress=False)
    tensors, metadata = gn.io.load_tensors(path)
    content = json.loads(metadata["gradnet.training"])
    inner = content["state"]
    *names, last = place.split()
    for name in names:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is ...:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    gn.io.save_tensors(tensors, path, {"gradnet.training": json.dumps(content)})
    with pytest.raises(DataError, match="is no whole checkpoint as this version") as caught:
        fit(mlp(), *classes, epochs=2, resume=tmp_path, progress=False)
    assert str(path) in str(caught.value)


def test_what_a_checkpoint_cannot_hold(classes: Any, tmp_path: Path) -> None:
    class Odd(Callback):
        def __init__(self, value: Any) -> None:
            self.value = value

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

    for value, message in (({1, 2}, "is a set"), ({1: 2}, "names are text")):
        with pytest.raises(TypeError, match=message):
            fit(
                mlp(), *classes, epochs=1, callbacks=[Odd(value)], checkpoint=tmp_path / "run",
                progress=False,
            )  # fmt: skip
    assert not list(tmp_path.iterdir())
