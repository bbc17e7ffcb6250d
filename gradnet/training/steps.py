"""Steps: the steps of a run, replayed from a recording of one where that pays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from gradnet import ops
from gradnet.captured import Captured
from gradnet.errors import CaptureError
from gradnet.tensor import Tensor
from gradnet.training.sources import Batches, Source, one_by_one
from gradnet.training.step import Step

# Recording and compiling take as long as so many small steps gain.
_WORTH = 300
# Recordings of one run from which on so many replays of each, at least, are to be expected.
_MANY, _REPLAYS = 8, 20
# Seconds that steps in a row may take: Ctrl-C and the progress bar wait for them.
_LONGEST = 0.1


class Steps:
    """Makes steps on batches, one after the other.

    With `capture` None, steps are captured where the run may have enough of them. A step that
    cannot be captured, as of a model that decides by values, is made op by op; `reason` says why.
    Rows that are picked from a table are gathered within a captured step.
    """

    def __init__(self, step: Step, capture: bool | None, epochs: int, source: Source) -> None:
        self.step = step
        self.reason = ""
        worth = source.steps is None or epochs * source.steps >= _WORTH
        wanted = worth if capture is None else capture
        self._captured: Captured[..., Tensor] | None = None
        if wanted and not step.optimizer.needs_closure:
            table = source.table
            self._captured = Captured(step.on if table is None else partial(step.picked, table))
        self._pace = 1
        self._done = 0

    @property
    def replays(self) -> int:
        """How many steps have been replays."""
        return self._done if self._captured is None else self._captured.replays

    def parts(self, rows: Batches, size: int, most: int | None) -> Iterator[Batches]:
        """Rows of whole batches, as many at a time as may be made in a row."""
        if self._captured is None:
            yield from one_by_one(rows, size)
            return
        begin = 0
        while begin < rows.rows:
            end = min(begin + (most or self._pace) * size, rows.rows)
            yield rows.part(begin, end)
            begin = end

    def __call__(self, rows: Batches, size: int) -> Tensor:
        """The losses (count,) of steps on batches of that size."""
        if self._captured is not None:
            captured, started = self._captured, time.perf_counter()
            before = captured.recordings + captured.replays
            try:
                losses = captured.each(*rows.tensors, rows=size)
            except CaptureError as error:
                if captured.recordings + captured.replays != before:
                    raise  # some of these steps have been made: they must not be made again
                self._done, self._captured, self.reason = captured.replays, None, str(error)
            else:
                took = (time.perf_counter() - started) / losses.shape[0]
                self._pace = max(1, int(_LONGEST / took))
                self._look_at_recordings()
                return losses
        return ops.stack([self.step(batch) for batch in one_by_one(rows, size)])

    def _look_at_recordings(self) -> None:
        """Give capture up where steps are recorded anew again and again."""
        captured = self._captured
        assert captured is not None
        if captured.recordings > _MANY and captured.replays < _REPLAYS * captured.recordings:
            self.reason = (
                f"{captured.recordings} recordings gave only {captured.replays} replays: Python "
                "values that the step reads, or the shapes of batches, change all the time"
            )
            self._done, self._captured = captured.replays, None
