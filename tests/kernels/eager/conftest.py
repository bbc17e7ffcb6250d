"""Ops in machine code for the tests here, and as they were after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eager_ops import as_before

from gradnet.ops import quick as eager


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with as_before():
        yield


@pytest.fixture
def quick(_as_before: None) -> None:
    """Ops in machine code, which knows how they run on floats."""
    assert eager.install()
