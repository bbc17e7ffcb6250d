"""The gradnet command: train, predict, bench and devices."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from collections.abc import Sequence

from gradnet.cli.parser import BadCall, parse
from gradnet.cli.streams import spelled
from gradnet.errors import GradnetError

DONE, BAD, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (by default the process's own): its exit status.

    0, or 2 after one line on standard error for a bad call or bad data, or 130 if interrupted.
    """
    started = time.perf_counter()
    # What the data room has to say is shown with the data, in its place.
    logging.getLogger("gradnet.data").addHandler(logging.NullHandler())
    called = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with spelled():
            options = parse(called)
            command = importlib.import_module(f"gradnet.cli.{options.command}")
            status: int = command.run(options, started)
    except SystemExit as stop:  # --help and --version
        return DONE if stop.code is None else int(stop.code)
    except KeyboardInterrupt as stop:
        return _refuse(str(stop) or "interrupted; nothing was saved", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has seen enough, as in `| head`
        # Python flushes once more when it ends: nothing may be left to write to the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (BadCall, GradnetError, ImportError, OSError) as error:
        return _refuse(str(error), BAD)
    except MemoryError as error:
        return _refuse(f"out of memory: {error or 'use a smaller batch or fewer rows'}", BAD)
    return status


def _refuse(reason: str, status: int) -> int:
    """One line on standard error, whatever line breaks the reason has."""
    with spelled():
        print(f"gradnet: error: {' '.join(reason.split())}", file=sys.stderr)
    return status
