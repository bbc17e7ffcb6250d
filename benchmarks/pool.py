"""The parent's side of the workers: one process for each contender, stopped until its turn.

Thread pools spin: OpenBLAS's, OpenMP's and XLA's threads look for new work for up to a tenth of a
second after the last. In one process, or in processes that merely wait, those of one contender
would take the cores from the next. So every contender has a process, with as many threads as it
likes by its own default, and SIGSTOP halts it whenever another is being timed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers import CONTENDERS

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 600.0
_CAN_STOP = hasattr(signal, "SIGSTOP")


class WorkerError(Exception):
    """A worker that failed; the message says which and how, in one line."""


class WorkerGone(WorkerError):
    """A worker that has ended, or does not answer: no message will be answered any more."""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process that imports this checkout."""
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(places), **(extra or {})}
    # Installed packages have their bytecode beside them; the checkout may keep its own.
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


class Worker:
    """One contender in a process of its own."""

    def __init__(
        self,
        name: str,
        where: str | None = None,
        *,
        program: str = "benchmarks.worker",
        said: Path | None = None,
    ) -> None:
        """Start it. What it says, but for answers, is added to the file `said`, if there is one."""
        if where is None:
            entry = CONTENDERS[name]
            where = f"benchmarks.peers.{entry.module}:{entry.kind}"
        self.name = name
        # Closed with the worker.
        self._said = (
            said.open("a+", errors="replace")
            if said
            else tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        )
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", program, where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment(),
            text=True,
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, *, within: float = MOST_SECONDS, **message: Any) -> dict[str, Any]:
        """Its answer to a message. Raises WorkerError where it fails, ends or takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **message}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=within)
        except queue.Empty:
            raise WorkerGone(f"{self.name}: no answer after {within:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise WorkerGone(f"{self.name}: the process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        # It may have closed its answers alone.
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(5)
            return f"{lines[-1]} (exit status {status})" if lines else f"exit status {status}"
        return lines[-1] if lines else "without a word"

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def pause(self) -> None:
        """Halt all its threads until `go_on`."""
        if _CAN_STOP:
            self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        if _CAN_STOP:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
