"""The device made of NumPy refuses a number that changes and that a graph would keep."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from fakes.repeats import ChangingNumberError
from fakes.steps import ROWS, batch, bits, replay_of, training
from gradnet.kernels import cuda_graph, cuda_graph_calls, cuda_graph_numbers
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_graph_capture import Room

import gradnet as gn
from gradnet import optim


def test_a_count_of_the_backends_own(graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, plain = itertools.count(7), CudaBackend._random

    def random(self: CudaBackend, kind: str, _: Any, *rest: Any, held: bool = False) -> Any:
        return plain(self, kind, (next(seeds), 0, 0), *rest)

    monkeypatch.setattr(CudaBackend, "_random", random)
    captured = gn.capture(lambda x: x + gn.random.uniform(x.shape))
    message = "launch random, argument key: it was 8 in the warm-up and is 9 in the capture"
    with pytest.raises(ChangingNumberError, match=message):
        captured(gn.ones((3,)))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_number_of_an_action_beside_the_table(
    graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """A learning rate that goes to the update as a number, as it does in a plain step."""
    monkeypatch.setattr(cuda_graph, "capturable", lambda call: True)
    for room in (cuda_graph_calls, cuda_graph_numbers):
        monkeypatch.setattr(room, "code_held", lambda call: "")
    _, _, step = training(optimizer)
    with pytest.raises(ChangingNumberError, match=r"launch update, argument s0: it was 0\.[05]+"):
        gn.capture(step)(*batch(0))


def test_a_number_that_is_another_when_several_steps_are_captured(
    graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, factor = CudaBackend.map, [2.0]

    def mapped(self: CudaBackend, formula: Any, *arguments: Any, **options: Any) -> Any:
        arguments = tuple(factor[0] if isinstance(x, float) else x for x in arguments)
        return plain(self, formula, *arguments, **options)

    def capture() -> Any:
        factor[0] = 2.0
        captured = gn.capture(lambda x: gn.sum(gn.exp(x)) * 2.0)
        captured(gn.ones((ROWS, 2)))
        return captured

    monkeypatch.setattr(CudaBackend, "map", mapped)
    x = gn.ones((8 * ROWS, 2))
    assert capture().each(x, rows=ROWS).shape == (8,)
    captured = capture()
    factor[0] = 3.0
    with pytest.raises(ChangingNumberError, match=r"launch map, argument \w+: it was 2.0 .* 3.0"):
        captured.each(x, rows=ROWS)


def test_declared_numbers_pass(graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are others during the capture, and no launch shows it; replays have the right ones."""
    numbers: list[list[Any]] = []
    tapes: list[Any] = []
    plain = Room.captured

    def watched(self: Room, work: Any) -> Any:
        def note() -> None:
            actions = self._stream.numbers.actions
            numbers.append([x for action in actions for x in action.result or ()])

        def within() -> None:
            note()
            work()

        note()
        found = plain(self, within)
        note()
        tapes.append(self._stream.tape)
        return found

    monkeypatch.setattr(Room, "captured", watched)

    def run(wrap: Any) -> list[bytes]:
        gn.random.seed(1)
        model, made, step = training(dropout=0.3, schedule="cosine", clip=1.0)
        assert isinstance(made, optim.Adam)
        taken = wrap(step)
        found = bits(model, [taken(*batch(i)) for i in range(4)])
        if isinstance(taken, gn.captured.Captured):
            assert not replay_of(taken).divided
        return found

    assert run(gn.capture) == run(lambda step: step)
    before, within, after = numbers
    assert len(before) >= 4
    assert before == after
    assert all(x != y for x, y in zip(before, within, strict=True))
    (tape,) = tapes
    assert tape.compared == len(tape.work) > 12


def test_graphs_without_a_warm_up(graphs: CudaBackend) -> None:
    """What a stream has not been given before is compared with its own captures."""
    cupy = graphs._device.cupy
    x, stream = graphs.from_host(np.ones(3, np.float32), copy=True), cupy.cuda.Stream(True)

    def captured(number: float) -> None:
        with stream:
            stream.begin_capture()
            try:
                cupy.multiply(x, number, out=x)
            finally:
                stream.end_capture()

    captured(2.0)
    captured(2.0)
    with pytest.raises(ChangingNumberError, match=r"cupy.multiply, argument 1: it was 2.0 .* 0.5"):
        captured(0.5)
