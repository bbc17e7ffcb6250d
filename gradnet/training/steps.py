"""Steps: the steps of a run, replayed from a recording of one where that pays."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gradnet import ops
from gradnet.captured import Captured
from gradnet.errors import CaptureError
from gradnet.tensor import Tensor
from gradnet.training.sources import Rows
from gradnet.training.step import Step

# Recording and compiling take as long as so many small steps gain.
_WORTH = 300
# Seconds that steps in a row may take: Ctrl-C and the progress bar wait for them.
_LONGEST = 0.1


class Steps:
    """Makes steps on batches, one after the other.

    With `capture` None, steps are captured where the run may have enough of them. A step that
    cannot be captured, as of a model that decides by values, is made op by op; `reason` says why.
    """

    def __init__(self, step: Step, capture: bool | None, epochs: int, steps: int | None) -> None:
        self.step = step
        self.reason = ""
        worth = steps is None or epochs * steps >= _WORTH
        wanted = worth if capture is None else capture
        self._captured: Captured[..., Tensor] | None = None
        if wanted and not step.optimizer.needs_closure:
            self._captured = Captured(step.on)
        self._pace = 1

    @property
    def replays(self) -> int:
        """How many steps have been replays."""
        return 0 if self._captured is None else self._captured.replays

    def parts(self, rows: Rows, size: int, most: int | None) -> Iterator[Rows]:
        """Rows of whole batches, as many at a time as may be made in a row."""
        begin = 0
        while begin < rows.rows:
            count = most or (self._pace if self._captured is not None else 1)
            end = min(begin + count * size, rows.rows)
            yield rows.part(begin, end)
            begin = end

    def __call__(self, rows: Rows, size: int) -> Tensor:
        """The losses (count,) of steps on batches of that size."""
        if self._captured is not None:
            started = time.perf_counter()
            try:
                losses = self._captured.each(*(x for x in rows if x is not None), rows=size)
            except CaptureError as error:
                self._captured, self.reason = None, str(error)
            else:
                took = (time.perf_counter() - started) / losses.shape[0]
                self._pace = max(1, int(_LONGEST / took))
                return losses
        made = [self.step(rows.part(begin, begin + size)) for begin in range(0, rows.rows, size)]
        return ops.stack(made)
