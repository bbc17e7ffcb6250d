"""Writing files so that a reader, or a crash at any moment, finds the old file or the new one."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ABANDONED = 3600.0  # seconds without a change


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to within a `with` block; the file there takes the place of `path` after it.

    It is an empty file in the same folder, so that the change is one atomic step, and its bytes are
    on the disk before. Where the block raises, nothing remains of it; what a killed process left
    is removed by a later write of the same file. A link stays and what it points to is replaced.
    Raises FileNotFoundError where the folder does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {target.parent}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as created:
            mode = os.fstat(created.fileno()).st_mode
        yield temporary
        os.chmod(temporary, mode)  # libraries that write a file anew may make it private
        _to_disk(temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _to_disk(target.parent)
    with suppress(OSError):
        _clear(target)


def _clear(target: Path) -> None:
    """Remove what processes that were killed while they wrote a file have left beside it."""
    own = re.compile(rf"\.{re.escape(target.name)}\.\d+\.tmp")
    for path in target.parent.iterdir():
        if own.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED:
            path.unlink()


def _to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
