"""Capture: a function's calls of its backend, recorded once, planned, and replayed.

    record.py    the calls of one run, as a program over pieces of memory
    watch.py     the Python values that the run relied on
    plan.py      the program without copies and constants; one arena for its memory
    replay.py    the program made again call by call; backends may compile it instead
    function.py  `capture`, which puts these together
"""

from gradnet.captured.function import Captured, capture

__all__ = ["Captured", "capture"]
