"""The pictures of the README: what a terminal shows, and that they are there and small."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from benchmarks import readme_images

ROOT = Path(__file__).parents[2]


def test_a_screen_keeps_what_was_written_last() -> None:
    written = (
        "one\r\ntwo\x1b[31m red\x1b[0m\nbar 1\r\x1b[2Kbar 2\rbar 3\nlast\x1b[1A\r\x1b[2Kbar 4\n\n"
    )
    shown = readme_images.screen(written)
    assert [Text.from_ansi(line).plain for line in shown] == ["one", "two red", "bar 4", "last", ""]
    assert shown[1] == "two\x1b[31m red\x1b[0m"


def test_a_bar_of_rich_is_one_line() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60)
    with Progress(console=console, auto_refresh=False) as bar:
        task = bar.add_task("work", total=3)
        for _ in range(3):
            bar.advance(task)
            bar.refresh()
        console.print("a remark")
    shown = [Text.from_ansi(line).plain for line in readme_images.screen(stream.getvalue())]
    assert [line.split()[0] for line in shown if line] == ["a", "work"]
    assert sum("100%" in line for line in shown) == 1


def test_blanks_become_a_place() -> None:
    blank = "&#160;"
    content = f"{blank}{blank}a{blank}&#x27;b{blank}{blank}&lt;c{blank}"
    before = f'<text class="r" x="24.4" y="5" textLength="109.8" clip="c">{content}</text>'
    after = (
        f'<text class="r" x="48.8" y="5" textLength="48.8" clip="c">a{blank}&#x27;b</text>'
        '<text class="r" x="122.0" y="5" textLength="24.4" clip="c">&lt;c</text>'
    )
    assert readme_images._TEXT.sub(readme_images.placed, before) == after
    assert readme_images._TEXT.sub(readme_images.placed, before.replace(content, "\n")) == ""


def test_the_pictures_are_there_in_both_themes_and_small() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in ("plots-light.png", "explain-light.svg", "run-light.svg"):
        for file in (name, name.replace("light", "dark")):
            path = readme_images.FOLDER / file
            assert 1000 < path.stat().st_size < readme_images.MOST_BYTES
            assert str(path.relative_to(ROOT)) in readme
