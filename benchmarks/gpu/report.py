"""The report: all stages in one JSON file, and as people read it."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import text
from benchmarks.gpu.bars import bars
from benchmarks.gpu.notes import ABSENT, FAILED, LATE
from benchmarks.gpu.probe import PRODUCTS

SCHEMA = "gradnet-gpu-check/1"
DRY = "**A dry run on a device made of NumPy: every figure is left out.**"


def write(found: dict[str, Any], out: Path, details: Path) -> None:
    """gpu.json, gpu.md, and all files of a folder in details.zip, each in one move.

    What was found is given the verdicts on all bars.
    """
    found["bars"] = _lines(_records, found)
    for name, text_of in (("gpu.json", partial(json.dumps, indent=1)), ("gpu.md", markdown)):
        temporary = out / f"{name}.part"
        temporary.write_text(text_of(found) + "\n", "utf-8")
        os.replace(temporary, out / name)
    temporary = out / "details.zip.part"
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as packed:
        for path in sorted(details.iterdir()):
            if path.is_file():
                packed.write(path, path.name)
    os.replace(temporary, out / "details.zip")


def troubles(found: dict[str, Any]) -> list[str]:
    """What went wrong: a line each."""
    lines = []
    for name, stage in found["stages"].items():
        if stage["ended"] != "well":
            lines.append(f"{name} {stage['ended']}: {stage['told']}")
        lines += [
            f"{name}, {part}: {entry['status']}: {entry.get('reason', '')}"
            for part, entry in stage["parts"].items()
            if entry["status"] in (FAILED, LATE)
        ]
    return lines


def of(found: dict[str, Any], stage: str, part: str) -> Any:
    """What a part found, or None."""
    return found["stages"].get(stage, {}).get("parts", {}).get(part, {}).get("found")


def summary(found: dict[str, Any]) -> str:
    """How the stages ended, and what went wrong."""
    rows = []
    for name, stage in found["stages"].items():
        states = [entry["status"] for entry in stage["parts"].values()]
        counts = [f"{states.count(s)} {s}" for s in dict.fromkeys(states)]
        rows.append([name, stage["ended"], text.seconds(stage["seconds"]), ", ".join(counts)])
    lines = [text.table(["stage", "ended", "time", "parts"], rows)]
    if wrong := troubles(found):
        lines += ["", "What went wrong:", "", *(f"- {line}" for line in wrong)]
    return "\n".join(lines)


def markdown(found: dict[str, Any]) -> str:
    """The whole report."""
    sections = ["# GPU check", *([DRY] if found["dry"] else []), about(found), summary(found)]
    for title, table in TABLES:
        body = "\n".join(_lines(table, found))
        if body:
            sections.append(f"## {title}\n\n{body}")
    return "\n\n".join(sections)


def _records(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (bar.record() for bar in bars(found))


def _lines(table: Callable[[dict[str, Any]], Iterator[Any]], found: dict[str, Any]) -> list[Any]:
    """The lines of a table, or records; why there are none, where a part told the unexpected."""
    try:
        return list(table(found))
    except Exception as error:  # noqa: BLE001  the other tables, and stages, are worth more
        return [f"This table cannot be made: {type(error).__name__}: {error}"]


def about(found: dict[str, Any]) -> str:
    """Device, driver, versions and date, in a few lines."""
    told = of(found, "probe", "versions") or of(found, "probe", "machine")
    if told is None:
        return f"{found['date']}; the device is unknown: the probe did not tell."
    packages = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    return (
        f"{told['device']}, driver {told['driver'] or '-'}, "
        f"CUDA {told.get('driver_supports_cuda', '-')}; "
        f"{told['system']}; Python {told['python']}; "
        f"commit {found.get('commit') or told['commit'] or '-'}; "
        f"{found['date']}\n\n{packages}"
    )


def absent(found: dict[str, Any]) -> Iterator[str]:
    """What this version or this machine has not."""
    for name, stage in found["stages"].items():
        for part, entry in stage["parts"].items():
            if entry["status"] == ABSENT:
                yield f"- {name}, {part}: {entry['reason']}"


def ceilings(found: dict[str, Any]) -> Iterator[str]:
    """Copies and products."""
    moved = of(found, "probe", "copies") or {"bytes_per_second": {}}
    rows = [[k, _rate(v, 1e12, "TB/s")] for k, v in moved["bytes_per_second"].items()]
    products = next((known for part in PRODUCTS if (known := of(found, "probe", part))), {})
    for precision, row in products.items():
        routes = ", ".join(f"{k} {_rate(v, 1e12, '')}" for k, v in row["routes"].items())
        best = _rate(row["flops_per_second"], 1e12, "TFLOP/s")
        rows.append([f"product, {precision}, n = {row['n']}", f"{best} ({routes})"])
    if rows:
        yield text.table(["ceiling", "rate"], rows)


def costs(found: dict[str, Any]) -> Iterator[str]:
    """Launches and graph nodes."""
    rows = [
        [name, row["left_out"], "-"]
        if "left_out" in row
        else [name, text.seconds(row["host"]), text.seconds(row["with_wait"])]
        for name, row in (of(found, "probe", "launches") or {}).items()
    ]
    graphs = of(found, "probe", "graph_nodes")
    if graphs:
        rows.append(["a node of a graph", "-", text.seconds(graphs["seconds_of_a_node"])])
    if rows:
        yield text.table(["launch by", "host", "with the device"], rows)


def checks(found: dict[str, Any]) -> Iterator[str]:
    """The parts of the correctness stage, and those that are checkers of memory."""
    rows = []
    for stage in ("correctness", "sanitizers", "compiling"):
        for part, entry in found["stages"].get(stage, {}).get("parts", {}).items():
            told = entry.get("found") or {}
            counts = told.get("counts", {}) if isinstance(told, dict) else {}
            shown = ", ".join(f"{v} {k}" for k, v in counts.items())
            rows.append([f"{stage}: {part}", entry["status"], shown or entry.get("reason", "")])
    if rows:
        yield text.table(["part", "", "what came of it"], rows)


def epilogues(found: dict[str, Any]) -> Iterator[str]:
    """What cublasLt has: by epilogue and precision, the products made and the largest error."""
    table = (of(found, "correctness", "cublaslt") or {}).get("table", [])
    precisions = list(dict.fromkeys(row["precision"] for row in table))
    rows = []
    for name in dict.fromkeys(row["epilogue"] for row in table):
        cells = []
        for precision in precisions:
            these = [r for r in table if (r["epilogue"], r["precision"]) == (name, precision)]
            native = sum(bool(row["native"]) for row in these)
            worst = max((float(row["error"]) for row in these), default=0.0)
            cells.append(f"{native} of {len(these)}, {worst:.1g}")
        rows.append([name, *cells])
    if rows:
        yield text.table(["by cublasLt itself, error", *precisions], rows)


def compiled(found: dict[str, Any], race: str, contender: str) -> dict[str, Any]:
    """The row of a contender's first steps ever, where it has taken them."""
    library = contender.partition("-")[0]
    races = (of(found, "compiling", library) or {}).get("races", {})
    return dict(races.get(race, {}).get(contender, {}))


def steps(found: dict[str, Any]) -> Iterator[str]:
    """A table for each workload and precision: all contenders."""
    parts = found["stages"].get("speed", {}).get("parts", {})
    for part, entry in parts.items():
        told = entry.get("found") or {}
        if not told.get("contenders"):
            continue
        rows = []
        for name, row in told["contenders"].items():
            first = compiled(found, part, name)
            nodes = row.get("graph_nodes")
            launched = row.get("launches") or first.get("launches") or {}
            rows.append(
                [
                    name,
                    text.seconds(row.get("median")),
                    text.percent(row.get("of_product_ceiling")),
                    text.percent(row.get("of_copy_ceiling")),
                    str(sum(launched.values())) if launched else "-",
                    "-" if nodes is None else str(nodes),
                    text.megabytes(row.get("peak_bytes")),
                    text.seconds(first.get("first_step_seconds")),
                    text.seconds(row.get("first_step_seconds")),
                    ": ".join(row[key] for key in ("left_out", "error") if row.get(key)),
                ]
            )
        header = [
            *(part, "a step", "of products' ceiling", "of copies'", "launches", "graph nodes"),
            *("peak MB", "first steps", "the same, compiled before", ""),
        ]
        yield text.table(header, rows) + "\n"
    chains = of(found, "speed", "chains")
    if chains:
        rows = [
            [name, text.seconds(row["median"]), text.percent(row["of_copy_ceiling"])]
            for name, row in chains.items()
        ]
        yield text.table(["elementwise", "time", "of the copy ceiling"], rows)


def verdicts(found: dict[str, Any]) -> Iterator[str]:
    """What a report should show, and whether this one does."""
    rows = []
    for bar in bars(found):
        shown = f"{'at most' if bar.most else 'at least'} {bar.wanted:.3g}"
        measured = "-" if bar.measured is None else f"{bar.measured:.3g}"
        rows.append([bar.name, shown, measured, bar.verdict, bar.about])
    if rows:
        yield text.table(["bar", "wanted", "measured", "", ""], rows)


def _rate(value: float | None, unit: float, name: str) -> str:
    return "-" if value is None else f"{value / unit:.3g} {name}".strip()


TABLES: tuple[tuple[str, Callable[[dict[str, Any]], Iterator[str]]], ...] = (
    ("Bars", verdicts),
    ("Ceilings", ceilings),
    ("Launches", costs),
    ("Results", checks),
    ("cublasLt", epilogues),
    ("Steps", steps),
    ("Not there", absent),
)
