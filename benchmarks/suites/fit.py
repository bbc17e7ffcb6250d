"""The suite `fit`: whole processes, from the cold start to a trained model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers, rounds, text
from benchmarks.fitting.jobs import FITS, JOBS, SCRIPTS, Definition
from benchmarks.pool import ROOT, WorkerError, environment
from benchmarks.suites import Options

PARTS = tuple(JOBS)
OURS, COMMAND = "gradnet", "gradnet-command"
FAMILIES = {"gradnet": peers.OURS, "jax": "jax", "sklearn": "sklearn", "torch": "torch"}
MNIST_BAR = 1.3


def run(options: Options) -> dict[str, Any]:
    """Every peer's processes on every job: seconds, scores, and the seconds to the goal."""
    names, out = chosen(options)
    found: dict[str, Any] = {"left_out": out, "jobs": {}}
    for name, job in JOBS.items():
        if not options.wants(name):
            continue
        missing = job.missing()
        if missing:
            out[name] = missing
            continue
        options.say(f"fit {name}")
        runs = [n for n in names if n not in FITS or FITS[n](job)]
        with tempfile.TemporaryDirectory() as folder:
            found["jobs"][name] = measure(job, runs, Path(folder), options)
        options.keep(found)
    return found


def chosen(options: Options) -> tuple[list[str], dict[str, str]]:
    """The scripts that run, and those left out."""
    names, out = [], {}
    for name, (_, _, package) in SCRIPTS.items():
        asked = options.peers is None or package in options.peers or name in options.peers
        if package != peers.OURS and not asked:
            out[name] = "not chosen"
        elif not peers.installed(package):
            out[name] = f"{package} is not installed"
        elif options.device != "cpu" and package != peers.OURS:
            out[name] = "runs on the CPU only"
        else:
            names.append(name)
    return names, out


def measure(job: Definition, names: list[str], folder: Path, options: Options) -> dict[str, Any]:
    """The job done by each in turn, as often as it says, in an order that turns."""
    record = job.prepare(folder / "data.npz")
    file = folder / "job.json"
    file.write_text(json.dumps(record))
    repetitions = min(job.repetitions, options.rounds or job.repetitions)
    curves: dict[str, list[list[dict[str, float]]]] = {name: [] for name in names}
    walls: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repetitions):
        start = turn % len(names)
        for name in (*names[start:], *names[:start]):
            seconds, told = once(name, file, folder / f"{name}-{turn}")
            walls[name].append(seconds)
            curves[name].append(told)
    rows = {name: row(job, walls[name], curves[name]) for name in names}
    return {"job": record | {"data": job.source}, "contenders": rows, "bars": bars(job, rows)}


def once(name: str, file: Path, out: Path) -> tuple[float, list[dict[str, float]]]:
    """The seconds of one process, and what it told after each epoch."""
    module, mode, _ = SCRIPTS[name]
    begun = time.monotonic()
    if name == COMMAND:
        command = ["gradnet", "train", "digits", "--quiet", "--json", "--out", str(out)]
    else:
        command = [f"benchmarks.fitting.{module}", str(file), str(begun), mode]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *command],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begun
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise WorkerError(f"{name}: {last}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if name == COMMAND:
        told = lines[-1]
        lines = [{"epoch": told["epochs"], "score": told["test"]["accuracy"], "seconds": seconds}]
    return seconds, lines


def row(
    job: Definition, walls: list[float], curves: list[list[dict[str, float]]]
) -> dict[str, Any]:
    """The figures of one contender on a job."""
    last = [curve[-1] for curve in curves]
    reached = [
        next((p["seconds"] for p in curve if job.goal is not None and p["score"] >= job.goal), None)
        for curve in curves
    ]
    times = [seconds for seconds in reached if seconds is not None]
    return {
        **rounds.summary(walls),
        "rounds": walls,
        "score": last[0]["score"],
        "epochs": last[0]["epoch"],
        "to_goal": rounds.summary(times)["median"] if len(times) == len(walls) else None,
        "curve": curves[0],
    }


def bars(job: Definition, rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What the job must show, and whether it does."""
    ours = rows[OURS]
    found: list[dict[str, Any]] = []
    if job.name == "digits":
        for other, says in (
            ("sklearn-defaults", "sooner than scikit-learn's MLPClassifier imports and fits"),
            ("import-torch", "sooner than PyTorch imports"),
        ):
            if other in rows:
                reached = ours["to_goal"]
                against = rows[other]["median"]
                found.append(
                    {
                        "says": f"{job.goal} test accuracy {says}",
                        "ours": reached,
                        "other": against,
                        "passes": reached is not None and reached < against,
                    }
                )
    if job.name == "mnist":
        others = {k: r for k, r in rows.items() if k.startswith("torch")}
        if others:
            best = min(others, key=lambda k: others[k]["median"])
            equal = ours["score"] >= others[best]["score"] - job.equal
            found.append(
                {
                    "says": f"{MNIST_BAR} times faster than {best} at equal accuracy",
                    "ours": ours["median"],
                    "other": others[best]["median"],
                    "passes": equal and others[best]["median"] >= MNIST_BAR * ours["median"],
                }
            )
    return found


def table(found: dict[str, Any]) -> str:
    """A table per job, and the bars below it."""
    shown = []
    for name, part in found["jobs"].items():
        job = part["job"]
        rows = [
            [
                contender,
                text.seconds(r["median"]),
                text.seconds(r["to_goal"]),
                f"{abs(r['score']):.4f}" if r["epochs"] else "-",
                str(int(r["epochs"])),
            ]
            for contender, r in sorted(part["contenders"].items(), key=lambda kv: kv[1]["median"])
        ]
        score = "accuracy" if job["task"] == "classification" else "RMSE (standardised)"
        goal = "-" if job["goal"] is None else f"{job['goal']}"
        layers = "-".join(map(str, job["sizes"]))
        title = f"{name} {layers}, batch {job['batch']}, dropout {job['dropout']}"
        header = [title, "process", f"to {goal}", f"test {score}", "epochs"]
        lines = [
            f"{'passes' if bar['passes'] else 'MISSES'}: {bar['says']}: "
            f"{text.seconds(bar['ours'])} against {text.seconds(bar['other'])}"
            for bar in part["bars"]
        ]
        shown.append("\n\n".join([text.table(header, rows), *lines]))
    notes = [f"{name}: {reason}" for name, reason in found["left_out"].items()]
    if notes:
        shown.append(f"Left out: {'; '.join(notes)}.")
    return "\n\n".join(shown)
