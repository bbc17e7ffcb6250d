"""Matrix products by our own code, NumPy's BLAS and PyTorch: GFLOP/s on one thread and on all.

    python -m benchmarks.gemm [--workload NAME] [--dtype float32] [--seconds S] [--json FILE]

The products are those of the step workloads: of each layer x @ w, of the weights' gradient x.T @ g,
and of the input's g @ w.T. A process for each number of threads measures them in turns, each
contender with its result's memory given; the best and the median round are kept. Small products
are called in series, so that what is told of them includes each library's way from Python.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.text import table

# Sizes of the layers, and rows of a batch.
WORKLOADS: dict[str, tuple[tuple[int, ...], int]] = {
    "tiny": ((64, 32, 10), 32),
    "tabular": ((14, 64, 64, 2), 256),
    "mnist": ((784, 128, 10), 128),
    "mnist3": ((784, 512, 512, 10), 128),
    "big": ((784, 1024, 1024, 10), 256),
    "wide": ((2048, 2048, 2048, 10), 1024),
    "lecture": ((1000, 100, 10), 64),
}
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GRADNET_NUM_THREADS")
LEAST = 50e-6  # seconds that a round lasts at least


class Product(NamedTuple):
    """`(n, k) @ (k, m)`, of operands that are transposed views or not."""

    name: str
    n: int
    k: int
    m: int
    transposed: tuple[bool, bool]


def products(workload: str) -> list[Product]:
    """The products of a training step."""
    sizes, batch = WORKLOADS[workload]
    found = []
    for i, (before, after) in enumerate(pairwise(sizes), 1):
        found.append(Product(f"{workload} {i} forward", batch, before, after, (False, False)))
        found.append(Product(f"{workload} {i} weights", before, batch, after, (True, False)))
        if i > 1:
            found.append(Product(f"{workload} {i} input", batch, after, before, (False, True)))
    return found


def contenders(product: Product, dtype: str) -> dict[str, Callable[[], Any]]:
    """Calls that compute a product, of those that are installed."""
    import numpy as np

    from gradnet import backends

    generator = np.random.default_rng(0)

    def operand(rows: int, columns: int, transposed: bool) -> Any:
        shape = (columns, rows) if transposed else (rows, columns)
        made = generator.normal(size=shape).astype(dtype)
        return made.T if transposed else made

    a = operand(product.n, product.k, product.transposed[0])
    b = operand(product.k, product.m, product.transposed[1])
    ours, theirs = (np.empty((product.n, product.m), dtype) for _ in range(2))
    backend = backends.get("numba")
    calls: dict[str, Callable[[], Any]] = {
        "gradnet": lambda: backend.matmul(a, b, out=ours),
        "numpy": lambda: np.matmul(a, b, out=theirs),
    }
    try:
        import torch
    except ImportError:
        return calls
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, y, z = (torch.from_numpy(w) for w in (a, b, np.empty_like(ours)))
    calls["torch"] = lambda: torch.mm(x, y, out=z)
    return calls


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def measure(product: Product, dtype: str, seconds: float) -> dict[str, Any]:
    """GFLOP/s of each contender."""
    calls = contenders(product, dtype)
    counts, spent = {}, {name: [] for name in calls}
    for name, call in calls.items():
        counts[name] = 1
        while _seconds(call, counts[name]) < LEAST:
            counts[name] *= 2
    start = time.perf_counter()
    while time.perf_counter() - start < seconds * len(calls) or len(spent["numpy"]) < 3:
        for name, call in calls.items():
            spent[name].append(_seconds(call, counts[name]) / counts[name])
    work = 2e-9 * product.n * product.k * product.m
    return {
        "product": product.name,
        "sizes": [product.n, product.k, product.m],
        "transposed": list(product.transposed),
        "best": {name: work / min(found) for name, found in spent.items()},
        "median": {name: work / statistics.median(found) for name, found in spent.items()},
        "seconds": {name: statistics.median(found) for name, found in spent.items()},
    }


def child(workloads: list[str], dtype: str, seconds: float) -> None:
    """What a process with its number of threads measures."""
    rows = [measure(product, dtype, seconds) for name in workloads for product in products(name)]
    print(json.dumps(rows))


def run(threads: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a process with so many threads."""
    arguments = ["--child", "--dtype", options.dtype, "--seconds", str(options.seconds)]
    for name in options.workload or WORKLOADS:
        arguments += ["--workload", name]
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.gemm", *arguments],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    rows: list[dict[str, Any]] = json.loads(made.stdout)
    return [{"threads": threads, **row} for row in rows]


def report(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table: the best of each, and ours over the others' median."""
    names = [name for name in ("gradnet", "numpy", "torch") if name in rows[0]["best"]]
    header = ["threads", "product", "n k m", *names, *(f"over {name}" for name in names[1:])]
    lines = []
    for row in rows:
        ratios = [row["median"]["gradnet"] / row["median"][name] for name in names[1:]]
        lines.append(
            [
                str(row["threads"]),
                row["product"],
                " ".join(map(str, row["sizes"])),
                *(f"{row['best'][name]:.1f}" for name in names),
                *(f"{ratio:.2f}" for ratio in ratios),
            ]
        )
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", action="append", choices=WORKLOADS)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--seconds", type=float, default=0.5, help="for each contender")
    parser.add_argument("--threads", type=int, action="append", help="1 and all, if not given")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.workload, options.dtype, options.seconds)
        return
    counts = options.threads or sorted({1, machine.cores()})
    rows = [row for threads in counts for row in run(threads, options)]
    print(report(rows))
    if options.json is not None:
        made = {"machine": machine.describe(), "dtype": options.dtype, "rows": rows}
        options.json.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
