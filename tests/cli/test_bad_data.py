"""Bad data and bad models: exit status 2, one line, and not a file left behind."""

from __future__ import annotations

import gzip
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import gradnet as gn
from gradnet.cli import main

FILES = {
    "good.csv": "x,colour,y\n" + "".join(f"{i},{'rg'[i % 2]},{i % 3}\n" for i in range(60)),
    "other.csv": "a,b\n" + "".join(f"{i},{i}\n" for i in range(60)),
    "new_class.csv": "x,colour,y\n" + "".join(f"{i},r,{i % 5}\n" for i in range(60)),
    "text_in_x.csv": "x,colour,y\n" + "".join(f"{'abc'[i % 3]},r,{i % 3}\n" for i in range(60)),
    "empty.csv": "",
    "header.csv": "x,y\n",
    "headless.csv": "1.5,2.5\n2.5,3.5\n",
    "ragged.csv": "x,y\n1,2\n3\n4,5\n",
    "dates.csv": "day,y\n" + "".join(f"2024-01-{i + 1:02d},{i % 2}\n" for i in range(28)),
    "constant.csv": "x,y\n" + "".join(f"{i},1\n" for i in range(60)),
    "nothing.csv": "x,y\n" + "".join(f"1,{i % 2}\n" for i in range(60)),
    "only_target.csv": "y\n" + "".join(f"{i % 2}\n" for i in range(60)),
    "names.csv": "x,y\n" + "".join(f"{i},name{i}\n" for i in range(60)),
    "infinite.csv": "x,y\n" + "".join(f"{'inf' if i == 4 else i},{i % 2}\n" for i in range(60)),
    "twice.csv": "x,x,y\n1,2,0\n3,4,1\n",
    "one_row.csv": "x,y\n1,2\n",
    "sheet.xlsx": "PK",
    "fake.parquet": "not parquet",
    "fake.npz": "not npz",
    "model.pt": "PK\x03\x04torch",
}

BAD_DATA = [
    ("nowhere.csv", "nowhere.csv: no such file or folder"),
    ("digit", "'digit' is neither a file or folder nor a built-in set; did you mean 'digits'?"),
    ("sheet.xlsx", "files named .xlsx cannot be read"),
    ("empty.csv", "empty.csv: the file is empty"),
    ("header.csv", "there is a header line, but no rows"),
    ("headless.csv", "the first line looks like data, not like names of columns"),
    ("ragged.csv", "ragged.csv: line 3 has 1 cells, but the header has 2"),
    ("dates.csv", "'day'"),
    ("constant.csv", "target 'y' is '1' in every row: there is nothing to learn"),
    ("nothing.csv", "no column is left to learn from: 'x': every cell is 1"),
    ("only_target.csv", "there is no column besides the target 'y'"),
    ("names.csv", "classes must repeat"),
    ("infinite.csv", "column 'x', row 5: inf is not a finite number"),
    ("twice.csv", "more than one column is named 'x'"),
    ("one_row.csv", "row"),
    ("fake.parquet", "not a readable Parquet file"),
    ("fake.npz", "not a readable NPZ file"),
    ("objects.npz", "X holds Python objects, which are not unpickled"),
    ("texts.npz", "X is no array; save X and y with numpy.savez"),
    ("cut.npz", "not a readable NPZ file"),
    ("packed.csv", "packed.csv: the file is compressed (gzip); decompress it first"),
    ("short.npz", "y has shape (5,); expected (6,)"),
    ("no_images", "no IDX images; expected train-images-idx3-ubyte"),
    ("cut_idx", "asks for"),
    ("good.csv --target z", "good.csv: no column 'z' for the target (columns: 'x', 'colour', 'y')"),
    ("good.csv --target Y", "did you mean 'y'?"),
    ("good.csv --target colour --task regression", "a regression needs numbers"),
    ("good.csv --test other.csv", "'y'"),
    ("good.csv --test nowhere.csv", "nowhere.csv: no such file or folder"),
    ("good.csv --test new_class.csv", "class '3' is not among the classes of training"),
    ("good.csv --test text_in_x.csv", "'a' is not a number, as it was in training"),
    ("good.csv --validation 0.5 --test 0.6", "validation 0.5 and test 0.6 leave no rows"),
    ("good.csv --activation relux", "--activation relux: "),
    ("good.csv --optimizer adamm", "--optimizer adamm: no optimizer is called 'adamm'"),
    ("good.csv --optimizer lion --lr 0.1 --weight-decay 1e400", "--weight-decay"),
    ("good.csv --optimizer lbfgs --weight-decay 0.1", "has no setting 'weight_decay'"),
    ("good.csv --optimizer lbfgs --batch-size 8", "needs all 42 training rows in each step"),
    ("good.csv --validation 0 --patience 5", "--patience needs validation rows"),
    ("good.csv --precision float16 --optimizer lbfgs", "LBFGS looks at its gradients by itself"),
    ("good.csv --backend cuda", "CuPy"),
    ("good.csv --device cuda:1", "CuPy"),
    ("good.csv --backend numpy --device cuda", "--backend numpy does not run on --device cuda"),
    ("good.csv --backend cuda --device cpu", "--backend cuda does not run on --device cpu"),
    ("good.csv --out good.csv", "--out good.csv: this is a file; expected a folder"),
    ("good.csv --out no_images", "--out no_images: the folder is not empty"),
    ("good.csv --target x --task regression --optimizer sgd --lr 1e30", "epoch 1"),
]

BAD_PREDICTIONS = [
    ("nowhere good.csv", "nowhere: no such model"),
    ("no_images good.csv", "no_images: there is no model.safetensors in this folder"),
    ("good.csv good.csv", "good.csv is no safetensors file; expected one, as model.save"),
    ("model.pt good.csv", "a zip archive, as torch.save and numpy.savez write"),
    ("bare.safetensors good.csv", "the model has no preprocessing of tables or images with it"),
    ("m nowhere.csv", "nowhere.csv: no such file or folder"),
    ("m other.csv", "no column 'x', 'colour', which the model needs"),
    ("m digits", "the model was trained on a table, but these are images"),
    ("m text_in_x.csv", "'a' is not a number, as it was in training"),
    ("m good.csv --out p.xlsx", "p.xlsx: files named .xlsx cannot be written"),
    (
        "m good.csv --out absent/p.csv",
        "cannot be written (there is no folder absent)",
    ),
    ("m good.csv --out good.csv", "--out good.csv: this exists, and nothing is ever overwritten"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    np.savez("objects.npz", X=np.array([[1, "a"]] * 6, dtype=object), y=np.arange(6))
    np.savez("short.npz", X=np.ones((6, 2)), y=np.arange(5))
    with zipfile.ZipFile("texts.npz", "w") as archive:
        archive.writestr("X.npy", "text")
        archive.writestr("y.npy", "text")
    Path("cut.npz").write_bytes(Path("short.npz").read_bytes()[:200])
    Path("packed.csv").write_bytes(gzip.compress(FILES["good.csv"].encode()))
    Path("no_images").mkdir()
    Path("no_images/readme.txt").write_text("nothing here")
    Path("cut_idx").mkdir()
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 10, 4, 4)
    Path("cut_idx/train-images-idx3-ubyte").write_bytes(header + bytes(17))
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def refused(line: list[str], expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(here)
    assert main(line) == 2
    told = capsys.readouterr()
    last = told.err.splitlines()[-1]
    assert last.startswith("gradnet: error: ")
    assert expected in last
    assert "Traceback" not in told.err
    assert files(here) == before


@pytest.mark.parametrize(("line", "expected"), BAD_DATA)
def test_bad_data(line: str, expected: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["train", *line.split()], expected, here, capsys)


@pytest.mark.parametrize("line", [line for line, _ in BAD_DATA[:-1]])
def test_bad_data_gets_one_line_alone(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *line.split(), "--quiet", "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1


@pytest.fixture
def models(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "good.csv", "--epochs", "1", "--out", "m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 1
    gn.nn.MLP((2, 3)).save("bare.safetensors")


@pytest.mark.usefixtures("models")
def test_bad_predictions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line, expected in BAD_PREDICTIONS:
        refused(["predict", *line.split()], expected, here, capsys)


def test_a_missing_package_is_told_with_its_remedy(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(["train", "good.csv"], "good.csv needs pyarrow: run pip install", here, capsys)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    refused(["train", "xor", "--quiet"], "saving needs safetensors: run pip install", here, capsys)


def test_ctrl_c_before_training_leaves_nothing(
    capsys: pytest.CaptureFixture[str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = files(here)
    monkeypatch.setattr(gn.data, "load", pressed)
    assert main(["train", "xor"]) == 130
    assert capsys.readouterr().err == "gradnet: error: interrupted; nothing was saved\n"
    assert files(here) == before
