"""Fixtures of the tests of compiled replays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gradnet import backends


@pytest.fixture
def on_numba() -> Iterator[None]:
    with backends.use("numba"):
        yield


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Everything split between so many threads, however small it is."""
    from gradnet.kernels.replay import lowerings, team
    from replays import team_of

    size: int = request.param
    for name in ("SHARE", "SHARE_HEAVY", "SHARE_PRODUCT", "SHARED_PROGRAM"):
        monkeypatch.setattr(lowerings.Lowering, name, 1)
    several = None if size == 1 else team_of(size)
    monkeypatch.setattr(team, "current", lambda: several)
    return size
