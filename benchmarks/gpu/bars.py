"""What a report from a device should show: each bar, what was measured, and the verdict.

training steps   faster than the best mode of PyTorch and of JAX, on small networks by a factor
mnist            microseconds a step
fleet            of the ceiling of products in its precision
chains           elementwise work, of the ceiling of copies
fused            the fully fused network against one product after the other, both captured
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.gpu.races import DRY, FLEET, FUSED, RACES, Race

MET, MISSED, UNKNOWN = "met", "missed", "not measured"
# How many times faster than the best peer, where that is not simply faster.
TIMES = {"tiny": 2.0, "tabular": 2.0, "mnist": 2.0, "mnist3": 1.5}
MICROSECONDS_OF_MNIST = 12.0
OF_CEILING = 0.85
PEERS = ("torch", "jax")

Rows = dict[str, dict[str, Any]]


class Bar(NamedTuple):
    """A bar: what it is of, what is wanted, and what was measured, which is None if nothing was.

    most   whether more than what is wanted is too much, instead of less
    about  what was not there to compare with
    """

    name: str
    wanted: float
    measured: float | None
    most: bool = False
    about: str = ""

    @property
    def verdict(self) -> str:
        """Whether it is met; where not all were there to compare with, it can only be missed."""
        if self.measured is None:
            return UNKNOWN
        enough = self.measured <= self.wanted if self.most else self.measured >= self.wanted
        return MISSED if not enough else UNKNOWN if self.about else MET

    def record(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**self._asdict(), "verdict": self.verdict}


def bars(found: dict[str, Any]) -> Iterator[Bar]:
    """All bars, in the order of the races, whether a report has something on them or not."""
    parts = found["stages"].get("speed", {}).get("parts", {})
    raced = {
        race: ((parts.get(race.name) or {}).get("found") or {}).get("contenders", {})
        for race in (DRY if found.get("dry") else RACES)
    }
    for race, rows in raced.items():
        if race.precision != "float16":  # which is another step for the peers
            yield _against_peers(race, rows)
    for race, rows in raced.items():
        work = race.workload.name
        if work == "mnist" and race.precision == "float32":
            median = _fastest(rows, "gradnet")
            taken = None if median is None else 1e6 * median
            yield Bar("mnist, microseconds a step", MICROSECONDS_OF_MNIST, taken, True)
        if work == FLEET.name:
            ceiling = _best_of_ceiling(rows)
            yield Bar(f"{race.name}, of the ceiling of products", OF_CEILING, ceiling)
        if work in {one.name for one in FUSED}:
            fused, plain = (
                _fastest(rows, f"gradnet-{way}", exact=True) for way in ("fused", "unfused")
            )
            times = plain / fused if plain and fused else None
            yield Bar(f"{race.name}, fused against one product after the other", 1.0, times)
    chains = (parts.get("chains", {}).get("found") or {}).get("captured", {})
    yield Bar(
        "elementwise chain, of the ceiling of copies", OF_CEILING, chains.get("of_copy_ceiling")
    )


def _against_peers(race: Race, rows: Rows) -> Bar:
    ours = _fastest(rows, "gradnet")
    theirs = {peer: _fastest(rows, peer) for peer in PEERS}
    known = [seconds for seconds in theirs.values() if seconds]
    absent = [peer for peer, seconds in theirs.items() if not seconds]
    return Bar(
        f"{race.name}, times as fast as the best peer",
        TIMES.get(race.workload.name, 1.0),
        min(known) / ours if known and ours else None,
        about=f"without {' and '.join(absent)}" if absent else "",
    )


def _rows(rows: Rows, start: str, exact: bool) -> Iterator[dict[str, Any]]:
    for name, row in rows.items():
        # Op by op is no way that a bar is about.
        if name == "gradnet-eager":
            continue
        named = name == start if exact else name.startswith(start)
        if named and row.get("median") and "error" not in row:
            yield row


def _fastest(rows: Rows, start: str, exact: bool = False) -> float | None:
    """The shortest median of the contenders whose names begin so; None where there is none."""
    return min((float(row["median"]) for row in _rows(rows, start, exact)), default=None)


def _best_of_ceiling(rows: Rows) -> float | None:
    ours = _rows(rows, "gradnet", exact=False)
    return max((float(row.get("of_product_ceiling") or 0.0) for row in ours), default=0.0) or None
