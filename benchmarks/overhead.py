"""What a call costs beside the arithmetic: 40 functions beside NumPy's, and a chain of small ops.

    python -m benchmarks.overhead [--rounds N] [--json FILE]

Ours and NumPy's take turns, so that both see the same state of the machine; each round times a
loop of calls that lasts some 200 microseconds at least, and the medians over rounds are told.

Views move no elements, and `any` stops at the first: they take a microsecond or two, and NumPy's
less, whatever the size. So their ratios to NumPy stay that of the calls, above 1 for a million
elements too; for all others the call is lost in the arithmetic there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import gradnet as gn
from benchmarks import machine
from benchmarks.text import table

SIZES = (10, 1_000, 1_000_000)
CHAIN = 20
LEAST = 200e-6  # seconds that a round of calls lasts at least
WARM = 5  # loops of a count of calls that are tried to see whether they last so long
# What takes one time whatever the size.
CONSTANT = ("any", "reshape", "permute_dims", "expand_dims", "slice", "element")

Call = Callable[[], Any]
Arrays = Mapping[str, Any]


# From a namespace and operands, the call: x and y are positive vectors, m and k square matrices of
# about as many elements, c a condition and i indices.
FUNCTIONS: dict[str, Callable[[Any, Arrays], Call]] = {
    "exp": lambda xp, v: lambda x=v["x"]: xp.exp(x),
    "log": lambda xp, v: lambda x=v["x"]: xp.log(x),
    "sqrt": lambda xp, v: lambda x=v["x"]: xp.sqrt(x),
    "tanh": lambda xp, v: lambda x=v["x"]: xp.tanh(x),
    "sin": lambda xp, v: lambda x=v["x"]: xp.sin(x),
    "abs": lambda xp, v: lambda x=v["x"]: xp.abs(x),
    "negative": lambda xp, v: lambda x=v["x"]: -x,
    "square": lambda xp, v: lambda x=v["x"]: xp.square(x),
    "floor": lambda xp, v: lambda x=v["x"]: xp.floor(x),
    "add": lambda xp, v: lambda x=v["x"], y=v["y"]: x + y,
    "add a number": lambda xp, v: lambda x=v["x"]: x + 1.0,
    "subtract": lambda xp, v: lambda x=v["x"], y=v["y"]: x - y,
    "multiply": lambda xp, v: lambda x=v["x"], y=v["y"]: x * y,
    "divide": lambda xp, v: lambda x=v["x"], y=v["y"]: x / y,
    "maximum": lambda xp, v: lambda x=v["x"], y=v["y"]: xp.maximum(x, y),
    "pow": lambda xp, v: lambda x=v["x"], y=v["y"]: x**y,
    "less": lambda xp, v: lambda x=v["x"], y=v["y"]: x < y,
    "equal": lambda xp, v: lambda x=v["x"], y=v["y"]: x == y,
    "isfinite": lambda xp, v: lambda x=v["x"]: xp.isfinite(x),
    "where": lambda xp, v: lambda c=v["c"], x=v["x"], y=v["y"]: xp.where(c, x, y),
    "clip": lambda xp, v: lambda x=v["x"]: xp.clip(x, 0.2, 0.8),
    "sum": lambda xp, v: lambda x=v["x"]: xp.sum(x),
    "sum of columns": lambda xp, v: lambda m=v["m"]: xp.sum(m, axis=0),
    "mean": lambda xp, v: lambda x=v["x"]: xp.mean(x),
    "max": lambda xp, v: lambda x=v["x"]: xp.max(x),
    "var": lambda xp, v: lambda x=v["x"]: xp.var(x),
    "any": lambda xp, v: lambda c=v["c"]: xp.any(c),
    "argmax": lambda xp, v: lambda x=v["x"]: xp.argmax(x),
    "sort": lambda xp, v: lambda x=v["x"]: xp.sort(x, stable=True),
    "reshape": lambda xp, v: lambda x=v["x"]: xp.reshape(x, (2, -1)),
    "permute_dims": lambda xp, v: lambda m=v["m"]: xp.permute_dims(m, (1, 0)),
    "expand_dims": lambda xp, v: lambda x=v["x"]: xp.expand_dims(x, axis=0),
    "concat": lambda xp, v: lambda x=v["x"], y=v["y"]: xp.concat([x, y]),
    "stack": lambda xp, v: lambda x=v["x"], y=v["y"]: xp.stack([x, y]),
    "slice": lambda xp, v: lambda x=v["x"]: x[1:-1],
    "element": lambda xp, v: lambda x=v["x"]: x[3],
    "index array": lambda xp, v: lambda x=v["x"], i=v["i"]: x[i],
    "matmul, 1-D": lambda xp, v: lambda x=v["x"], y=v["y"]: x @ y,
    "matmul, 2-D": lambda xp, v: lambda m=v["m"], k=v["k"]: m @ k,
    "astype": lambda xp, v: lambda x=v["x"]: xp.astype(x, v["double"]),
}


def operands(size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operands of the functions for `size` elements, ours and NumPy's, over one memory."""
    rng = np.random.default_rng(0)
    side = max(2, math.isqrt(size))
    theirs: dict[str, Any] = {
        "x": rng.uniform(0.1, 0.9, size).astype(np.float32),
        "y": rng.uniform(0.1, 0.9, size).astype(np.float32),
        "m": rng.uniform(0.1, 0.9, (side, side)).astype(np.float32),
        "k": rng.uniform(0.1, 0.9, (side, side)).astype(np.float32),
        "c": rng.uniform(size=size) < 0.5,
        "i": rng.integers(0, size, size),
    }
    ours: dict[str, Any] = {name: gn.asarray(array) for name, array in theirs.items()}
    return {**ours, "double": gn.float64}, {**theirs, "double": np.float64}


def pair(name: str, size: int) -> dict[str, Call]:
    """A function of a size, as a call of ours and one of NumPy's."""
    ours, theirs = operands(size)
    return {"gradnet": FUNCTIONS[name](gn, ours), "numpy": FUNCTIONS[name](np, theirs)}


def sharing(size: int = SIZES[-1]) -> dict[str, Call]:
    """A sum of two large vectors by NumPy, by our call on one thread, and on all it may take."""
    from gradnet.kernels import threads

    calls = pair("add", size)
    ours, allowed = calls["gradnet"], threads.SHARE

    def alone() -> None:
        threads.SHARE = 4 * size  # too few even for threads that are awake
        try:
            ours()
        finally:
            threads.SHARE = allowed

    return {"numpy": calls["numpy"], "one thread": alone, "shared": ours}


def _links(xp: Any, x: Any, w: Any) -> Any:
    y = x
    for _ in range(CHAIN // 4):
        y = xp.sin(xp.tanh(y) * w + x)
    return y


def chain(size: int = 10) -> dict[str, Call]:
    """Value and gradient of a chain of 20 elementwise ops and a sum; peers that are installed."""
    start = np.linspace(0.1, 0.9, size, dtype=np.float32)
    weight = start[::-1].copy()
    x, w = gn.asarray(start, requires_grad=True), gn.asarray(weight)

    def ours() -> None:
        gn.sum(_links(gn, x, w)).backward()
        x.grad = None

    found: dict[str, Call] = {"gradnet": ours}
    torch = _installed("torch")
    if torch is not None:
        torch.set_num_threads(1)  # more than one is slower on so few elements
        tx, tw = torch.tensor(start, requires_grad=True), torch.tensor(weight)

        def torchs() -> None:
            torch.sum(_links(torch, tx, tw)).backward()
            tx.grad = None

        found["torch"] = torchs
    autograd = _installed("autograd")
    if autograd is not None:
        anp = importlib.import_module("autograd.numpy")
        gradient = autograd.grad(lambda z: anp.sum(_links(anp, z, weight)))
        found["autograd"] = lambda: gradient(start)
    return found


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def race(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Seconds of a call in each round, the contenders taking turns."""
    counts = {}
    for name, call in calls.items():
        call()
        count = 1
        # The shortest of some: first calls look for much that later ones have at hand.
        while min(_seconds(call, count) for _ in range(WARM)) < LEAST:
            count *= 2
        counts[name] = count
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(_seconds(call, counts[name]) / counts[name])
    return found


def _seconds(call: Call, count: int) -> float:
    repeats = range(count)
    start = time.perf_counter()
    for _ in repeats:
        call()
    return time.perf_counter() - start


def medians(calls: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """The median seconds of a call of each contender."""
    return {name: statistics.median(found) for name, found in race(calls, rounds).items()}


def measure(rounds: int) -> dict[str, Any]:
    """All figures: microseconds of each function at each size, and of the chain."""
    rows = []
    for name in FUNCTIONS:
        for size in SIZES:
            found = medians(pair(name, size), rounds)
            rows.append(
                {
                    "function": name,
                    "size": size,
                    "gradnet_us": found["gradnet"] * 1e6,
                    "numpy_us": found["numpy"] * 1e6,
                    "over_us": (found["gradnet"] - found["numpy"]) * 1e6,
                    "constant": name in CONSTANT,
                    "ratio": found["gradnet"] / found["numpy"],
                }
            )
    linked = medians(chain(), 10 * rounds)  # short, and so at the mercy of the moment
    shared = {name: min(found) for name, found in race(sharing(), 4 * rounds).items()}
    return {
        "functions": rows,
        "chain_us": {name: seconds * 1e6 for name, seconds in linked.items()},
        "sharing_us": {name: seconds * 1e6 for name, seconds in shared.items()},
    }


def report(found: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    cells = {(row["function"], row["size"]): row for row in found["functions"]}
    small, *larger = SIZES
    rows = []
    for name in FUNCTIONS:
        first = cells[name, small]
        rows.append(
            [
                name,
                f"{first['numpy_us']:.2f}",
                f"{first['gradnet_us']:.2f}",
                f"{first['over_us']:+.2f}",
                *(f"{cells[name, size]['ratio']:.2f}" for size in larger),
            ]
        )
    header = ["function", f"NumPy, {small} (us)", "gradnet (us)", "over (us)"]
    text = table([*header, *(f"ratio, {size:,}" for size in larger)], rows)
    linked = found["chain_us"]
    ours = linked["gradnet"]
    lines = [f"{name} {us:.1f} us ({ours / us:.2f})" for name, us in linked.items()]
    best = [f"{name} {us:.0f} us" for name, us in found["sharing_us"].items()]
    return (
        f"{text}\n\nOne time whatever the size, so that only what is over NumPy's tells anything: "
        f"{', '.join(CONSTANT)}\n"
        f"Forward and backward of {CHAIN} ops on 10 elements: {', '.join(lines)}\n"
        f"A sum of {SIZES[-1]:,} elements, the least of all rounds: {', '.join(best)}\n"
    )


def summary(found: Mapping[str, Any]) -> str:
    """What calls on few elements and the chain take, in two sentences."""
    small = [row for row in found["functions"] if row["size"] == SIZES[0]]
    over = sorted((row["over_us"], row["function"]) for row in small)
    most, name = over[-1]
    chain = dict(found["chain_us"])
    ours = chain.pop("gradnet")
    peers = ", ".join(f"{peer} {us:.0f} µs" for peer, us in chain.items())
    return (
        f"Calls of {len(small)} functions on {SIZES[0]} elements take "
        f"{statistics.median(us for us, _ in over):.1f} µs more than NumPy's in the median, "
        f"{most:.1f} µs at most ({name}). Value and gradient of a chain of {CHAIN} such operations "
        f"take {ours:.0f} µs" + (f" ({peers})." if peers else ".")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    found = measure(options.rounds)
    print(report(found))
    if options.json is not None:
        record = {"machine": machine.describe(), **found}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
