"""How much memory a process holds, and held at most."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def field(name: str) -> int:
    """A size in /proc/self/status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def most() -> int:
    """The most bytes that this process has ever held."""
    if STATUS.exists():
        return field("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Peak:
    """The most bytes held since `restart`, over those at the beginning.

    `exact` is False where the system cannot forget an earlier peak: then the figure may be of one
    from before, as while a library was imported.
    """

    def __init__(self) -> None:
        self.exact = True
        self.restart()
        self.baseline = field("VmRSS") if STATUS.exists() else most()

    def restart(self) -> None:
        """Forget the peak so far."""
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:
            self.exact = False

    def bytes(self) -> int:
        """The peak over the baseline."""
        return max(0, most() - self.baseline)
