"""Progress of a run on standard error: a bar in a terminal, lines in a notebook or a log file."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any

from gradnet.training.callbacks import Callback

if TYPE_CHECKING:
    from gradnet.training.run import Run

STYLES = ("auto", "bar", "lines")
_REDRAWS_PER_SECOND = 10
_LINES = 20
_LONGEST_SILENCE = 30.0  # seconds
_HIDDEN = ("epoch", "seconds", "lr")


def style(wanted: bool | str, stream: Any) -> str:
    """How to show progress: "bar", "lines" or "" for not at all.

    "auto", or True, is a bar where the stream is a terminal and rich is installed. Raises
    ValueError for what is none of these.
    """
    if wanted is False:
        return ""
    if wanted is True:
        wanted = "auto"
    if wanted not in STYLES:
        raise ValueError(
            f"progress must be True, False, {', '.join(map(repr, STYLES))}, not {wanted!r}"
        )
    if wanted != "auto":
        return wanted
    terminal = stream.isatty() and importlib.util.find_spec("rich") is not None
    return "bar" if terminal else "lines"


def progress(wanted: bool | str) -> list[Callback]:
    """The callback that shows progress as wanted, in a list that is empty for none."""
    chosen = style(wanted, sys.stderr)
    return [] if not chosen else [Bar() if chosen == "bar" else Lines()]


def summary(row: dict[str, float]) -> str:
    """The measurements of an epoch as one piece of text."""
    parts = [
        f"{name} {value:.4g}"
        for name, value in row.items()
        if name not in _HIDDEN and name != "samples_per_second" and value == value
    ]
    if row.get("samples_per_second", 0) > 0:
        parts.append(f"{row['samples_per_second']:,.0f} samples/s")
    return ", ".join(parts)


class Lines(Callback):
    """About twenty lines over the whole run, more where epochs are long."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream
        self._last = 0.0

    def _write(self, text: str) -> None:
        # Standard error is looked up now: notebooks and tests exchange it.
        print(text, file=self._stream or sys.stderr, flush=True)

    def on_epoch_end(self, run: Run) -> None:
        every = max(1, run.epochs // _LINES)
        due = time.monotonic() - self._last > _LONGEST_SILENCE
        if run.epoch % every and run.epoch != 1 and not run.stopping and not due:
            return
        self._last = time.monotonic()
        best = " *" if run.history.best_epoch == run.epoch else ""
        self._write(f"epoch {run.epoch}/{run.epochs}: {summary(run.history.row(-1))}{best}")

    def on_fit_end(self, run: Run) -> None:
        for note in run.history.notes[run.notes_before :]:
            self._write(note)


class Bar(Callback):
    """A bar that rich draws: epochs and the batches within, time left, the last measurements."""

    every_step = False

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._text = ""
        self._next = 0.0

    def on_fit_start(self, run: Run) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[measured]}"),
            console=Console(stderr=True),
            transient=False,
        )
        self._task = self._bar.add_task(
            "training", total=run.epochs, completed=run.epoch, measured=""
        )
        self._bar.start()

    def on_step_end(self, run: Run) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 1 / _REDRAWS_PER_SECOND
        steps = run.steps_per_epoch
        self._show(run, run.epoch - 1 + (min(run.batch / steps, 1.0) if steps else 0.0))

    def on_epoch_end(self, run: Run) -> None:
        self._text = summary(run.history.row(-1))
        self._show(run, run.epoch)

    def _show(self, run: Run, done: float) -> None:
        self._bar.update(
            self._task,
            completed=done,
            description=f"epoch {run.epoch}/{run.epochs}",
            measured=self._text,
        )

    def on_fit_end(self, run: Run) -> None:
        if self._bar is None:
            return
        for note in run.history.notes[run.notes_before :]:
            self._bar.console.print(note, highlight=False)
        self._bar.stop()
        self._bar = None
