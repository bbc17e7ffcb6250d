"""The lectures' worked examples, which `gradnet lectures` prints: here they must hold."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest

from gradnet import backends, cli
from gradnet.backends import Backend
from gradnet.cli.lectures import mark
from gradnet.lectures import (
    DECKS,
    EXAMPLES,
    Figure,
    examples,
    find,
    lecture,
    training_networks,
    worked,
)

LOOP = "5.1"
CPU_BACKENDS = tuple(b for b in backends.available() if backends.get(b).device == "cpu")


@pytest.mark.parametrize("number", [number for number in EXAMPLES if number != LOOP])
def test_every_figure_is_as_expected(number: str, backend: Backend) -> None:
    figures = EXAMPLES[number].run()
    assert figures
    assert [figure for figure in figures if not figure.agrees] == []


def test_two_layers_follow_the_loop_of_the_lecture(backend: Backend) -> None:
    # All the way on one backend; the others need not repeat its 2000 steps.
    steps = training_networks.STEPS if backend.name == CPU_BACKENDS[-1] else 100
    with one_thread():
        figures = list(training_networks.two_layers(steps))
    assert [figure for figure in figures if not figure.agrees] == []
    assert len(figures[0].shown) == 100
    assert figures[0].tolerance == 1e-9
    assert figures[1].tolerance == 1e-6 * figures[1].shown


def one_thread() -> Any:
    """BLAS without its threads: on a busy machine they wait for one another, in small products."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    return threadpool_limits(1)


# What the lectures print, by example: each must be there as such.
PRINTED: dict[str, list[Any]] = {
    "2.1": [[39, 8], 39, 8],
    "3.1": [0.59, 0.6434, 0.2070, 3.9851, 3.9851, -0.0199, 0.0725, 0.0148],
    "3.2": [-0.000370, -0.000370, 0.00037018372],
    "3.5": [[-4, -4, 3], [-4, -4, 3]],
    "3.6": [0.73, [-0.20, 0.39, -0.39, -0.59, 0.20]],
    "3.7": [0.116, [[0.088, 0.176], [0.104, 0.208]], [-0.112, 0.636]],
    "4.1": [[0, 0], 0.5, [0, 0, 0.5], [0, 0, 0.5]],
    "4.2": [[0, 1, 1, 0]],
    "4.3": [[0, 1, 1, 0]],
}


def plain(value: Any) -> Any:
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def test_the_figures_that_the_lectures_print_are_there() -> None:
    found = {
        number: [plain(f.shown) for f in one.run() if f.source == "lecture"]
        for number, one in EXAMPLES.items()
        if number != LOOP
    }
    assert {number: figures for number, figures in found.items() if figures} == PRINTED


def test_the_misprints_are_told() -> None:
    told = {number: " ".join(one.misprints) for number, one in EXAMPLES.items() if one.misprints}
    assert set(told) == {"3.1", "3.2"}
    for words in ("-0.0599", "-0.0199", "0.0725", "0.0148", "3.9851", "3.9857"):
        assert words in told["3.1"]
    assert "without its sign" in told["3.2"]


def test_every_deck_has_examples_in_order() -> None:
    places = [one.place for one in EXAMPLES.values()]
    assert places == sorted(places)
    for deck in DECKS:
        assert [place for d, place in places if d == deck] == list(
            range(1, 1 + sum(d == deck for d, _ in places))
        )
    assert find("3.2") == [EXAMPLES["3.2"]]
    assert [one.number for one in find("2")] == [n for n in EXAMPLES if n.startswith("2.")]
    assert len(find("all")) == len(EXAMPLES)
    with pytest.raises(ValueError, match=r"3\.2 is there twice"):
        examples.example("3.2", "again")(list)


# The comparison itself


def test_a_figure_that_differs_says_so() -> None:
    assert lecture("x", 0.73, 0.7311, digits=2).agrees
    assert not lecture("x", 0.73, 0.7351, digits=2).agrees
    assert not lecture("x", 39, 39.0000001).agrees
    assert not worked("x", 1e-4, 1e-4 + 1e-16).agrees
    assert worked("x", 1e-4, 1e-4 + 1e-18).agrees
    assert worked("x", 0, 1e-14).agrees
    assert not worked("x", [1, 2], [1, 2, 3]).agrees
    assert worked("x", [1, 2], [1, 2, 3]).difference == math.inf
    assert not worked("x", [1, 2], [1, math.nan]).agrees
    assert not worked("x", True, False).agrees
    assert worked("x", [[1], [2]], [[1.0], [2.5]]).difference == 0.5


# The command


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lectures"]) == 0
    said = capsys.readouterr().out
    assert all(title in said for title in DECKS.values())
    assert all(f"{one.number:<5} {one.title}" in said for one in EXAMPLES.values())


def test_one_example_beside_what_the_lecture_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lectures", "3.1", "3.5"]) == 0
    said = capsys.readouterr().out
    (row,) = (line for line in said.splitlines() if line.startswith("sigmoid(u)"))
    assert row.split() == ["sigmoid(u)", "0.6434", "0.643365", "✓", "lecture"]
    assert said.count("Misprint: ") == 2
    assert "2 examples, 16 figures: 16 as expected" in said
    assert said.count(DECKS[3]) == 1


def test_a_deck(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lectures", "2"]) == 0
    said = capsys.readouterr().out
    assert "2.6  Universal approximation" in said
    assert "3.1" not in said


def test_a_difference_is_printed_and_returned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong() -> list[Figure]:
        return [worked("one and one", 2, 2.5), worked("one", 1, 1)]

    monkeypatch.setitem(EXAMPLES, "2.1", EXAMPLES["2.1"]._replace(figures=wrong))
    assert cli.main(["lectures", "2.1"]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS by 0.5" in said
    assert "2 figures: 1 as expected, 1 DIFFER" in said


@pytest.mark.parametrize("name", ["6", "3.99", "0", "three", "3."])
def test_no_such_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lectures", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert f"there is no deck or example {name!r}" in captured.err


def test_an_output_without_ticks() -> None:
    assert mark("✓", "ok", "utf-8") == "✓"
    assert mark("✓", "ok", "ascii") == mark("✓", "ok", None) == "ok"
