"""The suite `step`: training steps of seven networks, ours, the peers' and the floor's."""

from __future__ import annotations

from typing import Any

from benchmarks import peers, rounds, text
from benchmarks.suites import Options
from benchmarks.workloads import BARS, STEPS

PARTS = tuple(STEPS)
ROUNDS = 11


def run(options: Options) -> dict[str, Any]:
    """The times of all contenders on each workload, and their ratios."""
    names, out = peers.chosen(options.peers, peers.CONTENDERS)
    found: dict[str, Any] = {"left_out": out, "workloads": {}}
    for name, workload in STEPS.items():
        if not options.wants(name):
            continue
        options.say(f"step {name}: {workload.title}")
        measured = rounds.measure(
            names,
            workload.record(),
            device=options.device,
            rounds=options.rounds or ROUNDS,
            seconds=options.seconds,
        )
        flops, moved = workload.cost()
        found["workloads"][name] = {
            "workload": workload.record(),
            "parameters": workload.parameters,
            "flops": flops,
            "bytes": moved,
            "left_out": measured.left_out,
            "info": {key: value for key, value in measured.info.items() if value},
            "losses": measured.losses,
            "contenders": contenders(measured.seconds),
            "verdict": verdict(name, measured.seconds),
        }
        options.keep(found)
    return found


def contenders(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """What each contender took, and over the floor in the same rounds."""
    floor = seconds[peers.FLOOR]
    return {
        name: {
            **rounds.summary(values),
            "over_floor": rounds.ratio(values, floor),
            "rounds": values,
        }
        for name, values in seconds.items()
    }


def best_peer(seconds: dict[str, list[float]]) -> str | None:
    """The peer with the lowest median."""
    others = {
        name: rounds.summary(values)["median"]
        for name, values in seconds.items()
        if peers.CONTENDERS[name].family not in ("floor", peers.OURS)
    }
    return min(others, key=others.__getitem__) if others else None


def verdict(workload: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Each mode of ours against its bars: over the floor, and against the best mode of any peer."""
    bar = BARS.get(workload)
    best = best_peer(seconds)
    found: dict[str, Any] = {"best_peer": best, "modes": {}}
    if bar is not None:
        found["bars"] = {"over_floor": bar.over_floor, "over_peers": bar.over_peers}
    for mode in (peers.CAPTURED, peers.FIT, peers.EAGER):
        if mode not in seconds:
            continue
        ours = seconds[mode]
        row: dict[str, Any] = {"over_floor": rounds.ratio(ours, seconds[peers.FLOOR])}
        if best is not None:
            row["times_faster"] = rounds.ratio(seconds[best], ours)
        if "torch-eager" in seconds:
            row["times_faster_than_torch_eager"] = rounds.ratio(seconds["torch-eager"], ours)
        if bar is not None and mode != peers.EAGER:
            row["passes"] = row["over_floor"] <= bar.over_floor and (
                best is None or row["times_faster"] >= bar.over_peers
            )
        found["modes"][mode] = row
    return found


def table(found: dict[str, Any]) -> str:
    """Ours against floor and peers, then the times of all."""
    return f"{verdicts(found)}\n\n{times(found)}"


def verdicts(found: dict[str, Any]) -> str:
    """One row per workload: floor, ours over it, the best peer, how many times faster ours is."""
    header = [
        *("workload", "own products", "captured ÷", "fit ÷", "eager ÷", "at most", "best peer"),
        *("captured faster", "fit faster", "at least", "eager against PyTorch eager", ""),
    ]
    rows = []
    for name, part in found["workloads"].items():
        modes, bars = part["verdict"]["modes"], part["verdict"].get("bars", {})
        captured, fit, eager = (
            modes.get(mode, {}) for mode in (peers.CAPTURED, peers.FIT, peers.EAGER)
        )
        best = part["verdict"]["best_peer"]
        judged = [mode["passes"] for mode in modes.values() if "passes" in mode]
        rows.append(
            [
                name,
                text.seconds(part["contenders"][peers.FLOOR]["median"]),
                *(text.ratio(mode.get("over_floor")) for mode in (captured, fit, eager)),
                text.ratio(bars.get("over_floor")),
                f"{best} {text.seconds(part['contenders'][best]['median'])}" if best else "-",
                *(text.times(mode.get("times_faster")) for mode in (captured, fit)),
                text.times(bars.get("over_peers")),
                text.times(eager.get("times_faster_than_torch_eager")),
                "" if not judged else "passes" if all(judged) else "MISSES",
            ]
        )
    return text.table(header, rows)


def times(found: dict[str, Any]) -> str:
    """The median of every contender in every workload, with half the distance of the quartiles."""
    workloads = found["workloads"]
    seen = [
        name
        for name in peers.CONTENDERS
        if any(name in part["contenders"] for part in workloads.values())
    ]
    rows = []
    for contender in seen:
        cells = [contender]
        for part in workloads.values():
            row = part["contenders"].get(contender)
            cells.append("-" if row is None else text.spread(row))
        rows.append(cells)
    notes = [f"{name}: {reason}" for name, reason in found["left_out"].items()]
    listed = f"\n\nLeft out: {'; '.join(notes)}." if notes else ""
    return (
        text.table(["µs a step, median ± half the quartiles' distance", *workloads], rows) + listed
    )
