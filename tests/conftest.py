"""Fixtures that all tests may use."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Several test processes: the threads of each one's BLAS would only be in one another's way. Said
# before NumPy is imported, which reads it.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")

from gradnet import backends
from gradnet.backends import Backend

CPU_BACKENDS = tuple(
    name for name in backends.available() if backends.get(name).device.startswith("cpu")
)
# Others for the same tests: "cuda" where there is a GPU, "fake" for the one made of NumPy, which
# stands in the place of "cuda", whose host code it runs.
TESTED = tuple(os.environ.get("GRADNET_TEST_BACKENDS", "").split()) or CPU_BACKENDS
if "fake" in TESTED:
    backends.register("cuda", "fakes.cupy_over_numpy")
    TESTED = tuple("cuda" if name == "fake" else name for name in TESTED)
for _name in TESTED:
    # Once, before any test: what a test loads itself is loaded anew by the next one.
    backends.get(_name)

# A background job starts with Ctrl-C ignored; the tests of Ctrl-C need Python's usual answer to it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that face a backend, for `-m backend`."""
    for item in items:
        if "backend" in getattr(item, "fixturenames", ()):
            item.add_marker("backend")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Take coverage's tracer away from tests that say so: it makes Python two or three times as
    slow, wherever the lines are."""
    tracer = sys.gettrace()
    covers = type(tracer).__module__.startswith("coverage")
    if not covers or item.get_closest_marker("untraced") is None:
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


@pytest.fixture(params=TESTED)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend under test in turn, as the one that new tensors are made on."""
    with backends.use(request.param) as chosen:
        yield chosen


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    """Backends that a test registers, loads or makes loadable are known to that test alone."""
    registered, loaded = dict(backends._MODULES), dict(backends._loaded)
    cuda = sys.modules.get("gradnet.kernels.cuda")
    yield
    for registry, before in ((backends._MODULES, registered), (backends._loaded, loaded)):
        registry.clear()
        registry.update(before)  # type: ignore[call-overload]
    if cuda is None:
        sys.modules.pop("gradnet.kernels.cuda", None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that use it skip where it is absent."""
    folder = os.environ.get("GRADNET_DATA")
    path = Path(folder) if folder else Path(__file__).parents[2] / "shared" / "data" / "files"
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set GRADNET_DATA to the folder that holds it")
    return path
