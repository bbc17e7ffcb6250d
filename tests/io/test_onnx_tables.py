"""ONNX files with the preprocessing of a table or of images: raw cells in, predictions out."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import data, nn
from gradnet.cli.predict import predictions
from gradnet.data import Preprocessing
from gradnet.errors import ExportError
from gradnet.io import to_onnx
from gradnet.training import Trainer

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("pyarrow")
pytest.importorskip("safetensors")


def cells(rows: int, seed: int) -> list[dict[str, str]]:
    """A table as files have it: text, numbers, gaps, in columns of every kind."""
    rng = np.random.default_rng(seed)
    table = []
    for i in range(rows):
        age = rng.integers(18, 80)
        row = {
            "age": str(age) if rng.random() > 0.1 else "NA",
            "income": f"{rng.lognormal(10, 1):.2f}",  # quantiles
            "year": str(rng.integers(1990, 2026)),
            "flag": rng.choice(["1", ""]),  # constant but for gaps
            "city": rng.choice(["Köln", "Paris", "New York", ""]),
            "colour": rng.choice(["red", "green"]),
            "code": str(rng.choice([1, 2, 30, 30])),
            "member": rng.choice(["True", "False"]),
            "rare": f"r{min(rng.geometric(0.05), 90)}",  # (other)
        }
        good = age + 20 * (row["colour"] == "red") + rng.normal() * 5 > 60
        table.append(
            {**row, "label": "good" if good else "not so", "price": f"{age * 3.5 + i % 7}"}
        )
    return table


def written(path: Path, table: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, list(table[0]))
        out.writeheader()
        out.writerows(table)
    return path


def raw(session: Any, table: list[dict[str, str]]) -> dict[str, Any]:
    """The columns that the session asks for, as a user who has the file gives them."""
    inputs = {}
    for wanted in session.get_inputs():
        column = [row[wanted.name] for row in table]
        if wanted.type == "tensor(double)":
            gaps = ("", "NA", "?")
            inputs[wanted.name] = np.array([np.nan if x in gaps else float(x) for x in column])
        else:
            assert wanted.type == "tensor(string)"
            inputs[wanted.name] = np.array(column, dtype=object)
        assert wanted.shape == ["rows"]
    return inputs


def run(path: Path, table: list[dict[str, str]]) -> dict[str, Any]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, raw(session, table)), strict=True))


def fitted(folder: Path, target: str, output: Any, **options: Any) -> Any:
    """A model with the preprocessing of a table, as `gradnet train` saves it."""
    table = cells(700, 0)
    for row in table:
        del row["price" if target == "label" else "label"]
    source = written(folder / "train.csv", table)
    parts = data.load(source, target).split(0, 0, **options)
    fit = parts.preprocessing
    embeddings = [(entry.feature, entry.size) for entry in fit.embeddings]
    sizes = (len(fit.features), 8, max(len(fit.classes), 1))
    model = nn.MLP(sizes, "tanh", output=output, embeddings=embeddings, seed=0)
    path = folder / "m.safetensors"
    model.save(path, {"preprocessing": fit.to_json()})
    return gn.load(path)


def unseen() -> list[dict[str, str]]:
    """Rows to predict: others, with cells that training had not."""
    table = cells(60, 1)
    table[0] |= {"income": "", "year": "3000", "age": "-1e6", "code": "", "colour": "blue"}
    table[1] |= {"income": "1e12", "city": "?", "rare": "new", "member": "", "flag": "2"}
    table[2] |= {"income": "0", "city": "null", "rare": "r1", "member": "TRUE"}
    table[3] |= {"member": "FALSE", "city": "köln"}
    return table


def expected(folder: Path, model: Any, table: list[dict[str, str]]) -> dict[str, Any]:
    """What `gradnet predict` says for a file of these rows."""
    preprocessing = Preprocessing.from_json(model.extra["preprocessing"])
    part = preprocessing.read(written(folder / "new.csv", table))
    return predictions(Trainer(model, progress=False), preprocessing, part)


@pytest.mark.parametrize(
    "options", [{}, {"numbers": "standard"}, {"numbers": "quantile"}, {"embed": 5}]
)
def test_classes_from_raw_columns(options: dict[str, Any], tmp_path: Path) -> None:
    model = fitted(tmp_path, "label", "softmax", **options)
    to_onnx(model, tmp_path / "m.onnx")
    table = unseen()
    found, wanted = run(tmp_path / "m.onnx", table), expected(tmp_path, model, table)
    assert found["prediction"].tolist() == wanted["prediction"].tolist()
    assert set(found["prediction"]) <= {"good", "not so"}
    for i, name in enumerate(("good", "not so")):
        np.testing.assert_allclose(
            found["probabilities"][:, i], wanted[f"probability_{name}"], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("output", ["linear", "gaussian", "mixture"])
def test_numbers_in_their_own_units(output: str, tmp_path: Path) -> None:
    model = fitted(tmp_path, "price", output)
    to_onnx(model, tmp_path / "m.onnx")
    table = unseen()
    found, wanted = run(tmp_path / "m.onnx", table), expected(tmp_path, model, table)
    assert list(found) == list(wanted)
    for name, column in wanted.items():
        assert found[name].dtype == np.float64
        np.testing.assert_allclose(found[name], column, rtol=1e-5, atol=1e-5)


def test_quantiles_in_the_units_of_the_target(tmp_path: Path) -> None:
    model = fitted(tmp_path, "price", {"name": "quantile", "q": [0.1, 0.5, 0.9]})
    to_onnx(model, tmp_path / "m.onnx")
    table = unseen()
    found = run(tmp_path / "m.onnx", table)["quantiles"]
    preprocessing = Preprocessing.from_json(model.extra["preprocessing"])
    part = preprocessing.read(written(tmp_path / "new.csv", table))
    wanted = preprocessing.decode(model.output.predict(model(part.X)).detach().numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_features_where_preprocessing_is_left_out(tmp_path: Path) -> None:
    model = fitted(tmp_path, "label", "softmax")
    to_onnx(model, tmp_path / "m.onnx", preprocessing=False)
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    x = np.random.default_rng(0).normal(size=(3, model.sizes[0])).astype(np.float32)
    (found,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, model.output.predict(model(x)).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_images(dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = (rng.random((40, 4, 5)) * (255 if dtype == "uint8" else 1)).astype(dtype)
    np.savez(tmp_path / "i.npz", X=images, y=np.arange(40) % 2)
    fit = data.load(tmp_path / "i.npz").split(0, 0).preprocessing
    model = nn.MLP((20, 6, 2), output="softmax", seed=0)
    model.extra = {"preprocessing": fit.to_json()}
    to_onnx(model, tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"))
    names, found = session.run(["prediction", "probabilities"], {"images": images})
    wanted = model.output.predict(model(fit.transform(data.load(tmp_path / "i.npz").features)))
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert set(names) <= {"0", "1"}


def test_what_cannot_be_written_with_a_table(tmp_path: Path) -> None:
    model = fitted(tmp_path, "label", "softmax")
    other = nn.MLP((model.sizes[0], 1), output="sigmoid")
    other.extra = model.extra
    with pytest.raises(ExportError, match=r"'sigmoid' does not choose .* preprocessing=False"):
        to_onnx(other, tmp_path / "m.onnx")
    plain = nn.Sequential(nn.Linear(model.sizes[0], 2))
    plain.extra = model.extra
    with pytest.raises(ExportError, match=r"Sequential has the preprocessing of a table, but no"):
        to_onnx(plain, tmp_path / "m.onnx")
    fit = Preprocessing.from_json(model.extra["preprocessing"])
    odd = Preprocessing(data.encoders.Pixels((3,), 4294967295.0, 0.5, 1.0), fit.target)
    model.extra = {"preprocessing": odd.to_json()}
    with pytest.raises(ExportError, match="takes images of uint8, uint16 or floats"):
        to_onnx(model, tmp_path / "m.onnx")
