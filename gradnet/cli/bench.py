"""`gradnet bench`: the benchmark suites of a checkout, beside the peers that are installed."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import gradnet
from gradnet import backends
from gradnet.cli.parser import BadCall

MARK = Path("benchmarks") / "workloads.py"


def run(options: argparse.Namespace, started: float) -> int:
    """Run the suite, print its tables, and write the files that were asked for.

    Raises BadCall where there is no checkout, and for names that no suite has; DeviceError for a
    device that is not there.
    """
    root = checkout()
    device = backends.for_device(None if options.device == "auto" else options.device).device
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    suites: Any = importlib.import_module("benchmarks.suites")
    main: Any = importlib.import_module("benchmarks.main")
    chosen: dict[str, Any] = {"peers": options.peers, "workloads": options.workloads}
    if options.seconds is not None:
        chosen["seconds"] = options.seconds
    try:
        wanted = suites.Options(device=device, rounds=options.rounds, **chosen)
        status: int = main.run(options.suite, wanted, options.json, options.plots, options.update)
    except main.BadRequest as error:
        raise BadCall(str(error)) from error
    return status


def checkout() -> Path:
    """The checkout that gradnet runs from, else the one in the working directory.

    Raises BadCall where there is none.
    """
    for folder in (Path(gradnet.__file__).resolve().parents[1], Path.cwd()):
        if (folder / MARK).is_file():
            return folder
    raise BadCall(
        "bench needs the folder benchmarks/, which is not installed with gradnet: "
        "run it in a checkout of the repository"
    )
