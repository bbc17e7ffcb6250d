"""`gradnet lectures`: the lectures' worked examples, their figures beside those computed here."""

from __future__ import annotations

import argparse
from typing import Any

from gradnet.cli.parser import BadCall
from gradnet.cli.report import Report, counted
from gradnet.lectures import DECKS, EXAMPLES, Example, Figure, find

DIFFERS = 1


def run(options: argparse.Namespace, started: float) -> int:
    """List the examples, or run those named: 1 where a figure differs.

    Raises BadCall for a name that there is not.
    """
    report = Report()
    if not options.which:
        listing(report)
        return 0
    chosen: dict[str, Example] = {}
    for name in options.which:
        try:
            chosen.update({one.number: one for one in find(name)})
        except KeyError as error:
            raise BadCall(str(error.args[0])) from None
    deck, agreed, count = 0, 0, 0
    for one in chosen.values():
        if one.deck != deck:
            deck = one.deck
            report.line(f"{deck}  {DECKS[deck]}", "bold")
            report.line()
        figures = one.run()
        show(report, one, figures)
        agreed += sum(figure.agrees for figure in figures)
        count += len(figures)
    report.line(
        f"{counted(len(chosen), 'example')}, {counted(count, 'figure')}: {agreed} as expected"
        + ("" if agreed == count else f", {count - agreed} DIFFER")
    )
    return 0 if agreed == count else DIFFERS


def listing(report: Report) -> None:
    """The decks and their examples."""
    for deck, title in DECKS.items():
        report.line(f"{deck}  {title}", "bold")
        for one in EXAMPLES.values():
            if one.deck == deck:
                report.line(f"   {one.number:<5} {one.title}")
        report.line()
    report.line("gradnet lectures 3 runs a deck, 3.2 one example, all every one.")


def show(report: Report, one: Example, figures: list[Figure]) -> None:
    """An example's figures as a table, and the lecture's misprints."""
    report.line(f"{one.number}  {one.title}")
    tick = mark("\u2713", "ok", report.stream.encoding)
    rows = []
    for figure in figures:
        verdict = tick if figure.agrees else f"DIFFERS by {figure.difference:.3g}"
        rows.append(
            (figure.name, written(figure.shown), written(figure.computed), verdict, origin(figure))
        )
    report.table(("figure", "expected", "computed", "", ""), rows, "lllll")
    for text in one.misprints:
        report.line(f"Misprint: {text}")
    report.line()


def origin(figure: Figure) -> str:
    """Where a figure is from, and what there is to say of it."""
    return ", ".join(filter(None, ("lecture" if figure.source == "lecture" else "", figure.note)))


def mark(sign: str, plain: str, encoding: str | None) -> str:
    """A sign, or a word where the output's encoding has none."""
    try:
        sign.encode(encoding or "ascii")
    except UnicodeEncodeError:
        return plain
    return sign


def written(value: Any) -> str:
    """A figure in at most six digits, or more where it is small; long lists cut short."""
    if isinstance(value, list | tuple):
        if len(value) > 6:
            return f"{written(list(value[:2]))[:-1]}, ... {written(value[-1])}] ({len(value)})"
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value and abs(value) < 1e-9:
        return f"{value:.2g}"
    return f"{value:.8g}" if isinstance(value, float) and abs(value) < 1e-3 else f"{value:.6g}"
