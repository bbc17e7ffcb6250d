"""Pictures of a report: one look tells who wins where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks import peers, text

matplotlib.use("agg")

COLOURS = {
    "floor": "#8a8a8a",
    peers.OURS: "#c1121f",
    "torch": "#2a6fbb",
    "jax": "#2f8f5b",
    "sklearn": "#c77d0a",
    "numpy": "#7a4fa3",
}
MARKS = {
    peers.CAPTURED: "D",
    peers.FIT: "s",
    peers.EAGER: "o",
    "torch-eager": "o",
    "torch-fused": "s",
    "torch-compile": "D",
    "jax-jit": "o",
    "jax-scan": "D",
}
LINES = {peers.FLOOR: "--", peers.EAGER: ":", peers.FIT: "-."}
INK = "#222222"


def family(name: str) -> str:
    """Whose a contender is, by its name."""
    if name in peers.CONTENDERS:
        return peers.CONTENDERS[name].family
    first = name.partition("-")[0]
    return first if first in COLOURS else "floor"


def style(axes: Any) -> None:
    """Quiet axes."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
    axes.tick_params(colors=INK, labelsize=8, length=3)
    axes.grid(True, axis="x", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)


def bars(axes: Any, values: dict[str, float], labels: dict[str, str], base: float) -> None:
    """Horizontal bars from `base` on, the smallest on top, the label behind each."""
    names = sorted(values, key=values.__getitem__, reverse=True)
    for place, name in enumerate(names):
        axes.barh(place, values[name] - base, left=base, color=COLOURS[family(name)], height=0.72)
        axes.annotate(
            labels[name],
            (max(values[name], base), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=INK,
        )
    axes.set_yticks(range(len(names)), names, fontsize=8)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_color(COLOURS[family(name)])
        tick.set_fontweight("bold" if family(name) == peers.OURS else "normal")
    style(axes)
    axes.grid(False, axis="y")


def plain(axis: Any) -> None:
    """Ticks of a logarithmic axis as plain numbers, near enough to one another."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def sheet(count: int, columns: int, height: float, title: str) -> tuple[Figure, list[Any]]:
    """A figure of that many axes."""
    lines = -(-count // columns)
    figure = Figure(figsize=(4.2 * columns, height * lines + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for spare in grid[count:]:
        spare.set_visible(False)
    return figure, list(grid[:count])


def step(found: dict[str, Any]) -> Figure:
    """A panel per workload: every contender's time over the step's own matrix products."""
    workloads = found["workloads"]
    figure, grid = sheet(
        *(len(workloads), min(3, len(workloads)), 2.7),
        title="A training step as multiples of its own matrix products (dashed: 1); less is better",
    )
    for axes, (name, part) in zip(grid, workloads.items(), strict=True):
        rows = {k: r for k, r in part["contenders"].items() if k != peers.FLOOR}
        values = {k: r["over_floor"] for k, r in rows.items()}
        labels = {
            k: f"{r['over_floor']:.2f} · {text.seconds(r['median'])}" for k, r in rows.items()
        }
        axes.set_xscale("log")
        bars(axes, values, labels, 1.0)
        axes.set_xlim(min(0.8, *values.values()) * 0.9, max(2.0, *values.values()) * 2.5)
        plain(axes.xaxis)
        axes.axvline(1, color=INK, linewidth=0.9, linestyle="--")
        work = part["workload"]
        floor = text.seconds(part["contenders"][peers.FLOOR]["median"])
        layers = "-".join(map(str, work["sizes"]))
        axes.set_title(f"{name}: {layers}\n{work['batch']} rows, products {floor}", fontsize=8.5)
    return figure


def ops(found: dict[str, Any]) -> Figure:
    """The fraction of the ceiling: a row per operation, a mark per contender."""
    cases = list(found["cases"].items())[::-1]
    figure = Figure(figsize=(8.5, 0.27 * len(cases) + 1.6), layout="constrained")
    axes = figure.subplots()
    labelled = set()
    for place, (_, part) in enumerate(cases):
        for name, row in part["contenders"].items():
            if "of_ceiling" not in row:
                continue
            ours = name == peers.OURS
            axes.plot(
                max(row["of_ceiling"], 1e-3),
                place,
                "D" if ours else "o" if name != "torch-compile" else "s",
                color=COLOURS[family(name)],
                markersize=8 if ours else 5.5,
                zorder=3 if ours else 2,
                alpha=1 if ours else 0.8,
                label=None if name in labelled else name,
            )
            labelled.add(name)
    axes.axvline(1, color=INK, linewidth=0.9, linestyle="--")
    names = [f"{name}  ({part['bound']})" for name, part in cases]
    axes.set_yticks(range(len(cases)), names, fontsize=8)
    axes.set_xscale("log")
    plain(axes.xaxis)
    style(axes)
    axes.grid(True, axis="y", color="#f0f0f0")
    axes.set_xlabel("fraction of what bounds it (in brackets); right is better", fontsize=9)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.06), ncols=6, fontsize=8, frameon=False)
    return figure


def fit(found: dict[str, Any]) -> Figure:
    """A panel per job: the seconds of the whole process, with the score it ends with."""
    jobs = found["jobs"]
    figure, grid = sheet(
        *(len(jobs), min(2, len(jobs)), 2.6),
        title="Whole processes, cold start to trained model: seconds · score on test rows",
    )
    for axes, (name, part) in zip(grid, jobs.items(), strict=True):
        rows = part["contenders"]
        goal = part["job"]["goal"]
        values = {k: r["to_goal"] or r["median"] for k, r in rows.items()}
        labels = {
            k: text.seconds(values[k]) + (f" · {abs(r['score']):.3f}" if r["epochs"] else "")
            for k, r in rows.items()
        }
        bars(axes, values, labels, 0.0)
        axes.set_xlim(0, max(values.values()) * 1.3)
        kind = "test accuracy" if part["job"]["task"] == "classification" else "test RMSE"
        until = f"to {kind} {goal}" if goal else f"{part['job']['epochs']} epochs"
        axes.set_title(f"{name}: {until}" if goal else f"{name}: {until}, {kind}", fontsize=8.5)
    return figure


def imports(found: dict[str, Any]) -> Figure:
    """Seconds and megabytes of each import."""
    rows = found["modules"]
    figure, (left, right) = sheet(2, 2, 2.4, "An import in a fresh process; less is better")
    times = {name: r["median"] for name, r in rows.items()}
    bars(left, times, {k: text.seconds(v) for k, v in times.items()}, 0.0)
    left.set_xlim(0, max(times.values()) * 1.25)
    left.set_title("seconds", fontsize=9)
    held = {name: max(0.0, r["bytes_over_bare"] / 1e6) for name, r in rows.items()}
    bars(right, held, {k: f"{v:.0f} MB" for k, v in held.items()}, 0.0)
    right.set_xlim(0, max(1.0, *held.values()) * 1.25)
    right.set_title("megabytes over the interpreter", fontsize=9)
    return figure


def scale(found: dict[str, Any]) -> Figure:
    """A panel per axis: microseconds of a step, a line per contender."""
    figure, grid = sheet(
        *(len(found["axes"]), min(2, len(found["axes"])), 3.1),
        title="A step's time as one size grows; less is better",
    )
    for axes, (axis, part) in zip(grid, found["axes"].items(), strict=True):
        lines: dict[str, list[tuple[float, float]]] = {}
        for value, point in part.items():
            for name, row in point["contenders"].items():
                lines.setdefault(name, []).append((float(value), row["median"] * 1e6))
        for name, line in lines.items():
            ours = family(name) == peers.OURS
            axes.plot(
                *zip(*line, strict=True),
                color=COLOURS[family(name)],
                marker=MARKS.get(name, "."),
                markersize=4,
                linewidth=1.8 if ours else 1.2,
                linestyle=LINES.get(name, "-"),
                label=name,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain(axes.xaxis)
        plain(axes.yaxis)
        style(axes)
        axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_xlabel(axis, fontsize=9)
        axes.set_ylabel("µs", fontsize=9)
        axes.legend(fontsize=7, frameon=False)
    return figure


def memory(found: dict[str, Any]) -> Figure:
    """A panel per workload: megabytes in a step, the needed ones dashed."""
    workloads = found["workloads"]
    figure, grid = sheet(
        *(len(workloads), min(3, len(workloads)), 2.4),
        title="Peak memory of a step beside libraries and data (dashed: needed); less is better",
    )
    for axes, (name, part) in zip(grid, workloads.items(), strict=True):
        values = {k: r["step"] / 1e6 for k, r in part["contenders"].items()}
        bars(axes, values, {k: f"{v:.0f} MB" for k, v in values.items()}, 0.0)
        axes.set_xlim(0, max(1.0, *values.values()) * 1.3)
        axes.axvline(part["state_bytes"] / 1e6, color=INK, linewidth=0.9, linestyle="--")
        axes.set_title(name, fontsize=9)
    return figure


PICTURES = {
    "step": step,
    "ops": ops,
    "fit": fit,
    "import": imports,
    "scale": scale,
    "memory": memory,
}


def draw(report: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Write a picture for each suite of a report; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in report["suites"].items():
        if not any(found.get(k) for k in ("workloads", "cases", "jobs", "modules", "axes")):
            continue
        path = folder / f"{name}.png"
        PICTURES[name](found).savefig(path, dpi=130)
        yield path
