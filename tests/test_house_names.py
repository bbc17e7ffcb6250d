"""Names that are imported at first use: none is forgotten, and no import waits for another."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import gradnet as gn
from gradnet import ops

PACKAGE = Path(gn.__file__).parent
FILES = {
    ".".join(("gradnet", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "kernels" not in path.parts
}
FILES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def told(module: ModuleType) -> dict[str, tuple[str, str]]:
    """What a type checker is told to import: each name, the module it is from, its name there."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("module", [gn, ops], ids=["gradnet", "ops"])
def test_type_checkers_know_what_the_interpreter_finds(module: ModuleType) -> None:
    known = told(module)
    assert len(known) > 10
    for name, (home, its_name) in known.items():
        expected = getattr(importlib.import_module(home), its_name)
        found = getattr(module, name)
        assert found is expected or (name == "elementwise" and found("exp") is expected("exp"))


def test_type_checkers_know_all_ops_that_are_no_row_of_the_formulas() -> None:
    rows = {row.name for row in gn.formulas.rows()}
    assert ops.names() - rows - {"power", "true_divide"} <= set(told(ops))
    assert set(told(ops)) <= {*ops.names(), "elementwise"}
    assert not ops.has("nothing")
    assert ops.has("swish")


def test_a_star_gives_tensors_and_derivatives() -> None:
    names: dict[str, object] = {}
    exec("from gradnet import *", names)
    assert {"Tensor", "grad", "no_grad", "float32", "ops", "pi"} <= set(names)
    assert "sum" not in names
    assert set(names) - {"__builtins__"} == set(gn.__all__)
    assert {name for name in gn.__all__ if name in told(gn)} == set(told(gn)) - {"gradcheck"}


def run(code: str) -> list[str]:
    """The words that a fresh interpreter prints."""
    arguments = [sys.executable, "-W", "error", "-c", code]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    return printed.stdout.split()


def test_the_import_reads_few_files() -> None:
    loaded = run("import sys, gradnet\nprint(*sys.modules)")
    few = ("", ".dtypes", ".errors", ".interop", ".interop.hooks")
    ours = {name for name in loaded if name.split(".")[0] == "gradnet"}
    assert ours == {f"gradnet{name}" for name in few}


def test_threads_may_be_the_first_to_ask() -> None:
    code = """
import sys, threading
import gradnet as gn
names = ["Tensor", "asarray", "grad", "nn", "sum", "tanh", "linalg", "unique_all", "optim", "op"]
start, found = threading.Barrier(len(names)), []
def ask(name):
    start.wait()
    found.append(getattr(gn, name).__name__.rpartition(".")[2] if name != "tanh" else gn.tanh.name)
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*sorted(found))
"""
    asked = "Tensor asarray grad linalg nn op optim sum tanh unique_all"
    assert run(code) == asked.split()


def imported(name: str) -> Iterator[str]:
    """The modules of the package that one imports as soon as it is imported itself."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else str(node.module)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    for found in visit(ast.parse(FILES[name].read_text())):
        parts = found.split(".")
        # A module's own packages are there before it.
        packages = (".".join(parts[:count]) for count in range(2, len(parts) + 1))
        yield from (p for p in packages if p in FILES and not f"{name}.".startswith(f"{p}."))


def test_no_import_waits_for_itself() -> None:
    # Else a module could not be the first one that is imported, and two threads that import
    # different ones could each be given one that is not ready.
    graph = {name: set(imported(name)) for name in FILES}
    assert "gradnet.tensor" in graph["gradnet.ops.core"]
    assert "gradnet.interop" in graph["gradnet"]
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) > 150
