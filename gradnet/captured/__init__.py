"""Capture: a function's calls of its backend, recorded once, planned, and replayed.

record.py    the calls of one run, as a program (gradnet/program)
watch.py     the Python values that the run relied on
function.py  `capture`, which puts these together
"""

from gradnet.captured.function import Captured, capture

__all__ = ["Captured", "capture"]
