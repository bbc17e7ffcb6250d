"""`gradnet train` and `gradnet predict`, from data to files and figures."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import gradnet as gn
from gradnet.cli import main
from gradnet.cli.settings import Settings

KEYS = [
    *("data", "task", "backend", "device", "precision", "seed", "parameters", "epochs"),
    *("best_epoch", "seconds", "samples_per_second", "train", "validation", "test", "model"),
]
QUICK = ["--epochs", "3", "--hidden", "8"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mixed(here: Path) -> Path:
    """A table of numbers, text and gaps: the target is yes where x > 0.5 or the colour is red."""
    lines = ["x,colour,constant,answer"]
    for row in range(120):
        x, colour = (row * 37 % 101) / 101, ("red", "green", "")[row % 3]
        answer = "yes" if x > 0.5 or colour == "red" else "no"
        lines.append(f"{x:.4f},{colour},1,{answer}")
    path = here / "mixed.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def houses(here: Path) -> Path:
    """A regression with a target far from zero: price = 200000 + 50000 x1 - 20000 x2."""
    x1, x2 = np.sin(np.arange(400)), np.cos(3.0 * np.arange(400))
    price = 200_000 + 50_000 * x1 - 20_000 * x2
    path = here / "houses.parquet"
    parquet.write_table(pa.table({"x1": x1, "x2": x2, "price": price}), path)
    return path


def call(*line: str | Path) -> int:
    return main([str(word) for word in line])


def result(capsys: pytest.CaptureFixture[str], *line: str | Path) -> dict[str, Any]:
    """The object that --json prints, which has to be all of standard output."""
    assert call("train", *line, "--json") == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    found: dict[str, Any] = json.loads(told.out)
    return found


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_digits_by_defaults(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    found = result(capsys, "digits")
    assert list(found) == KEYS
    assert list(found["seconds"]) == ["setup", "fit"]
    assert found["task"] == "classification"
    assert found["seed"] == 0
    assert found["precision"] == "float32"
    assert found["test"]["accuracy"] >= 0.97
    assert set(found["train"]) == set(found["validation"]) == {"loss", "accuracy"}
    assert 1 <= found["best_epoch"] <= found["epochs"]
    assert found["model"] == str(Path("runs/digits/model.safetensors"))
    model = gn.load(found["model"])
    assert found["parameters"] == sum(p.size for p in model.parameters())
    history = rows_of(here / "runs/digits/history.csv")
    assert len(history) == found["epochs"]
    best = history[found["best_epoch"] - 1]
    assert float(best["val_loss"]) == pytest.approx(found["validation"]["loss"], rel=1e-5)


def test_the_table_that_a_person_reads(capsys: pytest.CaptureFixture[str], mixed: Path) -> None:
    assert call("train", mixed, "--target", "answer", *QUICK) == 0
    told = capsys.readouterr()
    for text in (
        "120 rows, 3 columns as 4 features",
        "answer, 2 classes (no, yes)",
        "train 84, validation 12, test 24",
        "note: column 'constant' is left out: every cell is 1",
        "accuracy of the most frequent class",
        "3 of 3, the best was epoch",
        "4-8-2 relu, 58 parameters",
        "float32, seed 0",
        "runs/mixed/model.safetensors",
        "gradnet predict runs/mixed DATA",
    ):
        assert text in told.out
    assert "epoch 3/3: loss" in told.err
    assert "note:" not in told.err


def test_remarks_are_told_once(mixed: Path) -> None:
    line = [sys.executable, "-m", "gradnet", "train", str(mixed), *QUICK]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.count("column 'constant' is left out") == 1
    assert "constant" not in done.stderr
    done = subprocess.run([*line, "--quiet"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "constant" not in done.stdout


@pytest.mark.parametrize("missing", [True, False])
def test_quiet_prints_the_result_alone(
    missing: bool,
    capsys: pytest.CaptureFixture[str],
    mixed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if missing:
        monkeypatch.setattr("gradnet.cli.report.find_spec", lambda name: None)
    assert call("train", mixed, *QUICK, "--quiet", "--out", "m") == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.split()[:3] == ["train", "validation", "test"]
    assert ("─" in told.out) is not missing
    assert "note:" not in told.out


def test_the_same_seed_gives_the_same_bits(
    capsys: pytest.CaptureFixture[str], mixed: Path, here: Path
) -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        result(capsys, mixed, *QUICK, "--out", out, "--seed", seed)
    a, b, c = (gn.load(here / name / "model.safetensors").state_dict() for name in "abc")
    for name, weights in a.items():
        np.testing.assert_array_equal(weights.numpy(), b[name].numpy())
    assert any((weights != c[name]).any() for name, weights in a.items())
    assert (here / "a/history.csv").read_text().count("\n") == 4


def test_backends_differ_by_rounding_only(capsys: pytest.CaptureFixture[str], mixed: Path) -> None:
    pytest.importorskip("numba")
    losses = []
    for name in ("numpy", "numba"):
        found = result(capsys, mixed, *QUICK, "--backend", name, "--precision", "float64")
        assert found["backend"] == name
        assert found["device"] == "cpu"
        losses.append([found[part]["loss"] for part in ("train", "validation", "test")])
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_regression_in_the_targets_units(
    capsys: pytest.CaptureFixture[str], houses: Path, here: Path
) -> None:
    found = result(capsys, houses, "--target", "price", "--epochs", "40", "--out", "m")
    assert found["task"] == "regression"
    assert set(found["test"]) == {"loss", "r2", "rmse"}
    assert found["test"]["r2"] > 0.98
    assert 100 < found["test"]["rmse"] < 10_000
    assert call("predict", "m", houses, "--out", "p.npz") == 0
    assert "measured on 400 rows: loss" in capsys.readouterr().err
    price = parquet.read_table(houses)["price"].to_numpy()
    with np.load("p.npz") as file:
        assert list(file) == ["prediction"]
        error = np.sqrt(np.mean((file["prediction"] - price) ** 2))
    assert error == pytest.approx(found["test"]["rmse"], rel=0.5)


def test_predict_classes_with_and_without_the_target(
    capsys: pytest.CaptureFixture[str], mixed: Path, here: Path
) -> None:
    result(capsys, mixed, "--epochs", "30", "--out", "m")
    assert call("predict", "m", mixed, "--out", "with.csv") == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "120 predictions in with.csv" in told.err
    assert "accuracy 0.9" in told.err or "accuracy 1" in told.err
    without = here / "without.csv"
    lines = [line.rpartition(",")[0] for line in mixed.read_text().splitlines()]
    without.write_text("\n".join(lines) + "\n")
    assert call("predict", "m/model.safetensors", without) == 0
    told = capsys.readouterr()
    assert "accuracy" not in told.err
    assert told.out == (here / "with.csv").read_text()
    rows = rows_of(here / "with.csv")
    assert list(rows[0]) == ["prediction", "probability_no", "probability_yes"]
    for row in rows:
        no, yes = float(row["probability_no"]), float(row["probability_yes"])
        assert no + yes == pytest.approx(1.0, abs=1e-6)
        assert row["prediction"] == ("yes" if yes > no else "no")


def test_predict_writes_what_the_suffix_says(
    capsys: pytest.CaptureFixture[str], mixed: Path, here: Path
) -> None:
    result(capsys, mixed, *QUICK, "--out", "m")
    for name in ("p.csv", "p.tsv", "p.parquet", "p.npz"):
        assert call("predict", "m", mixed, "--out", name) == 0
    expected = [row["prediction"] for row in rows_of(here / "p.csv")]
    assert parquet.read_table("p.parquet")["prediction"].to_pylist() == expected
    with np.load("p.npz") as file:
        assert file["prediction"].tolist() == expected


def test_test_and_validation_files(capsys: pytest.CaptureFixture[str], mixed: Path) -> None:
    lines = mixed.read_text().splitlines()
    Path("test.csv").write_text("\n".join([lines[0], *lines[1:31]]) + "\n")
    Path("rest.csv").write_text("\n".join([lines[0], *lines[31:]]) + "\n")
    line = ["rest.csv", "--test", "test.csv", "--validation", "test.csv", *QUICK]
    assert call("train", *line) == 0
    assert "train 90, validation 30, test 30" in capsys.readouterr().out
    assert Settings.read(Path("runs/rest")).test == str(Path("test.csv").resolve())


def test_no_validation_and_no_test(capsys: pytest.CaptureFixture[str], mixed: Path) -> None:
    found = result(capsys, mixed, "--validation", "0", "--test", "0", *QUICK)
    assert found["validation"] is None
    assert found["test"] is None
    assert found["epochs"] == 3


@pytest.mark.parametrize("optimizer", gn.optim.names())
def test_every_optimizer_by_name(
    optimizer: str, capsys: pytest.CaptureFixture[str], mixed: Path, here: Path
) -> None:
    assert result(capsys, mixed, *QUICK, "--optimizer", optimizer)["epochs"] == 3
    losses = [float(row["loss"]) for row in rows_of(here / "runs/mixed/history.csv")]
    assert losses[-1] < losses[0]


def test_flags_reach_the_network_and_the_run(
    capsys: pytest.CaptureFixture[str], mixed: Path
) -> None:
    line = "--hidden 6,5 --activation tanh --dropout 0.25 --optimizer sgd --lr 0.05 --epochs 2"
    line += " --weight-decay 0.001 --batch-size 7 --patience 0 --precision float64 --seed 3"
    found = result(capsys, mixed, *line.split(), "--out", "m")
    model = gn.load("m/model.safetensors")
    assert isinstance(model, gn.nn.MLP)
    assert model.sizes == (4, 6, 5, 2)
    assert model.activation == "tanh"
    assert model.dropout == 0.25
    assert next(model.parameters()).dtype == gn.float64
    assert found["precision"] == "float64"
    kept = Settings.read(Path("m"))
    assert (kept.optimizer, kept.lr, kept.weight_decay) == ("sgd", 0.05, 0.001)
    assert (kept.batch_size, kept.patience, kept.seed) == (7, 0, 3)


def test_linear_model(capsys: pytest.CaptureFixture[str], mixed: Path) -> None:
    found = result(capsys, mixed, "--hidden", "none", "--epochs", "2")
    assert found["parameters"] == 4 * 2 + 2


def test_predictions_go_to_a_pipe_that_closes(
    capsys: pytest.CaptureFixture[str], mixed: Path
) -> None:
    result(capsys, mixed, *QUICK, "--out", "m")
    line = [sys.executable, "-m", "gradnet", "predict", "m", str(mixed)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert "Error" not in run.stderr.read()
        assert run.wait() == 0


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_precisions(
    capsys: pytest.CaptureFixture[str], mixed: Path, here: Path, precision: str
) -> None:
    found = result(capsys, mixed, *QUICK, "--precision", precision, "--out", here / "run")
    plain = result(capsys, mixed, *QUICK, "--out", here / "plain")
    assert found["precision"] == precision
    assert found["train"]["loss"] == pytest.approx(plain["train"]["loss"], rel=1e-2)
    assert found["train"]["loss"] != plain["train"]["loss"]
    assert gn.load(found["model"]).product_precision == precision
    curves = rows_of(here / "run" / "history.csv")
    assert ("loss_scale" in curves[0]) == (precision == "float16")
    assert call("predict", here / "run", mixed) == 0
    assert len(capsys.readouterr().out.splitlines()) == 121
