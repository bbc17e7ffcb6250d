"""The rules between rooms, read from the imports; a light start."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gradnet.kernels
import pytest

import gradnet as gn

PACKAGE = Path(gn.__file__).parent
KERNELS = Path(gradnet.kernels.__file__).parent
STANDARD = sys.stdlib_module_names

# Rooms from the bottom up: each may import those before it, and itself.
LOWER = (
    *("errors", "formulas", "reader", "binding", "dtypes", "philox", "heap", "protocol"),
    *("backends", "array_functions", "blas", "spare", "numpy_calls", "numpy_norms"),
    *("numpy_backend", "host", "program", "precision"),
)
CORE = (
    *("host", "precision", "graph", "exchange", "operators", "tensor", "ops", "autodiff"),
    *("recomputation", "random", "check"),
)
FLOORS: dict[str, tuple[str, ...]] = {
    "nn": (*CORE, "dtypes", "errors", "formulas"),
    "optim": (*CORE, "dtypes", "errors", "formulas"),
    "data": ("errors",),
    "training": (
        *CORE,
        "program",
        "captured",
        "dtypes",
        "errors",
        "formulas",
        "nn",
        "optim",
        "data",
        "io",
    ),
    "learners": (*CORE, "dtypes", "errors", "linalg", "nn", "optim", "training"),
}
UPPER = (
    *("nn", "optim", "data", "training", "io", "estimators", "cli", "plots", "explainer"),
    *("distributed", "learners", "lectures"),
)
# What a room asks of a higher one when it is used, never when it is imported: `model.save`.
LATER = {"nn": ("gradnet.io.save",)}
HEAVY = (
    *("numba", "ml_dtypes", "cupy", "pyarrow", "pandas", "sklearn", "scipy", "safetensors"),
    *("rich", "onnx", "matplotlib", "torch", "mpi4py", "llvmlite", "cuda", "nvmath"),
)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module of the package, by its file."""
    root, prefix = (
        (KERNELS, "gradnet.kernels") if path.is_relative_to(KERNELS) else (PACKAGE, "gradnet")
    )
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join((prefix, *(part for part in parts if part != "__init__")))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[str]:
    """The absolute names of the modules (and names in them) that a file imports."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if only_at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(
                    [*parts[: len(parts) - node.level + 1], *filter(None, [node.module])]
                )
            yield from (f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(parsed(path))


def room(imported: str) -> str:
    """The room of the package that an absolute name belongs to."""
    return imported.split(".")[1] if "." in imported else ""


def within(path: Path, *rooms: str) -> bool:
    return room(name_of(path)) in rooms


LIBRARY = [path for path in files(PACKAGE) if not path.is_relative_to(PACKAGE / "kernels")]


def test_the_walk_sees_imports() -> None:
    found = list(imports(PACKAGE / "tensor.py"))
    assert "numpy" in found
    assert "gradnet.graph.Edge" in found
    assert "gradnet.ops.creation.asarray" in found
    assert "gradnet.ops.creation.asarray" not in imports(PACKAGE / "tensor.py", only_at_import=True)
    assert any(name.startswith("gradnet.kernels.") for name in imports(KERNELS / "numba_cpu.py"))
    assert len(LIBRARY) > 50


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_imports_kernels_by_the_registry_only(path: Path) -> None:
    wrong = [name for name in imports(path) if re.match(r"(gradnet\.)?kernels\b", name)]
    assert not wrong


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_heavy_imports_are_lazy(path: Path) -> None:
    # The estimators are subclasses of scikit-learn's: there is nothing of them without it. Pictures
    # are loaded at their first use.
    needed = {"sklearn"} if within(path, "estimators") else set()
    if within(path, "plots") and path.name != "__init__.py":
        needed = {"matplotlib"}
    heavy = set(HEAVY) - needed
    wrong = [name for name in imports(path, only_at_import=True) if name.partition(".")[0] in heavy]
    assert not wrong


@pytest.mark.parametrize("path", files(KERNELS), ids=name_of)
def test_kernels_know_nothing_above_the_backends(path: Path) -> None:
    for name in imports(path):
        root = name.partition(".")[0]
        if root == "gradnet":
            assert room(name) in (*LOWER, "kernels"), name
        else:
            assert root in STANDARD or root in ("numpy", *HEAVY), name


@pytest.mark.parametrize("path", [p for p in LIBRARY if within(p, "formulas")], ids=name_of)
def test_formulas_import_their_siblings_only(path: Path) -> None:
    for name in imports(path):
        assert room(name) == "formulas" or name.partition(".")[0] in STANDARD, name
    if path.name not in ("__init__.py", "rows.py"):
        assert all(name.startswith("gradnet.formulas.") for name in imports(path))


@pytest.mark.parametrize(
    "path", [p for p in LIBRARY if within(p, "binding", "reader")], ids=name_of
)
def test_binding_needs_the_standard_library_only(path: Path) -> None:
    for name in imports(path):
        if name.partition(".")[0] == "gradnet":
            assert room(name) in ("errors", "formulas", "reader"), name
        else:
            assert name.partition(".")[0] in STANDARD, name


@pytest.mark.parametrize("path", [p for p in LIBRARY if within(p, *LOWER)], ids=name_of)
def test_the_ground_floor_knows_no_tensors(path: Path) -> None:
    for name in imports(path):
        if name.partition(".")[0] == "gradnet":
            assert room(name) in LOWER, name


@pytest.mark.parametrize("path", [p for p in LIBRARY if within(p, *CORE)], ids=name_of)
def test_the_core_knows_nothing_above_it(path: Path) -> None:
    for name in imports(path):
        assert room(name) not in UPPER, name


@pytest.mark.parametrize("path", [p for p in LIBRARY if within(p, *FLOORS)], ids=name_of)
def test_upper_rooms_import_lower_ones(path: Path) -> None:
    here = room(name_of(path))
    for name in imports(path):
        if name.partition(".")[0] == "gradnet" and name not in LATER.get(here, ()):
            assert room(name) in (here, *FLOORS[here]), name
    assert not set(imports(path, only_at_import=True)) & set(LATER.get(here, ()))


TENSORS_ONLY = [p for p in LIBRARY if within(p, "nn", "optim", "training", "learners")]


@pytest.mark.parametrize("path", TENSORS_ONLY, ids=name_of)
def test_rooms_of_tensors_know_no_arrays(path: Path) -> None:
    allowed = {"sklearn", "rich", "IPython"}
    for name in imports(path):
        root = name.partition(".")[0]
        assert root in STANDARD or root in ("gradnet", *allowed), name
        assert not name.startswith(("gradnet.backends", "gradnet.numpy_backend", "gradnet.philox"))
    words = {node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)}
    assert not words & {*gn.backends.names(), "cupy"}


# A light start


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after some code."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in run.stdout.split("\n")[-2].split()}


def test_import_is_light() -> None:
    found = loaded_by("import gradnet")
    assert "gradnet" in found
    assert not found & {*HEAVY, "hypothesis", "pytest", "asyncio", "unittest", "tkinter"}


def test_rooms_load_when_they_are_asked_for() -> None:
    code = (
        "import gradnet as gn\nassert not {'gradnet.nn', 'gradnet.optim'} & set(__import__('sys')"
        ".modules)\nwith gn.backends.use('numpy'):\n"
        "    m = gn.nn.MLP((3, 2))\n    gn.optim.Adam(m.parameters()); m(gn.ones((1, 3)))"
    )
    assert not loaded_by(code) & {*HEAVY}


# Words


PUBLIC = [
    "",
    "nn",
    "optim",
    "plots",
    "training",
    "learners",
    "data",
    "io",
    "random",
    "backends",
    "check",
    "estimators",
    "linalg",
    "fft",
    "explainer",
    "lectures",
]


def public_objects() -> Iterator[tuple[str, Any]]:
    for name in PUBLIC:
        module = importlib.import_module(f"gradnet.{name}" if name else "gradnet")
        for entry in dir(module):
            value = getattr(module, entry)
            if entry.startswith("_") or isinstance(value, ModuleType) or not callable(value):
                continue
            if not str(getattr(value, "__module__", "gradnet")).startswith("gradnet"):
                continue
            full = ".".join(filter(None, ("gradnet", name, entry)))
            yield full, value
            if isinstance(value, type):
                for method, member in vars(value).items():
                    if method.startswith("_") or not (
                        callable(member) or isinstance(member, property | classmethod)
                    ):
                        continue
                    yield f"{full}.{method}", getattr(value, method)


def test_everything_public_says_what_it_is() -> None:
    found = dict(public_objects())
    assert len(found) > 300
    silent = [name for name, value in found.items() if not (inspect.getdoc(value) or "").strip()]
    assert not silent


@pytest.mark.parametrize("path", [*LIBRARY, *files(KERNELS)], ids=name_of)
def test_modules_have_docstrings(path: Path) -> None:
    assert ast.get_docstring(parsed(path))


def test_no_path_of_a_machine() -> None:
    pattern = re.compile("/(" + "|".join(("work", "root", "home", "tmp/venv", "Users")) + r")/\w")
    folders = [PACKAGE, KERNELS, Path(__file__).parent]
    for path in {p for folder in folders for p in files(folder)}:
        if path != Path(__file__):
            assert not pattern.search(path.read_text()), path


def test_every_module_can_be_imported() -> None:
    for found in pkgutil.walk_packages([str(PACKAGE)], "gradnet."):
        if not found.name.startswith("gradnet.kernels.") and found.name != "gradnet.__main__":
            importlib.import_module(found.name)
