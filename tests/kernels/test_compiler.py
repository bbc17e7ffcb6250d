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

from gradnet.kernels import compiler
from gradnet.kernels.cache import cache_directory

TEXT = """
In = types.Array(types.float32, 1, "C", readonly=True)
Out = types.Array(types.float32, 1, "C")


def kernel(x, y):
    for i in range(y.size):
        y[i] = x[i] + np.float32({number})
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    return tmp_path


def build(number: int = 1) -> Any:
    """A kernel as a new process would build it."""
    compiler._kernels.clear()
    kernel = compiler.compiled(TEXT.format(number=number), "In, Out")
    y = np.empty(3, np.float32)
    kernel(np.arange(3, dtype=np.float32), y)
    np.testing.assert_array_equal(y, np.arange(3) + number)
    return kernel


def hits(kernel: Any) -> int:
    """How many of a kernel's machine codes came from the disk."""
    return sum(kernel.stats.cache_hits.values())


def test_the_second_time_is_a_load(kept: Path) -> None:
    assert hits(build()) == 0
    assert hits(build()) == 1
    assert hits(build(number=2)) == 0
    assert len(list(kept.glob("gradnet_kernel_*.py"))) == 2
    assert not list(kept.glob("*.tmp"))


def test_one_text_is_compiled_once(kept: Path) -> None:
    assert build() is compiler.compiled(TEXT.format(number=1), "In, Out")


def test_a_rewritten_file_keeps_its_machine_code(kept: Path) -> None:
    """Two processes that write the same text at once must not void each other's code."""
    build()
    (path,) = kept.glob("*.py")
    path.unlink()
    assert hits(build()) == 1


def test_a_foreign_file_is_replaced(kept: Path) -> None:
    build()
    (path,) = kept.glob("*.py")
    path.write_text("raise SystemExit('not ours')", encoding="utf-8")
    build()
    assert "def kernel" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_damaged_machine_code_is_compiled_again(
    kept: Path, suffix: str, damage: bytes | None
) -> None:
    build()
    for path in (kept / "__pycache__").glob(f"*.{suffix}"):
        path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert hits(build()) == 0


def test_without_a_directory_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("a file, not a folder", encoding="utf-8")
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path / "file" / "below"))
    compiler._warn_once.cache_clear()
    with caplog.at_level(logging.DEBUG, "gradnet"):
        assert hits(build()) == 0
        assert hits(build(number=2)) == 0
    told = [record for record in caplog.records if "not kept" in record.message]
    assert len(told) == 1
    assert told[0].levelno == logging.DEBUG
    assert str(tmp_path) in told[0].message


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("GRADNET_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert hits(build()) == 0


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
import numpy as np
from gradnet import backends, formulas, dtypes
x = np.linspace(-3, 3, 1000, dtype=np.float32)
y = backends.get("numba").map(formulas.sigmoid, x, dtype=dtypes.float32)
from gradnet.kernels import compiler
(kernel,) = compiler._kernels.values()
print(y.tobytes().hex(), sum(kernel.stats.cache_hits.values()))
"""


def test_processes_share_the_directory(kept: Path) -> None:
    """Three at once on an empty cache, then one more, which compiles nothing."""

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS], stdout=subprocess.PIPE, text=True
        )

    results = [child.communicate(timeout=120)[0].split() for child in [start() for _ in range(3)]]
    results.append(start().communicate(timeout=120)[0].split())
    assert len({bits for bits, _ in results}) == 1
    assert results[-1][1] == "1"
    assert not list(kept.glob("*.tmp"))
