"""Command lines: what they mean, and the one line that a bad one gets."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gradnet
from gradnet.cli import main
from gradnet.cli.parser import BadCall, parse

BAD_LINES = [
    ("", "there is no command; expected train, predict, "),
    ("trian digits", "there is no command 'trian'; did you mean train?"),
    ("infer tiny", "argument COMMAND: invalid choice: 'infer'"),
    ("--verbose train digits", "there is no flag --verbose (see gradnet train --help)"),
    ("train", "the following arguments are required: DATA (see gradnet train --help)"),
    ("train digits iris", "there is one argument too many: 'iris'"),
    ("train digits --hiden 3", "there is no flag --hiden; did you mean --hidden?"),
    ("train digits --epoch 3", "there is no flag --epoch; did you mean --epochs?"),
    ("train digits --target", "argument --target: expected one argument"),
    ("train digits --task ranking", "argument --task: invalid choice: 'ranking'"),
    ("train digits --hidden 64,,32", "expected units of each hidden layer, such as 128,64"),
    ("train digits --hidden 64,0", "or none, not '64,0'"),
    ("train digits --hidden -5", "argument --hidden"),
    ("train digits --dropout 1", "a probability P with 0 <= P < 1, not '1'"),
    ("train digits --dropout half", "a probability P with 0 <= P < 1, not 'half'"),
    ("train digits --lr 0", "argument --lr: expected a number above 0, not '0'"),
    ("train digits --lr nan", "argument --lr: expected a number above 0, not 'nan'"),
    ("train digits --lr inf", "argument --lr: expected a number above 0, not 'inf'"),
    ("train digits --weight-decay=-1", "expected a number of at least 0, not '-1'"),
    ("train digits --epochs 0", "argument --epochs: expected a whole number of at least 1"),
    ("train digits --epochs 1.5", "a whole number of at least 1, not '1.5'"),
    ("train digits --batch-size none", "argument --batch-size: expected a whole number"),
    ("train digits --patience=-1", "argument --patience: expected a whole number of at least 0"),
    ("train digits --seed=-1", "expected a whole number from 0 to 2**64 - 1, not '-1'"),
    ("train digits --seed 18446744073709551616", "from 0 to 2**64 - 1"),
    ("train digits --validation 1.0", "a fraction F with 0 <= F < 1, or a file, not '1.0'"),
    ("train digits --test=-0.1", "a fraction F with 0 <= F < 1, or a file, not '-0.1'"),
    ("train digits --test nan", "a fraction F with 0 <= F < 1, or a file, not 'nan'"),
    ("train digits --device gpu", "expected auto, cpu, cuda or cuda:N, not 'gpu'"),
    ("train digits --backend torch", "argument --backend: invalid choice: 'torch'"),
    ("train digits --precision double", "argument --precision: invalid choice: 'double'"),
    ("predict model", "the following arguments are required: DATA (see gradnet predict --help)"),
    ("predict model a.csv b.csv", "there is one argument too many: 'b.csv'"),
    ("devices --all", "there is no flag --all (see gradnet devices --help)"),
]


@pytest.mark.parametrize(("line", "expected"), BAD_LINES)
def test_bad_line(line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("gradnet: error: ")
    assert expected in told.err
    assert told.err.count("\n") == 1
    assert told.err.endswith("\n")


def test_flags_and_their_types() -> None:
    line = "train --hidden 64,32 a.csv --lr 1e-2 --test t.csv --validation 0 --seed 7 --json"
    options = parse(line.split())
    assert options.data == "a.csv"
    assert options.hidden == (64, 32)
    assert options.lr == 0.01
    assert options.test == "t.csv"
    assert options.validation == 0.0
    assert options.seed == 7
    assert options.json is True
    assert options.quiet is False
    assert options.epochs is None
    assert options.device is None


@pytest.mark.parametrize(
    ("text", "expected"), [("none", ()), ("8", (8,)), ("128,64,8", (128, 64, 8))]
)
def test_hidden(text: str, expected: tuple[int, ...]) -> None:
    assert parse(["train", "digits", "--hidden", text]).hidden == expected


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:3"])
def test_devices(text: str) -> None:
    assert parse(["train", "digits", "--device", text]).device == text


def test_no_abbreviations() -> None:
    with pytest.raises(BadCall, match="there is no flag --drop; did you mean --dropout"):
        parse(["train", "digits", "--drop", "0.1"])


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gradnet {gradnet.__version__}\n"
    commands = ("", "train ", "predict ", "export ", "bench ", "devices ")
    for line in (f"{command}--help" for command in commands):
        assert main(line.split()) == 0
        assert capsys.readouterr().out.startswith("usage: gradnet")


@pytest.mark.parametrize("line", ["--help", "train --help", "train digits --lr x"])
def test_parsing_imports_nothing_heavy(line: str) -> None:
    code = (
        "import sys; from gradnet.cli import main; main(sys.argv[1:]); "
        "heavy = {'numba', 'sklearn', 'rich', 'pyarrow', 'gradnet.nn'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, check=True)


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gradnet", "train"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("gradnet: error: the following arguments are required: DATA")
