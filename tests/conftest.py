"""Fixtures that all tests may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that use it skip where it is absent."""
    folder = os.environ.get("GRADNET_DATA")
    path = Path(folder) if folder else Path(__file__).parents[2] / "shared" / "data" / "files"
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set GRADNET_DATA to the folder that holds it")
    return path
