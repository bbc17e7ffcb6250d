"""Checkpoints: a run's whole state in one file, written atomically, from which it goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradnet.errors import DataError, GradnetError
from gradnet.tensor import Tensor
from gradnet.training import checks
from gradnet.training.callbacks import Callback

if TYPE_CHECKING:
    from gradnet.training.run import Run

FORMAT = 1
FILE = "checkpoint.safetensors"
_KEY = "gradnet.training"
_TENSOR = "$tensor"


def file_of(path: str | os.PathLike[str]) -> Path:
    """The file a checkpoint is in: the path itself, or in a folder a file of a fixed name."""
    found = Path(path).expanduser()
    return found / FILE if found.is_dir() else found


def pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON can hold it; its Tensors go to `tensors` under their place in it.

    Raises TypeError, naming the place, for what neither can hold.
    """
    if isinstance(value, Tensor):
        tensors[place] = value.detach()
        return {_TENSOR: place}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a checkpoint's names are text, but {place} has {key!r}")
        return {key: pack(item, f"{place}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [pack(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"a checkpoint holds numbers, text, Tensors, lists and mappings, but {place} is a "
        f"{type(value).__name__}"
    )


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `pack` has taken apart."""
    if isinstance(value, Mapping):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: unpack(item, tensors) for key, item in value.items()}
    return [unpack(item, tensors) for item in value] if isinstance(value, list) else value


def write(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state to a file, so that at any time the file is the old state or the new one."""
    from gradnet.io import save_tensors

    tensors: dict[str, Tensor] = {}
    text = json.dumps({"format": FORMAT, "state": pack(state, "", tensors)})
    save_tensors(tensors, path, {_KEY: text})


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Within a `with` block, what is missing or of a wrong kind in a checkpoint is a DataError."""
    try:
        yield
    except GradnetError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"{file_of(path)} is no whole checkpoint as this version of gradnet writes it "
            f"({error!r}); leave out resume to start anew, or resume from another one"
        ) from error


def read(path: str | os.PathLike[str], like: Tensor) -> Any:
    """The state in a file, with its Tensors beside `like`.

    Raises FileNotFoundError where there is none and DataError for another kind of file.
    """
    from gradnet.io import load_tensors

    found = file_of(path)
    if not found.exists():
        raise FileNotFoundError(
            f"there is no checkpoint at {found}; leave out resume to start anew"
        )
    tensors, metadata = load_tensors(found)
    if _KEY not in metadata:
        raise DataError(
            f"{found} is no checkpoint of a training run; a model alone is read with gradnet.load"
        )
    content = json.loads(metadata[_KEY])
    if content["format"] != FORMAT:
        raise DataError(
            f"{found} is a checkpoint of format {content['format']}, this version of gradnet "
            f"reads format {FORMAT}"
        )
    return unpack(content["state"], tensors)


class Checkpoint(Callback):
    """Writes the run's state to a file: after every n-th epoch, or every better one.

    `seconds` is the least time between two writes. The last epoch and an interrupted run are
    written in any case (with `best_only`, only an epoch that is the best so far). A folder gets a
    file "checkpoint.safetensors".
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        seconds: float = 0.0,
        best_only: bool = False,
    ) -> None:
        self.path = path
        self.every = checks.whole("every of a checkpoint", every, 1)
        self.seconds = checks.number("seconds of a checkpoint", seconds)
        self.best_only = best_only
        self._written = float("-inf")

    def on_fit_start(self, run: Run) -> None:
        folder = file_of(self.path).parent
        if not folder.is_dir():
            raise FileNotFoundError(
                f"the checkpoint {file_of(self.path)} has no folder to be written to; "
                f"create {folder}"
            )

    def on_epoch_end(self, run: Run) -> None:
        if self.best_only:
            due = run.history.best_epoch == run.epoch
        else:
            waited = time.monotonic() - self._written >= self.seconds
            due = run.stopping or run.epoch == run.epochs or (not run.epoch % self.every and waited)
        if due:
            self.save(run)

    def on_interrupt(self, run: Run) -> None:
        if not self.best_only:
            self.save(run)
            run.history.notes.append(f"saved to {file_of(self.path)}: resume from there")

    def save(self, run: Run) -> None:
        """Write the run's state now."""
        write(run.state_dict(), file_of(self.path))
        self._written = time.monotonic()
