"""Kernels kept on disk: found again, repaired, done without, and shared by processes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from gradnet.kernels import compiler, entries, handles, objects
from gradnet.kernels.cache import cache_directory

TEXT = """
def kernel(x, y, term):
    for i in range(y.size):
        y[i] = x[i] + float32(term) + float32({number})
"""
SIGNATURE = "Array(float32, 1), Array(float32, 1), float64"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that have been compiled, each in what a new process would have."""
    engines, names, compile_ = [], [], compiler._compile

    def engine() -> objects.Engine:
        entries.prepare()
        engines.append(objects.Engine())
        return engines[-1]

    def spy(name: str, *given: str) -> bytes:
        names.append(name)
        return compile_(name, *given)

    monkeypatch.setattr(compiler, "_engine", engine)
    monkeypatch.setattr(compiler, "_compile", spy)
    monkeypatch.setattr(compiler, "_kernels", {})
    return names


def build(number: int = 1) -> Any:
    """A kernel as a new process would build it."""
    compiler._kernels.clear()
    kernel = compiler.compiled(TEXT.format(number=number), SIGNATURE)
    y = np.empty(3, np.float32)
    kernel(np.arange(3, dtype=np.float32), y, 0.5)
    np.testing.assert_array_equal(y, np.arange(3) + number + 0.5)
    return kernel


def test_the_second_time_is_a_load(kept: Path, made: list[str]) -> None:
    for number, compiled in ((1, 1), (1, 1), (2, 2)):
        build(number)
        assert len(made) == compiled
    assert len(list(kept.glob("gradnet_kernel_*.bin"))) == 2
    assert not list(kept.glob("*.tmp"))


def test_one_text_is_compiled_once(kept: Path, made: list[str]) -> None:
    assert build() is compiler.compiled(TEXT.format(number=1), SIGNATURE)
    assert len(made) == 1


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_file_is_replaced(kept: Path, made: list[str], damage: bytes | None) -> None:
    build()
    (path,) = kept.glob("*.bin")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] if damage is None else damage)
    build()
    assert len(made) == 2
    assert len(path.read_bytes()) == len(whole)


def test_another_processor_has_files_of_its_own(
    kept: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build()
    other = objects.host()._replace(features=f"{objects.host().features},-sse4a")
    monkeypatch.setattr(objects, "host", lambda: other)
    build()
    assert len(made) == 2
    assert len(list(kept.glob("*.bin"))) == 2


def test_what_cannot_be_loaded_is_told_before(kept: Path, made: list[str]) -> None:
    assert objects.known("expf")
    assert not objects.known("gradnet_has_no_such_function")


def test_a_call_looks_at_its_arguments(kept: Path, made: list[str]) -> None:
    call = compiler.entry(build())
    x = np.zeros(3, np.float32)
    with pytest.raises(TypeError):
        call(x, x)
    with pytest.raises(TypeError, match="real number"):
        call(x, x, "0.5")
    assert compiler.whole(call) is compiler.whole(compiler.whole(call))


def test_a_kernel_by_ctypes(kept: Path, made: list[str]) -> None:
    """As where arrays are not objects as NumPy's C API says."""
    kernel = build()
    x, y = np.arange(3, dtype=np.float32), np.empty(3, np.float32)
    entries.by_ctypes(kernel.address, kernel.arguments)(x, y, 1.5)
    np.testing.assert_array_equal(y, x + 2.5)
    assert handles.handle(x) in (id(x), x.ctypes.data)


def test_without_a_directory_to_write(
    tmp_path: Path,
    made: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("a file, not a folder", encoding="utf-8")
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path / "file" / "below"))
    objects._warn_once.cache_clear()
    with caplog.at_level(logging.DEBUG, "gradnet"):
        build()
        build(number=2)
    assert len(made) == 2
    told = [record for record in caplog.records if "not kept" in record.message]
    assert len(told) == 1
    assert told[0].levelno == logging.DEBUG
    assert str(tmp_path) in told[0].message


def test_without_a_home(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("GRADNET_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    build()
    assert len(made) == 1


def test_where_kernels_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GRADNET_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    expected = {
        "linux": tmp_path / ".cache" / "gradnet",
        "darwin": tmp_path / "Library" / "Caches" / "gradnet",
        "win32": tmp_path / "AppData" / "Local" / "gradnet",
    }
    for platform, path in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_directory() == path
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_directory() == tmp_path / "local" / "gradnet"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "gradnet"
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path / "own"))
    assert cache_directory() == tmp_path / "own"


PROCESS = """
import sys
import numpy as np
from gradnet import backends, formulas, dtypes
from gradnet.kernels import compiler
compiled = []
make = compiler._compile
compiler._compile = lambda *given: compiled.append(given) or make(*given)
x = np.linspace(-3, 3, 1000, dtype=np.float32)
y = backends.get("numba").map(formulas.sigmoid, x, dtype=dtypes.float32)
print(y.tobytes().hex(), len(compiled), "numba" in sys.modules)
"""


def test_processes_share_the_directory(kept: Path) -> None:
    """Three at once on an empty cache, then one more, which compiles nothing."""

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS], stdout=subprocess.PIPE, text=True
        )

    results = [child.communicate(timeout=120)[0].split() for child in [start() for _ in range(3)]]
    results.append(start().communicate(timeout=120)[0].split())
    assert len({bits for bits, _, _ in results}) == 1
    assert results[-1][1:] == ["0", "False"]
    assert not list(kept.glob("*.tmp"))
