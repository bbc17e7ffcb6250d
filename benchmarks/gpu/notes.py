"""A stage's notes: one entry per part, on disk as soon as the part is over."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DONE, FAILED, ABSENT, LATE = "done", "failed", "not there", "no time left"


class NotThere(Exception):
    """What a part is about is not in this version, or not on this machine; the message says so."""


class Wrong(Exception):
    """A part found something wrong; the message says what, `found` is kept with it."""

    def __init__(self, message: str, found: Any) -> None:
        super().__init__(message)
        self.found = found


@dataclass(frozen=True)
class Options:
    """How a stage runs.

    out     the folder of the reports
    dry     on the device made of NumPy, with tiny sizes, and no figure taken
    limit   seconds after which the stage is killed
    only    names of parts to run, or all
    """

    out: str
    dry: bool
    limit: float
    only: tuple[str, ...] = ()

    @property
    def backend(self) -> str:
        """The name of the backend under test."""
        return "fake" if self.dry else "cuda"

    def said(self) -> str:
        """As the argument of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Options:
        """What `said` told."""
        record = json.loads(text)
        return cls(**{**record, "only": tuple(record["only"])})


class Notebook:
    """Runs the parts of a stage and writes down what each came to."""

    def __init__(self, name: str, options: Options) -> None:
        self.options = options
        self.path = Path(options.out) / f"{name}.json"
        self.started = time.monotonic()
        self.parts: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._save()

    @property
    def left(self) -> float:
        """Seconds until the parts should be over: some before the stage is killed."""
        limit = self.options.limit
        return self.started + limit - min(5.0, limit / 10) - time.monotonic()

    def part(self, name: str, job: Callable[[], Any]) -> Any:
        """What the job gives, or None where it failed, is not there, or has no time left."""
        if self.options.only and name not in self.options.only:
            return None
        if self.left <= 0:
            self.note(name, LATE, "the parts before took the stage's time")
            return None
        started = time.monotonic()
        found = None
        try:
            found = job()
        except NotThere as error:
            self.note(name, ABSENT, str(error))
        except Wrong as error:
            self.note(name, FAILED, str(error), error.found, time.monotonic() - started)
        except Exception as error:  # noqa: BLE001  whatever it is, the other parts are run
            traceback.print_exc()
            self.note(name, FAILED, f"{type(error).__name__}: {error}"[:2000])
        else:
            self.note(name, DONE, "", found, time.monotonic() - started)
        return found

    def note(
        self, name: str, status: str, reason: str = "", found: Any = None, seconds: float = 0.0
    ) -> None:
        """Write down a part."""
        entry: dict[str, Any] = {"status": status}
        if reason:
            entry["reason"] = reason
        if found is not None:
            entry["found"] = found
        if status in (DONE, FAILED):
            entry["seconds"] = None if self.options.dry else round(seconds, 3)
        print(f"{name}: {status}{': ' if reason else ''}{reason}", file=sys.stderr, flush=True)
        self.take(name, entry)

    def take(self, name: str, entry: dict[str, Any]) -> None:
        """Write down a part as it is."""
        with self._lock:
            self.parts[name] = entry
            self._save()

    def _save(self) -> None:
        """Write all of it, in one move."""
        temporary = self.path.with_suffix(".part")
        text = json.dumps({"dry": self.options.dry, "parts": finite(self.parts)}, indent=1)
        temporary.write_text(text, "utf-8")
        os.replace(temporary, self.path)


def finite(value: Any) -> Any:
    """The value with what JSON has no number for as text, and NumPy's scalars as Python's."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return finite(value.item())
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def main(name: str, run: Callable[[Notebook], None]) -> None:
    """A stage as a process: `python -m benchmarks.gpu.NAME OPTIONS`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("options", type=Options.of)
    run(Notebook(name, parser.parse_args().options))
