"""Compiled replays by several threads, which wait for one another, sleep, wake and fork."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
import warnings
from typing import Any

import numpy as np
import pytest

import gradnet as gn

pytest.importorskip("gradnet.kernels.replay", reason="numba is not installed")
from gradnet.kernels import blas_entry
from gradnet.kernels.replay import machine
from replays import normal, team_of

pytestmark = pytest.mark.usefixtures("on_numba")


def test_a_series_of_steps_waits_for_all_threads_after_each(threads: int) -> None:
    x, w = normal(600, 40), normal(40, 40)

    def training() -> Any:
        state = gn.asarray(w * 0.1)

        def step(x: gn.Tensor) -> gn.Tensor:
            state.assign_(gn.tanh(state + (x.T @ gn.tanh(x @ state)) * 1e-2))
            return gn.sum(state)

        return state, gn.capture(step)

    expected, one = training()
    for i in range(0, 600, 20):
        one(gn.asarray(x[i : i + 20]))
    for _ in range(5):
        found, several = training()
        several.each(gn.asarray(x), rows=20)
        assert several.replays == 29
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


def test_no_thread_begins_a_step_before_all_have_ended_the_last() -> None:
    crew, move, count = team_of(2), blas_entry.memmove(), 30
    big = np.zeros((2, 1 << 20))
    state, seen = np.zeros(1), np.zeros(count)
    numbers = np.arange(1.0, count + 1)
    given = np.stack([seen.ctypes.data + 8 * np.arange(count), numbers.ctypes.data
                      + 8 * np.arange(count)], axis=1).astype(np.uint64)  # fmt: skip

    def copy(target: Any, source: Any, nbytes: int) -> Any:
        kinds = (("ptr", target), ("ptr", source), ("i64", nbytes))
        arguments = tuple(machine.Argument(kind, value) for kind, value in kinds)
        return machine.Native(move, "ptr", arguments)

    barrier, place = machine.Barrier(), state.ctypes.data
    first = [copy(machine.Slot(0), place, 8), barrier]
    slow = copy(big[0].ctypes.data, big[1].ctypes.data, big[0].nbytes)
    second = [barrier, slow, copy(place, machine.Slot(1), 8)]
    status = np.zeros(1, np.int64)
    made = machine.steps([first, second], crew.control, status.ctypes.data)
    series = machine.Series(given.ctypes.data, 16, count)
    functions = np.array(made.several, np.int64)
    crew.run(functions.ctypes.data, ctypes.addressof(series))
    np.testing.assert_array_equal(seen, np.arange(0.0, count))


def test_a_team_sleeps_and_wakes() -> None:
    crew = team_of(2)
    x = gn.asarray(normal(400, 200))
    w = gn.asarray(normal(200, 300))
    captured = gn.capture(lambda x: gn.sum(gn.tanh(x @ w) @ w.T))
    first = captured(x).item()
    for pause in (0.0, 0.01, 0.0, 0.05):
        time.sleep(pause)
        assert captured(x).item() == first
    assert crew.size == 2


def test_a_forked_process_has_a_team_of_its_own() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this platform does not fork")
    x = gn.asarray(normal(300, 200))
    w = gn.asarray(normal(200, 300))
    captured = gn.capture(lambda x: gn.sum(gn.tanh(x @ w)))
    expected = captured(x).item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(captured(x).item()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads beside a fork
        child.start()
    assert queue.get(timeout=60) == expected
    child.join()
