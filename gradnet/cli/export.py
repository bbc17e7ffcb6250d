"""`gradnet export`: a trained model in the formats of other programs."""

from __future__ import annotations

import argparse
import sys

from gradnet.cli.parser import BadCall, unwritten
from gradnet.cli.predict import model_file
from gradnet.io import load, save_torch_state, to_onnx


def run(options: argparse.Namespace, started: float) -> int:
    """Write the files asked for.

    Raises BadCall, GradnetError, ImportError and OSError with one line for the user.
    """
    path = model_file(options.model)
    writers = (("--onnx", options.onnx, to_onnx), ("--torch", options.torch, save_torch_state))
    asked = [(unwritten(flag, file), write) for flag, file, write in writers if file is not None]
    if not asked:
        raise BadCall("there is nothing to write: give --onnx FILE or --torch FILE")
    model = load(path)
    for file, write in asked:
        write(model, file)
        print(f"{file} written", file=sys.stderr)
    return 0
