"""A pytest plugin: scikit-learn's own array-API tests, and no others, with gradnet for namespace.

scikit-learn's tests ask one function for the namespaces, devices and dtypes to run with. Here it
answers gradnet, before any of them is collected, and the dtypes of GRADNET_SKLEARN_DTYPES.
"""

from __future__ import annotations

import os
from typing import Any

from sklearn.utils import _array_api


def combinations(include_numpy_namespaces: bool = True) -> list[tuple[str, None, str]]:
    dtypes = os.environ.get("GRADNET_SKLEARN_DTYPES", "float32")
    return [("gradnet", None, dtype) for dtype in dtypes.split(",")]


def namespaces(include_numpy_namespaces: bool = True) -> list[str]:
    return ["gradnet"]


_array_api.yield_namespace_device_dtype_combinations = combinations
_array_api.yield_namespaces = namespaces


def pytest_pycollect_makeitem(name: str, obj: Any) -> list[Any] | None:
    """Leave out, before they are multiplied by their parameters, tests without a namespace."""
    if not name.startswith("test"):
        return None
    marks = getattr(obj, "pytestmark", [])
    given = (mark.args[1] for mark in marks if mark.name == "parametrize" and len(mark.args) > 1)
    return None if any("gradnet" in repr(values) for values in given) else []
