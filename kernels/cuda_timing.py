"""Which of two ways to do the same work is faster on a device: timed there once, and remembered.

An answer is kept in a file by what was timed, the device and its driver, so that a training takes
the same turn whenever it is repeated. Whoever asks has both ways timed on the arrays at hand, where
nothing that they write stays.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gradnet.backends import Array
from gradnet.errors import DeviceError

from .cuda_device import Device

# How often each job is timed, and how many times in a row.
ROUNDS, IN_A_ROW = 5, 8
_FASTER, _SLOWER = "faster", "slower"

# What a way that cannot be taken raises: as to compile it, to find memory for it, to launch it.
REFUSALS = (DeviceError, RuntimeError, MemoryError)


def place(device: Device, kind: str, about: str) -> Path | None:
    """The file for an answer; None where nothing is kept."""
    if device.answers is None:
        return None
    runtime = device.cupy.cuda.runtime
    name = runtime.getDeviceProperties(device.index)["name"]
    asked = f"{name!r} {runtime.driverGetVersion()}\n{about}"
    digest = hashlib.sha256(asked.encode()).hexdigest()[:24]
    return device.answers() / f"gradnet_{kind}_{digest}.txt"


def kept(path: Path | None) -> bool | None:
    """Whether that way was found to be faster; None where it is not known."""
    if path is not None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if (said := path.read_text("utf-8")) in (_FASTER, _SLOWER):
                return said == _FASTER
    return None


def keep(path: Path | None, faster: bool) -> None:
    """Remember an answer, where that is possible."""
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(_FASTER if faster else _SLOWER, "utf-8")


@contextlib.contextmanager
def undone(device: Device, arrays: Sequence[Array]) -> Iterator[None]:
    """What is done within leaves these arrays as they were. Raises where there is no room."""
    saved = [x.copy() for x in arrays]
    try:
        yield
    finally:
        for x, before in zip(arrays, saved, strict=True):
            device.cupy.copyto(x, before)


def milliseconds(device: Device, *jobs: Callable[[], None]) -> list[float]:
    """What each job takes by the device's clock: the median of rounds in which they take turns."""
    cuda: Any = device.cupy.cuda
    stream, start, end = cuda.get_current_stream(), cuda.Event(), cuda.Event()
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        rounds.append([])
        for job in jobs:
            job()
            stream.record(start)
            for _ in range(IN_A_ROW):
                job()
            stream.record(end)
            stream.synchronize()
            rounds[-1].append(float(cuda.get_elapsed_time(start, end)) / IN_A_ROW)
    return [median(took) for took in zip(*rounds, strict=True)]
