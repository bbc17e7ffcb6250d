"""Every kernel that training uses compiles to PTX and machine code, without a GPU or a driver.

Needs Numba's CUDA target with NVIDIA's compiler and linker libraries; skipped without them.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import lockstep
from fakes import training as training_steps
from fakes.cupy_over_numpy import THREADS
from gradnet.kernels import launch
from gradnet.kernels.cuda_templates import elementwise, moves, reductions, softmax
from gradnet.kernels.cuda_templates import program as programs
from gradnet.kernels.cuda_templates.program import Program

from gradnet import binding, formulas
from gradnet.errors import DeviceError

ARCHITECTURES = ((8, 0), (9, 0))
FULL_BLOCK = 256
# So many tests have the kernels among them, and so may as many processes.
SHARES = 12
PARAMETERS = {"f4": ".f32", "f8": ".f64", "i8": ".u64", "u8": ".u64", "u4": ".u32"}
# How elements are moved side by side: code, how many.
MOVED = {("f4", 4): ".v4.f32", ("f4", 2): ".v2.f32", ("f8", 2): ".v2.f64"}
MOVED |= {(half, 8): ".v4.u32" for half in ("f2", "b2")}
MOVED |= {(half, 4): ".v2.u32" for half in ("f2", "b2")}
MOVED |= {("f2", 2): ".u32", ("b2", 2): ".u32", ("u1", 8): ".v2.u32", ("u1", 4): ".u32"}
MOVED[("u1", 2)] = ".u16"
PARAMETERS |= {"u1": ".u8", "u2": ".u16"}


@pytest.fixture(scope="module")
def training() -> list[Program]:
    """The programs of training, with blocks of the size that a GPU is given."""
    return training_steps.programs(FULL_BLOCK)


@pytest.fixture
def full_blocks() -> Iterator[None]:
    """Programs with blocks of the size that a GPU is given."""
    lockstep.use_blocks(FULL_BLOCK)
    yield
    lockstep.use_blocks(THREADS)


def test_what_training_launches(training: list[Program]) -> None:
    kinds = {one.kind for one in training}
    assert kinds >= {"map", "bias_activation", "backward", "cross_entropy", "update", "random"}
    assert kinds >= {"rows", "columns", "take", "softmax", "stage", "drawn"}
    assert len({one.key for one in training}) == len(training) > 150
    larger = {one.kind for one in training if one.threads != FULL_BLOCK}
    assert larger == {"cross_entropy"}
    assert f"\nTHREADS = {FULL_BLOCK}\n" in inspect.getsource(programs)
    # One for each activation that has a slope, and one for each update, and Adam's in a graph.
    assert (
        sum(one.kind == "bias_activation" for one in training) > len(training_steps.ACTIVATIONS) - 5
    )
    assert sum(one.kind == "update" and "f4*" in one.signature for one in training) == 12


@pytest.mark.untraced
@pytest.mark.parametrize("share", range(SHARES))
def test_every_kernel_compiles(share: int, training: list[Program], numba_cuda: None) -> None:
    """To PTX, and from it to machine code for each architecture."""
    for one in training[share::SHARES]:
        # Kept for the tests that run it.
        text = launch.kept(one, ARCHITECTURES[0]).read_bytes()
        check_ptx(one, text)
        hot = one.bits == 32 and one.kind != "random"
        for architecture in ARCHITECTURES:
            check_machine_code(one, text, architecture, hot)


def check_ptx(one: Program, text: bytes) -> None:
    """The parameters are those that the launcher gives, and the arithmetic is the formulas'."""
    ptx = text.decode()
    assert launch.entry(text)
    head = ptx[ptx.index(".entry") : ptx.index(")", ptx.index(".entry"))]
    found = re.findall(r"\.param (\.\w+)", head)
    expected = [".u64" if c.endswith("*") else PARAMETERS[c] for c in one.signature]
    assert found == expected, one
    assert f".maxntid {one.threads}" in ptx, one
    assert "tanh.approx" not in ptx
    assert "call" not in re.sub(r"//.*", "", ptx), one
    # Normal numbers are computed in float64, so that they are the CPU's to the bit.
    wide = one.bits == 64 or "f8*" in one.signature or "exact_multiply" in one.text
    assert wide or not re.search(r"\.f64", ptx), one
    if one.kind == "random":
        assert "fma." not in ptx, one
    if one.kind == "update" and "f4*" in one.signature:
        assert "ld.global.v4.f32" in ptx, one
        assert "st.global.v4.f32" in ptx, one
    for what, width, name in re.findall(r"(load|store)(\d)\((\w+),", one.text):
        code = one.signature[parameters_of(one).index(name)]
        assert f"{what[:2].replace('lo', 'ld')}.global{MOVED[code[:-1], int(width)]}" in ptx, one


def parameters_of(one: Program) -> list[str]:
    """The names of a kernel's parameters."""
    (names,) = re.findall(r"^def kernel\((.*)\):$", one.text, re.MULTILINE)
    return str(names).split(", ")


def check_machine_code(one: Program, ptx: bytes, architecture: tuple[int, int], hot: bool) -> None:
    """It links, and a hot kernel keeps all of its numbers in registers."""
    core = pytest.importorskip("cuda.core")
    major, minor = architecture
    linker = core.Linker(
        core.ObjectCode.from_ptx(ptx),
        options=core.LinkerOptions(arch=f"sm_{major}{minor}", ptxas_options=["-v"]),
    )
    assert linker.link("cubin").code
    if not hot:
        return
    log = linker.get_info_log()
    assert "0 bytes spill stores, 0 bytes spill loads" in log, (one, log)
    assert "0 bytes stack frame" in log, (one, log)
    registers = re.search(r"Used (\d+) registers", log)
    assert registers is not None
    # Five blocks of 256 threads fit on a multiprocessor of 64 Ki registers with 48.
    assert int(registers[1]) <= min(96, (1 << 16) // one.threads), (one, log)


@pytest.mark.parametrize("half", ["f2", "b2"])
def test_maps_of_mixed_floats_compile(half: str, numba_cuda: None) -> None:
    source = binding.source(binding.vjp(formulas.FORMULAS["tanh_dx"]))
    for operands, result in (((f"c.{half}", "c.f4"), f"c.{half}"), (("t.f4", f"e.{half}"), "c.f4")):
        one = elementwise.map_program(source, 32, operands, result, 1, 1, True)
        text = launch.compiled(one, ARCHITECTURES[0])
        assert b".f64" not in text
        check_machine_code(one, text, ARCHITECTURES[1], hot=True)


@pytest.mark.parametrize("half", ["f2", "b2"])
def test_wide_loads_of_halves(half: str, numba_cuda: None, full_blocks: None) -> None:
    """16 bytes at a time, or 8; masks beside them; and nothing spilled."""
    h, positive = f"c.{half}", binding.source(formulas.positive)
    less, where, relu = (binding.source(formulas.FORMULAS[x]) for x in ("less", "where", "relu"))
    slope = binding.source(binding.vjp(formulas.tanh_dx))
    made = (
        elementwise.map_program(less, 32, (h, h), "c.u1", 1, 8, True),
        elementwise.map_program(where, 32, ("c.u1", h, "s"), h, 1, 8, True),
        elementwise.map_program(positive, 32, ("c.f4",), h, 1, 4, True),
        elementwise.map_program(positive, 32, (h,), "c.f4", 1, 4, True),
        elementwise.bias_activation(relu, 32, half, False, True, 8, True),
        elementwise.bias_activation(relu, 32, half, True, True, 2, True),
        reductions.columns("sum", 32, half, "f4", 8, slope, 4),
    )
    for one in made:
        text = launch.compiled(one, ARCHITECTURES[0])
        check_ptx(one, text)
        for architecture in ARCHITECTURES:
            check_machine_code(one, text, architecture, hot=True)


def test_a_plain_kernel_has_arrays(numba_cuda: None) -> None:
    """Wide loads are for Numba's own arrays too, so that it can launch what it compiles."""
    from numba import cuda, types

    tanh = binding.source(formulas.FORMULAS["tanh"])
    for kind, code, width in ((types.float32, "f4", 4), (types.float16, "f2", 8)):
        one = elementwise.map_program(tanh, 32, (f"c.{code}",), f"c.{code}", 1, width, True)
        signature = types.void(kind[::1], kind[::1], types.int64)
        function = launch.plain(one).py_func
        text, _ = cuda.compile(function, signature, device=False, abi="numba", cc=(9, 0))
        assert f"ld.global{MOVED[code, width]}" in text


@pytest.mark.parametrize("half", ["f2", "b2"])
def test_a_loss_that_rounds_its_gradient_compiles(half: str, numba_cuda: None) -> None:
    options = {"classes": True, "smooth": False, "weighted": False, "noted": True}
    one = softmax.cross_entropy(32, "f4", 4, **options, rounded=half)
    text = launch.compiled(one, ARCHITECTURES[0])
    assert b".f64" not in text
    assert text.count(b"st.global.u16") == text.count(b"st.global.f32") - 1
    check_machine_code(one, text, ARCHITECTURES[1], hot=True)


def test_copies_of_rows_compile(numba_cuda: None) -> None:
    """Rows of words, rows that are rounded, and a cast, by one launch."""
    parts = [moves.Part("u8", "u8", rows=True), moves.Part("f4", "b2", rows=True)]
    one = moves.moves((*parts, moves.Part("f4", "b2", 4)))
    text = launch.compiled(one, ARCHITECTURES[0])
    assert b".f64" not in text
    for architecture in ARCHITECTURES:
        check_machine_code(one, text, architecture, hot=True)


def test_the_compiler_for_each_architecture(numba_cuda: None) -> None:
    one = reductions.columns("sum", 32, "f4", "f4", 8, None)
    for major, minor in ARCHITECTURES:
        assert f".target sm_{major}{minor}" in launch.compiled(one, (major, minor)).decode()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="need numba-cuda, which is not installed; run pip"):
        launch.compiled(reductions.rows("sum", 32, "f4", "f4", 32), (9, 0))


# The cache, with a compiler or without


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


PTX = b".version 9.0\n.visible .entry some_kernel(\n)\n{ ret; }\n"


def test_ptx_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compiled(program: Program, architecture: tuple[int, int]) -> bytes:
        asked.append(architecture)
        return PTX

    monkeypatch.setattr(launch, "compiled", compiled)
    one = reductions.rows("sum", 32, "f4", "f4", 32)
    other = reductions.rows("sum", 32, "f4", "f4", 16)
    first = launch.kept(one, (9, 0))
    assert first.read_bytes() == PTX
    assert launch.entry(PTX) == "some_kernel"
    assert first.parent == cache
    assert launch.kept(one, (9, 0)) == first
    assert asked == [(9, 0)]
    assert len({first, launch.kept(one, (8, 0)), launch.kept(other, (9, 0))}) == 3
    first.write_bytes(b"cut off")
    assert launch.kept(one, (9, 0)).read_bytes() == PTX
    monkeypatch.setattr(launch, "_versions", lambda: "another compiler")
    assert launch.kept(one, (9, 0)) != first
    assert not list(cache.glob("*.tmp"))


def test_ptx_of_another_compiler_serves_where_there_is_none(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(program: Program, architecture: tuple[int, int]) -> bytes:
        raise DeviceError("CUDA kernels need numba-cuda")

    monkeypatch.setattr(launch, "compiled", absent)
    one = reductions.rows("sum", 32, "f4", "f4", 32)
    with pytest.raises(DeviceError, match="need numba-cuda"):
        launch.kept(one, (9, 0))
    cache.mkdir()
    start, end = launch.place_of(one, (9, 0))
    made_elsewhere = cache / f"{start}_0123456789ab.ptx"
    assert end != "_0123456789ab"
    made_elsewhere.write_bytes(PTX)
    assert launch.kept(one, (9, 0)) == made_elsewhere
    with pytest.raises(DeviceError, match="need numba-cuda"):
        launch.kept(one, (8, 0))


def test_kernels_that_are_brought_along(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come first, whatever is in the cache, and whether there is a compiler or not."""
    one, cubin = reductions.rows("sum", 32, "f4", "f4", 32), b"\x7fELF and so on"
    monkeypatch.setattr(launch, "compiled", lambda program, architecture: PTX)
    assert launch.kept(one, (9, 0)).parent == cache
    monkeypatch.setenv(launch.FOLDER, str(tmp_path))
    start, _ = launch.place_of(one, (9, 0))
    (tmp_path / f"{start}_0123456789ab.ptx").write_bytes(b"cut off")
    assert launch.kept(one, (9, 0)).parent == cache
    for ending, text in ((".ptx", PTX), (".cubin", cubin)):
        brought = tmp_path / f"{start}_ba9876543210{ending}"
        brought.write_bytes(text)
        assert launch.elsewhere(one, (9, 0), ending) == brought
        assert launch.elsewhere(one, (8, 0), ending) is None
    assert launch.kept(one, (9, 0)).parent == tmp_path
    # Names that mean something else now make them another kernel's.
    monkeypatch.setattr(launch, "_names", lambda: "half = other")
    assert launch.kept(one, (9, 0)).parent == cache


def test_a_cache_that_cannot_be_written(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "compiled", lambda program, architecture: PTX)
    cache.write_text("a file where the folder should be")
    path = launch.kept(reductions.rows("sum", 32, "f4", "f4", 32), (9, 0))
    try:
        assert path.read_bytes() == PTX
        assert path.parent != cache
    finally:
        path.unlink()


def test_a_text_of_no_kernel_or_two() -> None:
    with pytest.raises(DeviceError, match="has 0 entries"):
        launch.entry(b".version 9.0")
    with pytest.raises(DeviceError, match="has 2 entries"):
        launch.entry(PTX + PTX)


# The launcher


class CUDADriverError(RuntimeError):
    """The driver refuses a module."""


class Module:
    """What CuPy loads from a file, noting what is done with it."""

    def __init__(self, path: str, calls: list[object]) -> None:
        self.path = path
        self.calls = calls

    def get_function(self, name: str) -> object:
        self.calls.append(name)
        return lambda *arguments: self.calls.append(arguments)


def test_a_launch(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "compiled", lambda program, architecture: PTX)
    calls: list[object] = []

    class Cupy:
        cuda = SimpleNamespace(driver=SimpleNamespace(CUDADriverError=CUDADriverError))

        def RawModule(self, path: str) -> Module:
            calls.append(Path(path).suffix)
            return Module(path, calls)

    launcher = launch.Launcher(Cupy(), (9, 0))
    one = reductions.rows("sum", 32, "f4", "f4", 32)
    launcher(one, 3, "x", "y", 2, 5.0, 1)
    launcher(one, 4, "x", "y", 2, 5, 1)
    assert calls[:2] == [".ptx", "some_kernel"]
    (blocks, threads, arguments), (more, _, _) = calls[2:]  # type: ignore[misc]
    assert (blocks, threads, more) == ((3,), (one.threads,), (4,))  # type: ignore[has-type]
    assert arguments == ("x", "y", 2, 5, 1)  # type: ignore[has-type]
    assert [type(a) for a in arguments[2:]] == [np.int64] * 3  # type: ignore[has-type]


def test_ptx_that_is_too_new_for_the_driver(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "compiled", lambda program, architecture: PTX)
    tried: list[str] = []

    class Cupy:
        cuda = SimpleNamespace(driver=SimpleNamespace(CUDADriverError=CUDADriverError))
        error = "CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX"

        def RawModule(self, path: str) -> Module:
            tried.append(Path(path).suffix)
            if path.endswith(".ptx"):
                raise CUDADriverError(self.error)
            return Module(path, [])

    core: Any = ModuleType("cuda.core")
    core.ObjectCode = SimpleNamespace(from_ptx=lambda text: text)
    core.LinkerOptions = lambda arch: arch
    linker = SimpleNamespace(link=lambda kind: SimpleNamespace(code=b"machine code"))
    core.Linker = lambda ptx, options: linker
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    one = reductions.rows("sum", 32, "f4", "f4", 32)
    cupy = Cupy()
    launch.Launcher(cupy, (9, 0)).load(one)
    assert tried == [".ptx", ".cubin"]
    assert launch.kept(one, (9, 0)).with_suffix(".cubin").read_bytes() == b"machine code"
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    launch.Launcher(cupy, (9, 0)).load(one)
    launch.kept(one, (9, 0)).with_suffix(".cubin").unlink()
    with pytest.raises(DeviceError, match="newer than the driver, and there is no linker"):
        launch.Launcher(cupy, (9, 0)).load(one)
    cupy.error = "CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(CUDADriverError, match="OUT_OF_MEMORY"):
        launch.Launcher(cupy, (9, 0)).load(one)
