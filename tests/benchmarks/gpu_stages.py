"""A stage that goes wrong in the way that GRADNET_TEST_STAGE names, for test_gpu_check.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.notes import Notebook, NotThere, Wrong, main


def run(notes: Notebook) -> None:
    """One part of each kind, then what this stage's name says."""
    name = notes.path.stem
    if name == "empty":
        return
    if name == "silent":
        raise SystemExit("before its first part")

    def wrong() -> None:
        raise Wrong("three is not two", {"counts": {"wrong": 1}})

    def absent() -> None:
        raise NotThere("this version has none")

    notes.part("good", lambda: {"worst": float("inf")})
    notes.part("wrong", wrong)
    notes.part("absent", absent)
    notes.part("broken", lambda: {}["key"])
    if name == "garbage":
        notes.path.write_text('{"parts": {"good"')
        os.write(2, b"\xff[but this it said\n")
    if name == "full":
        raise OSError(28, "No space left on device")
    if name == "nothing":
        notes.path.unlink()
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(notes.options.out, "child").write_text(str(child.pid))
        time.sleep(600)


if __name__ == "__main__":
    main(os.environ["GRADNET_TEST_STAGE"], run)
