"""Atomic writing: the old file or the new one, never a piece, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gradnet as gn
from gradnet.io import load_tensors, replacing, save_tensors


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    names = [".a.txt.12.tmp", ".a.txt.13.tmp", ".b.txt.12.tmp", "a.txt.12.tmp", ".a.txt.x.tmp"]
    for name in names:
        (tmp_path / name).write_text("half")
        if name != ".a.txt.13.tmp":
            os.utime(tmp_path / name, (0, 0))
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", *names[1:]])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
        save_tensors({"x": gn.ones(1)}, tmp_path / "absent" / "x.safetensors")


def test_the_usual_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    save_tensors({"x": gn.ones(1)}, tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_mode == plain.stat().st_mode


WRITER = """
import sys
import gradnet as gn
from gradnet.io import save_tensors

for i in range(1000000):
    save_tensors({"x": gn.full((200000,), float(i))}, sys.argv[1], {"i": i})
    print(i, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_kill_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    environment = {**os.environ, "GRADNET_BACKEND": "numpy"}
    for pause in (0.0, 0.003, 0.007):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        tensors, metadata = load_tensors(path)
        values = tensors["x"].numpy()
        assert values.shape == (200000,)
        assert (values == metadata["i"]).all()


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.safetensors"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*a\.safetensors"):
            save_tensors({"w": gn.zeros(10_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
