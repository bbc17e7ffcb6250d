"""The pictures of the README, each made from a real run, in light and in dark.

    python -m benchmarks.readme_images [plots] [explain] [run]

- plots: what a network that learned the spirals says, its training, the loss around its weights
- explain: a computation with its values and gradients
- run: `gradnet train digits` as a terminal shows it, run in one and written down
"""

from __future__ import annotations

import argparse
import html
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradnet as gn

FOLDER = Path(__file__).resolve().parent / "results" / "images"
THEMES = ("light", "dark")
MOST_BYTES = 150_000


# Pictures of a run


def plots() -> list[Path]:
    """Three pictures of one network, side by side."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from gradnet.plots.look import look

    parts = gn.data.load("spirals").split(validation=0.15, test=0.25, seed=0, numbers="standard")
    model = gn.nn.MLP((2, 64, 64, 3), "tanh", output="softmax", seed=0)
    path = gn.training.WeightPath()
    held = (parts.validation.X, parts.validation.y)
    history = gn.fit(
        model,
        parts.train.X,
        parts.train.y,
        lr=3e-3,
        epochs=60,
        batch_size=32,
        validation=held,
        early_stopping=15,
        callbacks=[path],
        progress=False,
        seed=0,
    )
    surface = gn.training.loss_surface(model, parts.train.X, parts.train.y, path=path, points=41)
    written = []
    for theme in THEMES:
        with rc_context({"font.size": 9}):
            figure = Figure(figsize=(14.5, 4.4), dpi=100, layout="constrained")
            FigureCanvasAgg(figure)
            figure.set_facecolor(look(theme).page)
            figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
            left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1, 1.1))
            gn.plots.decision_boundary(
                model,
                parts.test.X,
                parts.test.y,
                features=("x1 (standardised)", "x2 (standardised)"),
                ax=left,
                theme=theme,
            )
            nats = "cross-entropy (nats per row)"
            gn.plots.history(history, "loss", labels={"loss": nats}, ax=middle, theme=theme)
            gn.plots.loss_surface(surface, label=nats, ax=right, theme=theme)
            file = FOLDER / f"plots-{theme}.png"
            written.append(packed(figure, file))
    return written


def packed(figure: Any, file: Path) -> Path:
    """Write a figure in 256 colours of its own, a third of the bytes."""
    from PIL import Image

    content = io.BytesIO()
    figure.savefig(content, format="png")
    with Image.open(content) as image:
        image.convert("RGB").quantize(256).save(file, optimize=True)
    return file


# A computation


def explain() -> list[Path]:
    """A hidden unit with a rectifier, whose weight is used twice."""
    shown = gn.explain("max(w * x + b, 0) * (w + x)", 2, 3, -4)
    return [shown.save(FOLDER / f"explain-{theme}.svg", theme=theme) for theme in THEMES]


# A terminal

WIDTH, HEIGHT = 118, 40
COMMAND = ("gradnet", "train", "digits")
_PIECE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


def recorded(command: tuple[str, ...]) -> bytes:
    """What a command writes to a terminal of its own, in an empty folder."""
    import pty

    with tempfile.TemporaryDirectory() as folder:
        ours, its = pty.openpty()
        size = {"COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color"}
        code = "from gradnet.cli import main; raise SystemExit(main())"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *command[1:]],
            stdin=its,
            stdout=its,
            stderr=its,
            cwd=folder,
            env={**os.environ, **size, "COLORTERM": "truecolor"},
        )
        os.close(its)
        written = b""
        try:
            while piece := os.read(ours, 65536):
                written += piece
        except OSError:  # the other end of a terminal is closed
            pass
        finally:
            os.close(ours)
        if process.wait() != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{written.decode()}")
        return written


def screen(written: str) -> list[str]:
    """The lines that stay on a terminal, with their colours, once all has been written.

    Understands what a bar of rich uses: carriage return, erase line, cursor up.
    """
    lines, row, fresh = [""], 0, False
    for numbers, letter, back, feed, text in _PIECE.findall(written):
        if feed:
            row, fresh = row + 1, False
            if row == len(lines):
                lines.append("")
        elif back:
            fresh = True
        elif letter == "A":
            row = max(0, row - int(numbers or 1))
        elif letter == "K":
            lines[row] = ""
        elif letter == "m" or text:
            if fresh:
                lines[row], fresh = "", False
            lines[row] += text or f"\x1b[{numbers}m"
    return [line.rstrip() for line in lines]


_TEXT = re.compile(
    r'<text (class="[^"]*") x="([\d.]+)"([^>]*) textLength="[\d.]+"([^>]*)>([^<]*)</text>'
)
_WORDS = re.compile(r"\S+(?: \S+)*")
_CELL = 12.2
"""The width of a character in what rich draws."""
_BEHIND = {"light": "#d0d7de", "dark": "#3a3a3a"}
"""The part of rich's bar that is still to come, which is dark for any terminal."""


def placed(found: re.Match[str]) -> str:
    """A text, apart where it has several blanks, each part in its place.

    Some viewers drop blanks at the beginning, and some have characters of another width.
    """
    head, x, between, rest, content = found.groups()
    return "".join(
        f'<text {head} x="{float(x) + _CELL * words.start():.1f}"{between} '
        f'textLength="{_CELL * len(words[0]):.1f}"{rest}>'
        f"{html.escape(words[0]).replace(' ', '&#160;')}</text>"
        for words in _WORDS.finditer(html.unescape(content).replace("\xa0", " "))
    )


def run() -> list[Path]:
    """`gradnet train digits` in a terminal, drawn as rich draws one."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    shown = screen(recorded(COMMAND).decode())
    while shown and not shown[-1]:
        shown.pop()
    palettes = {
        "light": TerminalTheme(
            (255, 255, 255),
            (31, 35, 40),
            [
                *((36, 41, 47), (207, 34, 46), (17, 99, 41), (154, 103, 0)),
                *((9, 105, 218), (130, 80, 223), (27, 124, 131), (110, 119, 129)),
            ],
        ),
        "dark": TerminalTheme(
            (13, 17, 23),
            (230, 237, 243),
            [
                *((72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)),
                *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
            ],
        ),
    }
    written = []
    for theme in THEMES:
        console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
        console.print(Text.assemble(("$ ", "bold green"), (" ".join(COMMAND), "bold")))
        for line in map(Text.from_ansi, shown):
            for piece in line.divide(range(WIDTH, len(line), WIDTH)):  # as a terminal wraps
                console.print(piece)
        console.print()
        file = FOLDER / f"run-{theme}.svg"
        text = console.export_svg(
            title=" ".join(COMMAND), theme=palettes[theme], unique_id=f"gradnet-{theme}"
        )
        text = text.replace(_BEHIND["dark"], _BEHIND[theme])
        file.write_text(_TEXT.sub(placed, text), "utf-8")
        written.append(file)
    return written


PICTURES: dict[str, Callable[[], list[Path]]] = {"plots": plots, "explain": explain, "run": run}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wanted", nargs="*", choices=[*PICTURES, []], help="default: all")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().wanted or PICTURES:
        for file in PICTURES[name]():
            size = file.stat().st_size
            print(f"{file.name}: {size:,} bytes")
            if size > MOST_BYTES:
                raise SystemExit(f"{file.name} is larger than {MOST_BYTES:,} bytes")


if __name__ == "__main__":
    main()
