"""Where kernels are kept between processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_directory() -> Path:
    """Where kernels are kept: $GRADNET_CACHE_DIR, else `gradnet` in the platform's cache folder."""
    chosen = os.environ.get("GRADNET_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "gradnet"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gradnet"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradnet"
