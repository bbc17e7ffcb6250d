"""All that a GPU machine without network needs for the check, in one folder to bring along.

    python -m benchmarks.gpu.carry FOLDER [--python 3.12] [--architecture 9.0] [--package NAME]

Here, where there is a network but no GPU: FOLDER/wheels gets the packages that such machines lack,
for their version of Python, FOLDER/kernels what `python -m benchmarks.gpu.prebuilt` compiles, which
takes some minutes and needs Numba's CUDA target and CUDA's compilers. There, in the same commit:

    python3 -m benchmarks.gpu_check --out DIR --brought FOLDER
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# What machines with CuPy and Numba's CUDA target lack: without it CuPy multiplies, and nothing of
# a product can be captured.
PACKAGES = ("nvmath-python",)
# The C libraries that wheels may be for, newest first: pip matches each name exactly.
_PLATFORMS = (
    *("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17"),
    *("manylinux2014", "manylinux1"),
)


def download(packages: Sequence[str], python: str, folder: Path) -> list[str]:
    """The command that brings wheels, without what they need in their turn, into the folder."""
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--python-version", python, "--implementation", "cp", "--dest", str(folder)),
        *(part for name in _PLATFORMS for part in ("--platform", f"{name}_x86_64")),
        *packages,
    ]


def weight(folder: Path) -> int:
    """The bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.carry")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", metavar="N.N", help="of the GPU's machine")
    parser.add_argument("--architecture", default="9.0", metavar="N.N", help="of the GPU")
    parser.add_argument("--all", action="store_true", help="the tests' kernels too")
    parser.add_argument(
        "--package", action="append", default=[], metavar="NAME", help="another to bring along"
    )
    options = parser.parse_args(arguments)
    folder: Path = options.folder.resolve()
    wheels, kernels = folder / "wheels", folder / "kernels"
    for place in (wheels, kernels):
        place.mkdir(parents=True, exist_ok=True)
    packages = [*PACKAGES, *options.package]
    status = subprocess.run(download(packages, options.python, wheels), check=False).returncode
    if status:
        print(f"pip cannot bring {', '.join(packages)}", file=sys.stderr)
        return status
    from benchmarks.gpu import prebuilt

    every = ["--all"] if options.all else []
    prebuilt.main([str(kernels), "--architecture", options.architecture, *every])
    print(f"{folder}: {weight(folder) / 1e6:.0f} MB; there, in the same commit, run")
    print(f"python3 -m benchmarks.gpu_check --out DIR --brought {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
