"""The host's memory: what is held free is given back to the system."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from gradnet.spare import spare


@cache
def _trimmer() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    # Of glibc; others have none.
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def trim() -> None:
    """Give whole pages that are free back to the system, where the C library can.

    It keeps freed blocks for later ones, which fit few of the gaps between those still in use. What
    is kept for large arrays goes too.
    """
    if spare is not None:
        spare.forget()
    trimmer = _trimmer()
    if trimmer is not None:
        trimmer(0)
