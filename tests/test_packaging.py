"""What is installed: the wheel's files, its metadata, and what the README promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import gradnet
from gradnet.cli import main

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("gradnet", "kernels", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta as b; import sys; print(b.build_{}(sys.argv[1]))"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def built(kind: str, folder: Path) -> Path:
    """A wheel or an sdist of a copy of the checkout."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    done = subprocess.run(
        [sys.executable, "-c", BUILD.format(kind), str(folder / "dist")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(built("wheel", tmp_path_factory.mktemp("wheel")))


def test_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gradnet").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for path in (ROOT / "kernels").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            expected.add("gradnet/" + path.relative_to(ROOT).as_posix())
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_wheel_has_typing_kernels_and_licence(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "gradnet/py.typed" in names
    assert "gradnet/kernels/numba_cpu.py" in names
    (licence,) = (name for name in names if name.endswith("/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert not [name for name in names if "test" in name]


def test_wheel_metadata(wheel: zipfile.ZipFile, project: dict[str, Any]) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
    told = Parser().parsestr(wheel.read(name).decode())
    assert told["Name"] == "gradnet-backend"
    assert told["Version"] == project["project"]["version"] == gradnet.__version__
    assert told["License-Expression"] == "BSD-3-Clause"
    assert set(told.get_all("Provides-Extra", [])) == {
        *("train", "plot", "onnx", "mpi", "test", "bench", "all"),
        *("cuda12", "cuda13", "cuda12-local", "cuda13-local"),
    }


@pytest.mark.parametrize("major", ["12", "13"])
def test_the_bindings_of_an_installed_toolkit_are_of_its_version(
    project: dict[str, Any], major: str
) -> None:
    """numba-cuda and nvmath-python alone would take the newest, which load another's libraries."""
    wanted = project["project"]["optional-dependencies"][f"cuda{major}-local"]
    (bindings,) = (one for one in wanted if one.startswith("cuda-bindings"))
    assert re.fullmatch(rf"cuda-bindings>={major}(\.\d+)?,<{int(major) + 1}", bindings)


def test_sdist_builds_and_holds_the_sources(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"kernels/numba_cpu.py", "gradnet/__init__.py", "pyproject.toml", "LICENSE"} <= names


def test_installed_version_is_the_packages() -> None:
    assert metadata.version("gradnet-backend") == gradnet.__version__


def test_changelog_knows_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## Unreleased" in text or f"## {gradnet.__version__}" in text


def test_requirements_have_no_upper_pins(project: dict[str, Any]) -> None:
    groups = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *(item for group in groups for item in group)]
    assert len(wanted) > 20
    # But for CUDA's bindings: those of another major version are for another toolkit.
    bound = {re.match(r"[\w-]+", item)[0] for item in wanted if re.search("[<~!]|==", item)}
    assert bound == {"cuda-bindings"}


def test_console_script_is_the_command() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="gradnet")
    assert script.value == "gradnet.cli:main"
    assert script.load()(["--version"]) == 0


def test_core_imports_nothing_heavy() -> None:
    code = (
        "import sys, gradnet, gradnet.cli; "
        "print(*{'numba', 'sklearn', 'rich', 'pyarrow', 'ml_dtypes', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def test_readme_installs_from_the_checkout_only(readme: str) -> None:
    installs = re.findall(r"pip install (.*?)(?: &&|$)", readme, re.MULTILINE)
    assert len(installs) >= 2
    for what in installs:
        assert re.fullmatch(r'(-e )?"\.(\[[\w,-]+\])?"', what), what


def test_readme_has_the_two_commands(readme: str) -> None:
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[0].endswith(".venv/bin/gradnet train digits")
    assert commands[1].endswith(".venv/bin/pytest -n auto")


def test_readmes_python_runs(
    readme: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 2
    monkeypatch.chdir(tmp_path)
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})
    told = capsys.readouterr().out
    accuracy = re.search(r"test accuracy (0\.\d+)", told)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.95
    assert os.path.exists("digits.safetensors")


def test_readme_names_every_flag_of_train(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(flags) > 20
    assert flags <= set(re.findall(r"--[a-z-]+", readme))
