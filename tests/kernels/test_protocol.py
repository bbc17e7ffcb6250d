"""Every backend present has exactly the methods of the protocol, with its signatures."""

from __future__ import annotations

import inspect

import pytest

from gradnet import backends
from gradnet.backends import Backend

METHODS = {name: value for name, value in vars(Backend).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", backends.available())
def test_signatures(name: str) -> None:
    backend = backends.get(name)
    assert isinstance(backend, Backend)
    public = {member for member in dir(backend) if not member.startswith("_")}
    assert public == set(METHODS)
    for method, declared in METHODS.items():
        if not isinstance(declared, property):
            found = inspect.signature(getattr(type(backend), method))
            assert found == inspect.signature(declared), method


@pytest.mark.parametrize("name", backends.names())
def test_the_name_and_the_device_are_text(name: str) -> None:
    reason = backends.unavailable(name)
    if reason is not None:
        pytest.skip(reason)
    backend = backends.get(name)
    assert backend.name == name
    assert backend.device.partition(":")[0] in ("cpu", "cuda")
