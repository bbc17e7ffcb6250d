"""PyTorch in the races: eager, compiled with its own graphs, and graphs made by hand."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from benchmarks.gpu.races import Race
from benchmarks.peers import pytorch
from benchmarks.peers.base import quickest

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def settle() -> None:
    """Wait for the device. Raises where it does no more."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Eager(pytorch.Eager):
    """The loop of every tutorial, with Adam's update as one kernel; halves by autocast."""

    fused = True
    precision: str

    @classmethod
    def cannot(cls, race: Race, dry: bool) -> str:
        if race.precision == "float16":
            return "float16 needs a loss scale, which makes another step of it"
        return "" if dry else cls.unfit(race.workload, "cuda")

    @classmethod
    def racing(cls, race: Race, dry: bool) -> Eager:
        found = cls(race.workload, "cpu" if dry else "cuda")
        found.precision = race.precision
        # TF32 for products of float32, or not.
        torch.set_float32_matmul_precision("high" if race.precision == "tf32" else "highest")
        return found

    def turn(self) -> None:
        """All of a race are set alike."""

    def mixed(self, loss_of: Any) -> Any:
        """The loss in the race's precision, weights staying as they are."""
        if self.precision not in HALVES:
            return loss_of
        kind, dtype = self.device.partition(":")[0], HALVES[self.precision]

        def mixed(x: Any, y: Any) -> Any:
            with torch.autocast(kind, dtype):
                return loss_of(x, y)

        return mixed

    def make(self, loss_of: Any, opt: Any) -> None:
        super().make(self.mixed(loss_of), opt)

    def start_memory(self) -> None:
        if self.device != "cpu":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()

    def peak_memory(self) -> int | None:
        if self.device == "cpu":
            return None
        return int(torch.cuda.max_memory_allocated() - self.before)

    def told(self, counted: bool) -> dict[str, Any]:
        """What else there is to tell."""
        counts = counted and self.device != "cpu"
        return {**self.info, **({"launches": self.launches()} if counts else {})}

    def launches(self) -> dict[str, int]:
        """The kernels of a step, by PyTorch's profiler."""
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as seen:
            self.run(self.stride)
        events = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        return {"kernels": round(len(events) / self.stride)} if events else {}

    def capturable(self) -> Any:
        """An optimizer whose count of steps is on the device."""
        work, parameters = self.workload, self.model.parameters()
        if work.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=work.lr, fused=True, capturable=True)
        return torch.optim.SGD(parameters, lr=work.lr, fused=True)


class Compiled(Eager):
    """torch.compile(mode="reduce-overhead"): the whole step, or the loss beside a fused update.

    Compiling takes long: both are tried in the first race, and the faster one in the others.
    """

    best: ClassVar[str] = ""

    @classmethod
    def racing(cls, race: Race, dry: bool) -> Eager:
        # After eight networks Dynamo would take the same lines of Python for too changeable.
        torch.compiler.reset()
        return super().racing(race, dry)

    def make(self, loss_of: Any, opt: Any) -> None:
        opt, mixed = self.capturable(), self.mixed(loss_of)

        def step(x: Any, y: Any) -> Any:
            loss = mixed(x, y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        inner = torch.compile(mixed, fullgraph=True, mode="reduce-overhead")

        def outer(x: Any, y: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            loss = inner(x, y)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return loss

        whole = torch.compile(step, mode="reduce-overhead")

        def marked(x: Any, y: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            return whole(x, y)

        self.ways = {"the whole step": marked, "forward and backward": outer}
        self.info["compiled"] = label = self.best or "forward and backward"
        self.step = self.ways[label]  # type: ignore[method-assign]

    def tune(self) -> None:
        """Choose a way, in the first race; one that PyTorch cannot compile is none."""
        if self.best:
            return
        seconds = {}
        for label, step in self.ways.items():
            self.step = step  # type: ignore[method-assign]
            try:
                seconds[label] = quickest(self.run)
            except Exception as error:  # noqa: BLE001  compilers raise whatever they like
                self.info[f"without {label}"] = f"{type(error).__name__}: {error}"[:300]
        self.info["compiled"] = type(self).best = min(seconds, key=seconds.__getitem__)
        self.step = self.ways[self.best]  # type: ignore[method-assign]


class Graph(Eager):
    """The step as a CUDA graph made by hand; a batch is copied to where the graph reads it."""

    def make(self, loss_of: Any, opt: Any) -> None:
        self.opt, self.loss_of = self.capturable(), self.mixed(loss_of)
        self.x, self.y = (torch.clone(t) for t in self.batches[0])
        self.graph = self.captured([(self.x, self.y)])

        def step(x: Any, y: Any) -> Any:
            self.x.copy_(x)
            self.y.copy_(y)
            self.graph.replay()
            return self.taken[0]

        self.step = step  # type: ignore[method-assign]

    def captured(self, batches: list[tuple[Any, Any]]) -> Any:
        """A graph of a step on each of these batches, everything as before the first step."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.take(*batches[0])
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.taken = [self.take(x, y) for x, y in batches]
        self.reset()
        with torch.no_grad():
            for state in self.opt.state.values():
                for value in state.values():
                    if isinstance(value, torch.Tensor):
                        value.zero_()
        return graph

    def take(self, x: Any, y: Any) -> Any:
        """A step, op by op."""
        self.opt.zero_grad(set_to_none=True)
        loss = self.loss_of(x, y)
        loss.backward()
        self.opt.step()
        return loss.detach()


class Series(Graph):
    """One graph of as many steps as there are batches, which it reads where they are."""

    def make(self, loss_of: Any, opt: Any) -> None:
        self.opt, self.loss_of = self.capturable(), self.mixed(loss_of)
        self.graph = self.captured(self.batches)
        self.stride = len(self.batches)  # type: ignore[misc]

    def losses(self, count: int) -> list[float]:
        self.graph.replay()
        return [loss.item() for loss in self.taken[:count]]

    def run(self, steps: int) -> None:
        for _ in range(-(-steps // self.stride)):
            self.graph.replay()
        self.wait(None)
