"""The peers of the races on a GPU, on this machine's processor: their steps are those of ours."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.gpu import races
from benchmarks.gpu.race import Racer
from benchmarks.gpu.races import Contender, Race
from gradnet import backends

CONFIG = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_device")
# How near the first losses of libraries are to one another, by rounding.
NEAR = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-12}


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """PyTorch, whose graphs do what they are made of at once, and again when they are replayed."""
    torch = pytest.importorskip("torch")
    from benchmarks.gpu import race_torch

    captured = race_torch.Graph.captured

    def known(self: Any, batches: Any) -> Any:
        made = captured(self, batches)
        made.again = lambda: setattr(self, "taken", [self.take(x, y) for x, y in batches])
        return made

    class Stream:
        def wait_stream(self, other: Stream) -> None:
            assert isinstance(other, Stream)

    class CUDAGraph:
        def replay(self) -> None:
            self.again()

    @contextlib.contextmanager
    def graph(cuda_graph: CUDAGraph) -> Iterator[None]:
        assert isinstance(cuda_graph, CUDAGraph)
        yield

    stream = Stream()
    for name, value in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": CUDAGraph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(race_torch.Graph, "captured", known)
    before = torch.get_float32_matmul_precision()
    yield torch
    torch.set_float32_matmul_precision(before)


def first_losses(module: str, kind: str, race: Race) -> tuple[list[float], Any]:
    """The first losses of a contender, on the processor; and the contender."""
    racer = Racer(Contender(f"benchmarks.gpu.{module}", kind, True))
    reason = racer.race(race, dry=True)
    assert reason == ""
    contender = racer.contender
    contender.turn()
    contender.told(counted=True)
    return racer.first_losses, contender


@pytest.fixture
def jax() -> Iterator[Any]:
    """JAX, whose settings are put back."""
    jax = pytest.importorskip("jax")
    before = {name: getattr(jax.config, name) for name in CONFIG}
    yield jax
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What our contenders choose for their process is chosen for a test alone."""
    from benchmarks.gpu import race_ours

    for name in ("GRADNET_FUSED_MLP", "GRADNET_CLUSTER_STEP"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = backends.default()
    with contextlib.ExitStack() as chosen:
        monkeypatch.setattr(race_ours, "_chosen", chosen)
        monkeypatch.setattr(race_ours, "_benches", [])
        yield
    assert backends.default() is before


@pytest.mark.parametrize("race", races.DRY, ids=[race.workload.name for race in races.DRY])
def test_graphs_of_pytorch_begin_where_its_loop_begins(torch: Any, race: Race) -> None:
    """Whatever was done to warm up and to record them is undone."""
    from benchmarks.gpu import race_torch

    right, _ = first_losses("race_torch", "Eager", race)
    for kind, count in (("Graph", 3), ("Series", race.workload.batches)):
        losses, contender = first_losses("race_torch", kind, race)
        assert losses == pytest.approx(right[:count], rel=NEAR[race.precision] / 10)
        assert contender.stride == (1 if kind == "Graph" else count)
    race_torch.settle()


def test_pytorch_takes_tf32_where_it_is_asked_for_alone(torch: Any) -> None:
    from benchmarks.gpu.race_torch import Eager

    matmul = torch.backends.cuda.matmul
    for precision, wanted in (("tf32", True), ("float32", False), ("bfloat16", False)):
        Eager.racing(Race(races.DRY[0].workload, precision), dry=True)
        assert matmul.allow_tf32 is wanted
        assert getattr(matmul, "fp32_precision", "tf32") == ("tf32" if wanted else "ieee")


def test_what_is_used_of_pytorch_on_a_gpu_is_there() -> None:
    torch = pytest.importorskip("torch")
    graph = inspect.signature(torch.cuda.graph.__init__)
    assert list(graph.parameters)[:2] == ["self", "cuda_graph"]
    assert {"replay", "capture_begin"} <= set(dir(torch.cuda.CUDAGraph))
    for name in ("fused", "capturable"):
        assert name in inspect.signature(torch.optim.Adam).parameters
    assert "fused" in inspect.signature(torch.optim.SGD).parameters
    names = ("memory_allocated", "max_memory_allocated", "reset_peak_memory_stats", "synchronize")
    assert all(callable(getattr(torch.cuda, name)) for name in (*names, "empty_cache"))
    assert torch.profiler.ProfilerActivity.CUDA
    assert torch.autograd.DeviceType.CUDA
    assert "reduce-overhead" in torch._inductor.list_mode_options()
    assert torch._inductor.list_mode_options("reduce-overhead")["triton.cudagraphs"] is True
    assert callable(torch.compiler.reset)
    assert callable(torch.compiler.cudagraph_mark_step_begin)


def test_the_losses_of_all_libraries_are_the_same(ours: None, torch: Any, jax: Any) -> None:
    race = races.DRY[0]
    right, _ = first_losses("race_ours", "Eager", race)
    for module, kind in (("race_torch", "Eager"), ("race_jax", "Scan")):
        theirs, _ = first_losses(module, kind, race)
        count = min(len(right), len(theirs))
        assert theirs[:count] == pytest.approx(right[:count], rel=NEAR[race.precision])


def test_jax_takes_the_precision_that_it_is_asked_for(jax: Any) -> None:
    from benchmarks.gpu.race_jax import Jit

    for precision, (wide, products) in {
        "float32": (False, "highest"),
        "tf32": (False, "tensorfloat32"),
        "bfloat16": (False, "highest"),
        "float64": (True, "highest"),
    }.items():
        Jit.configure(precision, dry=False)
        assert [getattr(jax.config, name) for name in CONFIG[:2]] == [wide, products]
