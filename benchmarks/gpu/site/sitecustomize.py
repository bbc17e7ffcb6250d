"""Makes `gradnet.kernels`, which an installation maps, importable in a bare checkout.

Python imports this at its start where the folder is on PYTHONPATH, so also in the processes that
tests and benchmarks start.
"""

import importlib.util
import sys
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[3] / "kernels"


class Kernels:
    """Finds the one package that is not where its name says."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "gradnet.kernels":
            return None
        return importlib.util.spec_from_file_location(
            name, KERNELS / "__init__.py", submodule_search_locations=[str(KERNELS)]
        )


sys.meta_path.insert(0, Kernels)
