"""Standard streams whose encoding lacks characters, as on an old terminal or in a pipe."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PLAIN = {"─": "-", "│": "|", "├": "+", "└": "+", "…": "...", "²": "^2"}
_OWN = "gradnet-plain"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for characters that an encoding lacks: lines of tables, else escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or _escaped(c) for c in lacking), error.end


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


@contextmanager
def spelled() -> Iterator[None]:
    """Within a `with` block, what the standard streams cannot encode is spelled in what they can.

    Where a user has chosen how a stream treats such characters, that stays.
    """
    codecs.register_error(_OWN, _plain)
    usual = {"strict", "surrogateescape", "backslashreplace"}
    before = [
        (stream, stream.errors)
        for stream in (sys.stdout, sys.stderr)
        if isinstance(stream, io.TextIOWrapper) and stream.errors in usual
    ]
    for stream, _ in before:
        stream.reconfigure(errors=_OWN)
    try:
        yield
    finally:
        for stream, errors in before:
            with suppress(OSError, ValueError):  # what is left in it cannot be written, or closed
                stream.reconfigure(errors=errors)
