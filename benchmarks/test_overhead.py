"""The cost of a call beside NumPy's, and of recording and going back beside the peers.

    pytest benchmarks/test_overhead.py --benchmark-columns=min,median --benchmark-group-by=group

`python -m benchmarks.overhead` prints the same as one table of ratios, measured in turns.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.overhead import CHAIN, FUNCTIONS, SIZES, chain, pair

PEERS = ("gradnet", "torch", "autograd")


@pytest.mark.parametrize("contender", ["gradnet", "numpy"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(benchmark: Any, name: str, size: int, contender: str) -> None:
    """One function of one size, without gradients."""
    benchmark.group = f"{name}, {size:,}"
    call = pair(name, size)[contender]
    call()
    benchmark.pedantic(call, rounds=25, iterations=200 if size <= 1_000 else 1, warmup_rounds=2)


@pytest.mark.parametrize("contender", PEERS)
def test_chain(benchmark: Any, contender: str) -> None:
    """Forward and backward of a chain of small ops."""
    benchmark.group = f"forward and backward of {CHAIN} ops"
    calls = chain()
    if contender not in calls:
        pytest.skip(f"{contender} is not installed")
    benchmark.pedantic(calls[contender], rounds=50, iterations=10, warmup_rounds=3)
