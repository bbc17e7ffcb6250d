"""Whether sharing pays here and now: what a kernel took on all threads, and on one, of late.

Another processor is not always one more. Another program may run on it, or another guest of the
host, or it may be the other half of a core whose memory one thread keeps busy. So each kernel is
left, for each magnitude of size, to whichever took less, and from time to time to the other.
"""

from __future__ import annotations

import math
from time import perf_counter_ns as clock

import numpy as np

# Calls until the other way is tried for the first time; later at least and at most, and between for
# each part that it takes longer: so many that what was lost by trying is 1/80 of what they take.
_SOON, _OFTEN, _SELDOM, _LOST = 4, 96, 256, 160
# Calls of a trial. Only the last one counts: the first wakes the other threads.
_TRIAL = 2
# What counts as better.
_BETTER = 0.95
# Shared calls in a row of which nothing is told, as telling takes as long as adding some thousands;
# and nanoseconds that they may take, as soon after that another program may need a processor.
_UNTOLD, _UNSEEN = 4, 200_000
# The part of what is known that a new time replaces, and how many times as long counts at most.
_WEIGHT, _MOST = 0.25, 2.0


class Habit:
    """What is known of a kernel on so many elements, and whether it is `shared` now.

    Each call asks `choose` before its work, and then says of how many elements it was: `note`.
    """

    __slots__ = ("_left", "_start", "_took", "shared")

    def __init__(self) -> None:
        # It begins with a trial of sharing.
        self.shared = False
        self._took = {True: math.inf, False: math.inf}
        self._left = 0

    def choose(self) -> bool:
        """Whether to share this time."""
        self._left -= 1
        self._start = clock()
        return self.shared is (self._left >= 0)

    def note(self, shared: bool, size: int) -> None:
        """Learn what so many elements took since the choice was made."""
        took = (clock() - self._start) / size
        if shared is self.shared:
            known = self._took[shared]
            if known < math.inf:
                took = known + _WEIGHT * (min(took, _MOST * known) - known)
            self._took[shared] = took
            if self._took[not shared] < _BETTER * took:
                self._change()
        elif self._left <= -_TRIAL:
            self._took[shared] = took
            if took < _BETTER * self._took[not shared]:
                self._change()
            else:
                known = self._took[not shared]
                longer = (took - known) / (known or 1.0)  # a coarse clock may have seen nothing
                self._left = min(max(round(_LOST * min(longer, 2)), _OFTEN), _SELDOM)

    def _change(self) -> None:
        self.shared = not self.shared
        self._left = _SOON

    def freed(self) -> int:
        """How many calls, none of which is to be told of, one thread makes from now on."""
        if self.shared or self._left < 2:
            return 0
        # The last one before a trial tells what one thread takes by then.
        count, self._left = self._left - 1, 1
        return count

    def lent(self, size: int) -> int:
        """How many calls on so many elements are shared from now on, none of them told of."""
        if not self.shared or self._left < 2:
            return 0
        took = max(self._took[True] * size, 1.0)  # a coarse clock may have seen nothing
        count = min(self._left - 1, _UNTOLD, int(_UNSEEN / took))
        self._left -= count
        return count


class Habits:
    """What is known of a kernel for each magnitude of size.

    `free[i]` is how many calls on `i` bits of elements may be made on one thread without asking.
    """

    def __init__(self) -> None:
        self.free = np.zeros(64, np.int64)
        self._lent = [0] * 64
        self._habits = [Habit() for _ in self.free]

    def alone(self, size: int) -> bool:
        """Whether this call is one of those; it then is counted."""
        left = self.free[size.bit_length()]
        if left > 0:
            self.free[size.bit_length()] = left - 1
        return bool(left > 0)

    def lends(self, size: int) -> bool:
        """Whether this call may be shared and not told of; it then is counted."""
        left = self._lent[size.bit_length()]
        if left:
            self._lent[size.bit_length()] = left - 1
        return left > 0

    def choose(self, size: int) -> bool:
        """As of a habit."""
        return self._habits[size.bit_length()].choose()

    def note(self, shared: bool, size: int) -> None:
        """As of a habit; some more calls may be made without asking then."""
        magnitude = size.bit_length()
        habit = self._habits[magnitude]
        habit.note(shared, size)
        self._lent[magnitude] = habit.lent(size)
        if not habit.shared:
            self.free[magnitude] = habit.freed()
