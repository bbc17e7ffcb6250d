"""Where a run is saved: a folder of its own, which goes away again if the run fails."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from gradnet.cli.parser import BadCall
from gradnet.training import checkpoints

MODEL = "model.safetensors"
HISTORY = "history.csv"
RUNS = Path("runs")


class Folder:
    """The folder of a run: `out`, or the one to `resume`, or a new one in runs/ named as the data.

    As a context it is made, and removed again where an error ends the run that made it. A run that
    Ctrl-C, a full disk or a lack of memory ends stays where there is a checkpoint to go on from.
    Raises BadCall for an `out` that holds something already, or that cannot be made.
    """

    def __init__(self, data: str, out: str | None, resume: str | None) -> None:
        if resume is not None and out is not None and Path(out).resolve() != Path(resume).resolve():
            raise BadCall("a resumed run is saved where it was: leave out --out")
        self.stem = re.sub(r"[^\w.-]+", "-", Path(data).absolute().stem) or "run"
        self.named = resume or out
        self.resumed = resume is not None
        self.path = RUNS / self.stem if self.named is None else Path(self.named)
        self._made: list[Path] = []
        if not self.resumed:
            self._check()

    @property
    def model(self) -> Path:
        return self.path / MODEL

    @property
    def history(self) -> Path:
        return self.path / HISTORY

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return checkpoints.file_of(self.path).exists()

    @property
    def remains(self) -> str:
        """What to say of a run that ended before it was saved."""
        if not self.begun:
            return "nothing was saved"
        return f"go on from the last checkpoint by --resume {self.path}"

    def _check(self) -> None:
        if self.named is not None and os.path.lexists(self.path):
            if not self.path.is_dir():
                raise BadCall(f"--out {self.path}: this is a file; expected a folder")
            if any(self.path.iterdir()):
                raise BadCall(
                    f"--out {self.path}: the folder is not empty, and nothing is overwritten; "
                    "choose another, or go on with the run in it by --resume"
                )
        above = next(p for p in (self.path, *self.path.absolute().parents) if os.path.lexists(p))
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise BadCall(f"--out {self.path}: no folder can be made in {above}")

    def __enter__(self) -> Folder:
        parents = [p for p in self.path.parents if not p.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while not self.resumed:
            try:
                self.path.mkdir()
                self._made = [self.path, *parents]
                break
            except FileExistsError:
                if self.named is not None:  # seen to be empty
                    break
                number += 1
                self.path = RUNS / f"{self.stem}-{number}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        outer = isinstance(error, KeyboardInterrupt | OSError | MemoryError)
        if error is None or self.resumed or (outer and self.begun):
            return
        for entry in self.path.iterdir():
            entry.unlink() if not entry.is_dir() else shutil.rmtree(entry)
        with suppress(OSError):  # another run may be saved beside this one by now
            for path in self._made:
                path.rmdir()
