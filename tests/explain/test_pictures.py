"""Explanations as text, pages and drawings: every number is there, and nothing lies on another."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import stat
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import gradnet as gn
from gradnet.explainer import ExplainError, Explanation, layout
from gradnet.explainer.drawing import THEMES
from gradnet.explainer.figures import figure, shown
from gradnet.explainer.layout import CHARACTER

EXPRESSIONS = [
    ("(x + y) * z", [-2, 5, -4]),
    ("x * y + exp(x) * max(x, y) ** 2 + x", [1.5, 0.5]),
    ("sigmoid(w0*x0 + w1*x1 + w2)", [2, -1, -3, -2, -3]),
    ("x * x", [3]),
    ("-y * log(sigmoid(w * x))", [1, 3, 3]),
    ("sum((w @ x) ** 2)", [[[0.1, 0.5], [-0.3, 0.8]], [0.2, 0.4]]),
    ("exp(x) + sin(exp(x) * y) / (1 + exp(x)) - y * x", [0.3, 0.7]),
    ("x", [3]),
    ("relu(a*b + c*d) - relu(c*b) * max(a, d) + abs(a - b*c*d)", [1, 2, -3, 0.5]),
]


@pytest.fixture
def e() -> Explanation:
    return gn.explain("x * y + exp(x)", 2, -3)


@pytest.mark.parametrize(("text", "at"), EXPRESSIONS, ids=[text for text, _ in EXPRESSIONS])
def test_nothing_lies_on_another(text: str, at: list[Any]) -> None:
    plan = layout.place(gn.explain(text, *at))
    boxes = [
        (g.x - g.width / 2, g.y - g.height / 2, g.x + g.width / 2, g.y + g.height / 2)
        for g in plan.gates
        if g.step is not None
    ]
    for wire in plan.wires:
        (_, y), (x, end) = wire.points[-2:]
        assert y == end  # the end of a wire is level
        for text, top in ((wire.value, end - 15), (wire.gradient, end + 2)):
            half = CHARACTER * len(text) / 2
            centre = x - wire.run / 2 - 3
            boxes.append((centre - half, top, centre + half, top + 12))
    for a, b in itertools.combinations(boxes, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (a, b)
    for left, top, right, bottom in boxes:
        assert left >= 0
        assert top >= 0
        assert right <= plan.width
        assert bottom <= plan.height


def test_wires_go_from_left_to_right() -> None:
    for text, at in EXPRESSIONS:
        for wire in layout.place(gn.explain(text, *at)).wires:
            xs = [x for x, _ in wire.points]
            assert xs == sorted(xs)


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_svg_has_value_and_gradient_on_every_edge(e: Explanation) -> None:
    found = texts(e.svg())
    for row in e.rows:
        assert row.name in found
        for partial in row.partials:
            assert shown(e[partial.operand].value) in found
            assert shown(partial.gradient) in found
    assert {"switches", "distributes", "scales"} <= set(found)
    assert f"adds {shown(e.gradients['x'])}" in found
    assert "*" in found


def test_themes(e: Explanation) -> None:
    light, dark, auto = (e.svg(theme=name) for name in ("light", "dark", "auto"))
    assert THEMES["light"]["ground"] in light
    assert THEMES["dark"]["wire"] not in light
    assert THEMES["dark"]["wire"] in dark
    assert "prefers-color-scheme: dark" in auto
    assert set(THEMES["light"]) == set(THEMES["dark"])
    with pytest.raises(ExplainError, match="there is no theme 'blue'; choose light or dark"):
        e.svg(theme="blue")


def brightness(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read_on_its_ground(theme: str) -> None:
    colors = THEMES[theme]
    pairs = [(name, "ground") for name in ("ink", "quiet", "value", "gradient")]
    pairs += [("ink", kind) for kind in ("distributes", "switches", "routes", "scales", "flips")]
    for text, ground in pairs:
        a, b = sorted((brightness(colors[text]), brightness(colors[ground])))
        assert (b + 0.05) / (a + 0.05) >= 4.5, (text, ground)


def test_dot(e: Explanation) -> None:
    text = e.dot()
    assert text.startswith("digraph circuit {")
    assert text.count("->") == 5 + 1
    assert '"x" -> "u1"' in text
    assert '"u1" -> "f"' in text
    assert f">{shown(e['x'].value)}</font><br/>" in text


# Text


def test_text(e: Explanation) -> None:
    text = str(e)
    assert text.index("Evaluation order") < text.index("Backward mode") < text.index("Circuit")
    assert "f = x * y + exp(x)" in text
    (row,) = (line for line in text.splitlines() if line.startswith("u1 "))
    assert row.split() == ["u1", "x", "*", "y", "-6", "du1/dx", "y", "-3", "-3", "2"]
    assert "+ df/du2 * du2/dx = 7.389" in text
    tree = text[text.index("Circuit") :]
    assert "├─ u1 = x * y [multiply switches]" in tree
    assert "x (branch: adds)" in tree
    assert repr(e) == "<Explanation of 'x * y + exp(x)': f = 1.389, 3 steps>"
    assert "\x1b[" not in text
    assert "\x1b[" in e.text(color=True, width=80)


def test_forward_mode_is_joined_where_there_is_room(e: Explanation) -> None:
    (_, header, rows), (_, back, _) = e.tables()
    assert header == ["", "expression", "value", "partial", "formula", "value", "d/dx", "d/dy"]
    assert ["x", "", "2", "", "", "", "1", "0"] in rows
    assert ["u1", "x * y", "-6", "du1/dx", "y", "-3", "-3", "2"] in rows
    assert ["", "", "", "du1/dy", "x", "2", "", ""] in rows
    assert back == ["derivative", "sum of", "value"]
    (_, first, _), (_, second, slopes), _ = e.tables(width=50)
    assert first == header[:6]
    assert second == ["", "d/dx", "d/dy"]
    assert ["u1", "-3", "2"] in slopes
    many = gn.explain(" + ".join(f"x{i}" for i in range(20)), *range(20))
    assert len(many.tables()[1][1]) == 21
    assert "Forward mode" in str(many)
    assert "Forward mode" in many.markdown()


def test_text_without_rich(e: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = str(e)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "gradnet.explainer.text.find_spec", lambda name: None if name == "rich" else find(name)
    )
    plain = str(e)
    words = re.compile(r"[^\s─-]+")
    assert words.findall(plain) == words.findall(drawn)
    assert "-----" in plain


def test_a_value_that_is_used_twice_is_drawn_once() -> None:
    text = str(gn.explain("exp(x) * exp(x)", 1)) + str(gn.explain(twice, 1))
    assert "u1 (see above)" in text


def twice(x: Any) -> Any:
    u = gn.exp(x)
    return u * u


def test_markdown(e: Explanation) -> None:
    page = e._repr_markdown_()
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in tables}) == 2
    assert "| u1 | x \\* y | -6 |" in page
    assert "branches add" in page


def test_html(e: Explanation) -> None:
    page = e._repr_html_()
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    root = ElementTree.fromstring(body)
    cells = [cell.text for cell in root.iter("td")]
    assert "x * y" in cells
    assert "prefers-color-scheme: dark" in page
    assert "<svg" in page
    assert "&lt;" in gn.explain("x if x < 3 else -x", 2).html()


def test_figures() -> None:
    numbers = [0.6434123, -9.0, 0.00037018, 1e-7, 123456.7, 1e9, 0.1 + 0.2, float("nan"), 3, -0.0]
    expected = ["0.6434", "-9", "0.0003702", "1e-07", "123457", "1e+09", "0.3", "nan", "3", "0"]
    assert [figure(x) for x in numbers] == expected
    assert figure(0.00001234) == "0.00001234"
    assert shown(gn.asarray([[1.0, 2.0]])) == "[[1, 2]]"
    assert shown(gn.asarray([[5.0]])) == "5"
    assert shown(gn.zeros((3, 4))) == "[0, 0, ... 0] 3x4"
    assert shown(None) == ""


def test_what_is_too_large_to_draw() -> None:
    def deep(x: Any) -> Any:
        for _ in range(520):
            x = gn.sin(x)
        return x

    e = gn.explain(deep, 0.5)
    assert float(e.gradients["x"]) == pytest.approx(float(gn.grad(deep)(gn.asarray(0.5))), rel=1e-4)
    assert "u460 = sin(u459) (see the table)" in e.text()
    with pytest.raises(ExplainError, match="520 steps is too large to draw, at most 500"):
        e.svg()
    assert "<svg" not in e.html()


# Files


@pytest.mark.parametrize("ending", ["svg", "dot", "html", "md", "txt"])
def test_files_of_text(e: Explanation, ending: str, tmp_path: Path) -> None:
    path = e.save(tmp_path / f"e.{ending}")
    text = path.read_text()
    assert "exp" in text
    assert e.save(str(path)) == path


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_files_of_pixels(e: Explanation, theme: str, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert matplotlib
    for text, at in EXPRESSIONS[:2]:
        found = gn.explain(text, *at)
        path = found.save(tmp_path / "e.png", theme=theme)
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        plan = layout.place(found)
        assert int.from_bytes(content[16:20], "big") == pytest.approx(2 * plan.width, abs=2)
    assert e.save(tmp_path / "e.pdf", theme=theme).read_bytes().startswith(b"%PDF")


def test_without_matplotlib(
    e: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ExplainError, match=r"needs matplotlib: run pip install"):
        e.save(tmp_path / "e.png")
    assert not list(tmp_path.iterdir())
    assert e.save(tmp_path / "e.svg").exists()


def test_endings_and_engines(e: Explanation, tmp_path: Path) -> None:
    with pytest.raises(ExplainError, match=r"cannot save as 'e.gif'"):
        e.save(tmp_path / "e.gif")
    with pytest.raises(ExplainError, match="there is no engine 'x'; choose own or graphviz"):
        e.save(tmp_path / "e.svg", engine="x")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_graphviz(e: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExplainError, match="`dot` is not installed; use the engine own"):
        e.save(tmp_path / "e.svg", engine="graphviz")
    command = tmp_path / "dot"
    command.write_text('#!/bin/sh\necho "drawn with $1"\nexec /bin/cat\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    path = e.save(tmp_path / "e.png", engine="graphviz", theme="dark")
    assert path.read_text() == "drawn with -Tpng\n" + layout_dot(e)
    command.write_text("#!/bin/sh\n/bin/cat > /dev/null\necho no >&2\nexit 1\n")
    with pytest.raises(ExplainError, match="Graphviz could not draw it: no"):
        e.save(tmp_path / "f.svg", engine="graphviz")
    assert not (tmp_path / "f.svg").exists()


def layout_dot(e: Explanation) -> str:
    from gradnet.explainer.drawing import dot

    return dot(e, theme="dark")
