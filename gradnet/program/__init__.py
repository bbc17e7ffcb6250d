"""Programs: the backend calls of a captured function, planned and made again.

    calls.py   calls over pieces of memory that are still to be placed
    plan.py    without copies and constants that nobody needs; one arena for all memory
    replay.py  made again call by call

`gradnet.captured` records them; a backend's `compile` may make them faster.
"""

from gradnet.program.calls import Action, Call, Live, Program, Storage, Value, mapped

__all__ = ["Action", "Call", "Live", "Program", "Storage", "Value", "mapped"]
