"""`gradnet export`: a trained model in the formats of other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradnet.cli.parser import BadCall
from gradnet.cli.predict import model_file
from gradnet.io import load, save_torch_state, to_onnx


def run(options: argparse.Namespace, started: float) -> int:
    """Write the files asked for.

    Raises BadCall, GradnetError, ImportError and OSError with one line for the user.
    """
    path = model_file(options.model)
    writers = ((options.onnx, to_onnx), (options.torch, save_torch_state))
    asked = [(Path(file), write) for file, write in writers if file is not None]
    if not asked:
        raise BadCall("there is nothing to write: give --onnx FILE or --torch FILE")
    for file, _ in asked:
        if file.resolve() == path.resolve():
            raise BadCall(f"{file} is the model itself: give another name")
        if file.exists():
            raise BadCall(f"{file} exists, and nothing is ever overwritten")
    model = load(path)
    for file, write in asked:
        write(model, file)
        print(f"{file} written", file=sys.stderr)
    return 0
