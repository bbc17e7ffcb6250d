"""`gradnet explain`: what it prints, what it saves, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradnet import cli


def test_the_lectures_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "-y*log(sigmoid(w*x))", "--at", "x=3,y=1,w=3"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("f = -y*log(sigmoid(w*x))\n")
    row = next(line for line in captured.out.splitlines() if line.startswith("u3 "))
    assert "sigmoid(u2)" in row
    assert "u3 * (1 - u3)" in row
    (total,) = (line for line in captured.out.splitlines() if line.startswith("df/dw"))
    assert total.split()[-1] == "-0.0003702"


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "--at", "x=3", "-x"],
        ["explain", "-x*x", "--at=x=3"],
        ["explain", "-(x)", "--at", " x = 3 "],
    ],
)
def test_an_expression_may_begin_with_a_minus(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 0
    assert "flips" in capsys.readouterr().out


def test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "circuit.svg"
    arguments = ["explain", "w@x", "--at", "w=[1,2],x=[3,4]", "--out", str(path)]
    assert cli.main([*arguments, "--theme", "dark"]) == 0
    assert f"saved {path}" in capsys.readouterr().out
    assert path.read_text().startswith("<svg")
    path.write_text("mine")
    assert cli.main(arguments) == 2
    assert "nothing is ever overwritten" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-h", "--help"):
        assert cli.main(["explain", flag]) == 0
        assert "--at x=3,y=1,w=3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("1/x", "x=0", "f is inf: f = 1 / x is inf, the first value that is not finite"),
        ("log(x)", "x=-1", "f is nan: f = log(x) is nan"),
        ("exp(-1/x) + y", "x=0,y=1", "f is 1: u2 = -1 / x is -inf"),
        ("x**1e300", "x=2", "f is inf: f = x ** 1e+300 is inf"),
        ("x + 1", "x=inf", "f is inf: x is inf"),
    ],
)
def test_values_that_are_not_finite_are_shown_and_told(
    text: str, at: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", text, "--at", at]) == 2
    captured = capsys.readouterr()
    assert "Backward mode" in captured.out
    assert captured.err.count("\n") == 1
    if "u2" not in words:
        assert words in captured.err
    else:
        assert "is -inf, the first value that is not finite" in captured.err


BAD = [
    (["x*y", "--at", "x=1"], "there is no value for y; write --at x=1,y=1"),
    (["x"], "there is no value for x; write --at x=1"),
    (["x", "--at", "x=1,q=2"], "q of --at is not in 'x', which has x"),
    (["w*x", "--at", "W=1,x=2"], "W of --at is not in 'w*x', which has w, x"),
    (["2x", "--at", "x=1"], "invalid decimal literal; write 2*x for 2x"),
    (["sigmod(x)", "--at", "x=1"], "there is no function 'sigmod'; did you mean sigmoid"),
    (["x*x", "--at", "x=[1,2]"], "explain needs a scalar, the function returned shape (2,)"),
    (["x+", "--at", "x=1"], "the expression 'x+' cannot be read"),
    (["__import__('os').getpid()*x", "--at", "x=1"], "is not allowed"),
    (["9**9**9**9*x", "--at", "x=1"], "no finite real number"),
    (["x/(1-1)*(1/0)", "--at", "x=1"], "1 / 0 divides by zero"),
    (["2*3", "--at", "x=1"], "x of --at is not in '2*3'"),
    (["2*3"], "'2*3' has no variable to differentiate by"),
    (["w@x", "--at", "w=[1,2],x=[1,2,3]"], "matmul got shapes (2,) and (3,)"),
    (["x", "--at", "x"], "--at takes NAME=VALUE"),
    (["x", "--at", "x=[[1,2],[3]]"], "stack"),
    (["x", "--at", "x=1", "--out", "x.gif"], "cannot save as 'x.gif'"),
    (["x", "--at", "x=1", "--out", "no/such/folder/x.svg"], "there is no folder"),
    (["x", "--at", "x=1", "--theme", "blue"], "invalid choice: 'blue'"),
    (["x", "y"], "there is one argument too many"),
    (["x", "--att", "x=1"], "did you mean --at?"),
    ([], "required: EXPR"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[" ".join(a) or "-" for a, _ in BAD])
def test_bad_calls_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gradnet: error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
