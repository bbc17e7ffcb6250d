"""The stage `speed`: training steps, ours and the peers', and chains of elementwise work.

What has been measured is in the report as soon as it is known. Nothing else runs meanwhile.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.field import Field, Row, field
from benchmarks.gpu.notes import DONE, FAILED, LATE, Notebook, main
from benchmarks.gpu.probe import PRODUCTS, STATE, said
from benchmarks.gpu.races import DRY, FAMILIES, RACES, Race

TOLERANCE = {"float32": 1e-4, "tf32": 2e-3, "bfloat16": 2e-2, "float16": 5e-3, "float64": 1e-9}
A_RACE = 110.0  # seconds that it may take
LEAST = 8.0  # and those without which none is begun


def ceilings(out: str) -> tuple[dict[str, float | None], float | None]:
    """Flops per second by precision, and bytes per second, as the probe has measured them."""
    try:
        parts = json.loads((Path(out) / "probe.json").read_text("utf-8"))["parts"]
    except (OSError, ValueError, KeyError):
        return {}, None
    products = next(
        (found for part in PRODUCTS if (found := (parts.get(part) or {}).get("found"))), {}
    )
    copies = (parts.get("copies") or {}).get("found") or {}
    return (
        {precision: row["flops_per_second"] for precision, row in products.items()},
        copies.get("bytes_per_second", {}).get("copy"),
    )


def judged(race: Race, rows: dict[str, Row], ceiling: float | None, copy: float | None) -> Any:
    """A race as the report has it: rows with fractions, and errors where first losses differ."""
    right = _right(rows)
    moved = race.workload.cost()[1] if race.precision in ("float32", "tf32", "float64") else None
    for row in rows.values():
        if "median" in row:
            median = row["median"]
            row["of_product_ceiling"] = (
                race.flops / median / ceiling if ceiling and median else None
            )
            row["of_copy_ceiling"] = moved / median / copy if moved and median and copy else None
        if "losses" in row and right is not None:
            # Later losses tell little: Adam makes much of a rounding in wide networks.
            first = float(row["losses"][0])
            row["first_loss_apart"] = abs(first - right) / abs(right)
            if not row["first_loss_apart"] <= TOLERANCE[race.precision]:
                row.setdefault("error", f"its first loss is {first}, not {right}")
    return {
        "workload": race.workload.record(),
        "precision": race.precision,
        "flops_of_products": race.flops,
        "first_loss": right,
        "contenders": rows,
        "verdict": verdict(rows),
    }


def _right(rows: dict[str, Row]) -> float | None:
    """The first loss that libraries agree upon: the middle one of theirs."""
    theirs = []
    for names in FAMILIES.values():
        losses = [rows[name]["losses"][0] for name in names if "losses" in rows.get(name, {})]
        if losses:
            theirs.append(statistics.median_low([float(loss) for loss in losses]))
    return statistics.median_low(theirs) if theirs else None


def verdict(contenders: dict[str, Any]) -> dict[str, Any]:
    """The best of ours against the best of the peers."""
    best: dict[bool, tuple[float, str]] = {}
    for name, row in contenders.items():
        if row.get("median") and "error" not in row:
            ours = name.startswith("gradnet")
            best[ours] = min(best.get(ours, (float("inf"), "")), (row["median"], name))
    if len(best) < 2:
        return {"times_faster": None}
    return {
        "ours": best[True][1],
        "peer": best[False][1],
        "times_faster": best[False][0] / best[True][0],
    }


def noted(notes: Notebook, name: str, entry: dict[str, Any]) -> None:
    """Write a race down."""
    rows = entry["contenders"]
    wrong = [f"{contender}: {row['error']}" for contender, row in rows.items() if "error" in row]
    told = [row.get("left_out") == "no time was left" for row in rows.values()]
    state = FAILED if wrong else LATE if all(told) else DONE
    notes.note(name, state, "; ".join(wrong) or ("no time was left" if all(told) else ""), entry)


def chained(libraries: Field, copy: float | None) -> Any:
    """Chains, in gradnet's process."""
    library = libraries.libraries["gradnet"]
    first = next(iter(FAMILIES["gradnet"]))
    return library.ask("chains", first, dry=libraries.options.dry, copy=copy)["row"]


def forget() -> None:
    """Have our contenders find out again which way is faster, now that nothing runs beside them.

    Kernels that were compiled stay: answers are the files of text.
    """
    folder = os.environ.get("GRADNET_CACHE_DIR")
    for path in Path(folder).glob("gradnet_*.txt") if folder else ():
        path.unlink(missing_ok=True)


def run(notes: Notebook) -> None:
    """Chains, then all races, the most telling first, while there is time."""
    forget()
    products, copy = ceilings(notes.options.out)
    with field(notes.options) as libraries:
        notes.part("chains", lambda: chained(libraries, copy))
        for race in DRY if notes.options.dry else RACES:
            if notes.options.only and race.name not in notes.options.only:
                continue
            if notes.left < LEAST:
                notes.note(race.name, LATE, "the races before took the stage's time")
                continue
            until = time.monotonic() + min(A_RACE, notes.left)
            rows = libraries.race(race, until)
            noted(notes, race.name, judged(race, rows, products.get(race.precision), copy))
        if not notes.options.dry:
            notes.part("state", lambda: {STATE: said(STATE)})
        notes.part("libraries", lambda: told_of(libraries))


def told_of(libraries: Field) -> dict[str, Any]:
    """How often each library's process was begun, and who ended it; or why it took no part."""
    return {
        name: {"missing": one.missing} if one.missing else {"starts": one.starts, "ends": one.ends}
        for name, one in libraries.libraries.items()
    }


if __name__ == "__main__":
    main("speed", run)
