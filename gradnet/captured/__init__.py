"""Capture: a function's calls of its backend, recorded once, planned, and replayed.

record.py     the calls of one run, as a program (gradnet/program)
watch.py      the Python values that the run relied on
recording.py  a recorded run, planned, and its replays
quick.py      the shortest way to a replay
function.py   `capture`: a function and its recordings
"""

from gradnet.captured.function import Captured, capture

__all__ = ["Captured", "capture"]
