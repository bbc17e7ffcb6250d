"""What a run was asked to do: kept beside its model, so that it can be resumed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradnet.cli.parser import BadCall
from gradnet.data import BUILTIN
from gradnet.errors import DataError
from gradnet.io import replacing
from gradnet.training.defaults import Defaults

FILE = "run.json"
FREE = ("epochs", "device", "backend")
"""Flags that may differ when a run is resumed."""


@dataclass(frozen=True)
class Settings:
    """The flags of `gradnet train` that decide what is computed; None means by default.

    `schedule` has no flag; `fingerprint` is of the data, once they are read.
    """

    data: str
    target: str | None = None
    task: str = "auto"
    validation: float | str = 0.1
    test: float | str | None = None
    hidden: tuple[int, ...] | None = None
    activation: str | None = None
    dropout: float | None = None
    optimizer: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    patience: int | None = None
    device: str = "auto"
    backend: str = "auto"
    precision: str = "float32"
    seed: int = 0
    fingerprint: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Settings:
        """The settings of a parsed command line, going on from those of the run to resume.

        Raises BadCall for a flag that is not what it was, DataError where there is no such run.
        """
        given = {
            field.name: getattr(options, field.name)
            for field in dataclasses.fields(cls)
            if getattr(options, field.name, None) is not None
        }
        if options.resume is None:
            return cls(**given)
        before = cls.read(Path(options.resume))
        for name, value in given.items():
            old = getattr(before, name)
            if name not in FREE and not _same(value, old):
                raise BadCall(
                    f"{_flag(name)} {_text(value)} is not what the run in {options.resume} has"
                    f"{'' if old is None else f', {_text(old)}'}: leave it out to go on, or start "
                    "anew with another --out"
                )
        return dataclasses.replace(before, **{n: v for n, v in given.items() if n in FREE})

    def completed(self, defaults: Defaults) -> Settings:
        """With what was not given filled in."""
        return dataclasses.replace(
            self,
            **{
                name: value
                for name, value in dataclasses.asdict(defaults).items()
                if getattr(self, name) is None
            },
        )

    def of_data(self, fingerprint: str) -> Settings:
        """With the fingerprint of the data; raises DataError where it is another than before."""
        if self.fingerprint not in (None, fingerprint):
            raise DataError(
                f"{self.data}: the data are not what the run began with; start anew with "
                "another --out"
            )
        return dataclasses.replace(self, fingerprint=fingerprint)

    def write(self, folder: Path) -> None:
        """Write run.json, with files by their full path so that it can be resumed anywhere."""
        content = dataclasses.asdict(self)
        for name in ("data", "validation", "test"):
            value = content[name]
            if isinstance(value, str) and value not in BUILTIN and os.path.exists(value):
                content[name] = os.path.abspath(value)
        with replacing(folder / FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """The settings in a folder's run.json; raises DataError where there is no run."""
        path = folder / FILE
        try:
            content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
            values = {field.name: content[field.name] for field in dataclasses.fields(cls)}
        except OSError as error:
            raise DataError(f"{folder}: there is no run to resume (no file {FILE})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: not written by gradnet train, or by another version"
            ) from error
        if values["hidden"] is not None:
            values["hidden"] = tuple(values["hidden"])
        return cls(**values)


def _same(value: Any, old: Any) -> bool:
    if isinstance(value, str) and isinstance(old, str):
        return value == old or os.path.abspath(value) == old
    return bool(value == old)


def _flag(name: str) -> str:
    return "DATA" if name == "data" else f"--{name.replace('_', '-')}"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
