"""The fused MLP's texts: as they are compiled for the device, and what its host's side refuses."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.fused import SMALL, values
from gradnet.kernels import c_formulas, fused_mlp, nvrtc
from gradnet.kernels.fused_mlp import Kernels, Network
from gradnet.kernels.launch import Launcher

from gradnet import binding, formulas
from gradnet.errors import DeviceError

# Registers and shared memory of (width, kernel), upper bounds: two blocks of forward on a
# multiprocessor with 64 Ki registers, but for the widest; one of backward.
LIMITS = {
    (16, "forward"): (128, 113 * 1024),
    (16, "backward"): (128, 113 * 1024),
    (32, "forward"): (128, 113 * 1024),
    (32, "backward"): (128, 113 * 1024),
    (64, "forward"): (128, 113 * 1024),
    (64, "backward"): (168, 227 * 1024),
    (128, "forward"): (184, 227 * 1024),
    (128, "backward"): (232, 227 * 1024),
}


@pytest.mark.parametrize(
    ("width", "activation", "dtype", "architecture", "rows"),
    [(16, "tanh", "float16", (8, 0), 1), (32, "relu", "bfloat16", (8, 0), 1),
     (64, "gelu", "float16", (9, 0), fused_mlp.ONE_ROUND + 1),
     (128, "relu", "bfloat16", (9, 0), 1)],
)  # fmt: skip
def test_machine_code(
    width: int, activation: str, dtype: str, architecture: tuple[int, int], rows: int
) -> None:
    pytest.importorskip("cuda.core")
    kernels = Kernels.of(Network(5, width, 3, 2, activation, dtype), rows)
    try:
        code, log = nvrtc.machine_code(kernels.forward, architecture)
    except DeviceError as error:
        pytest.skip(str(error))
    assert code[:4] == b"\x7fELF"
    found = dict(
        re.findall(r"entry function 'fused_mlp_(\w+)'.*?Used (\d+) registers", log, re.DOTALL)
    )
    assert set(found) == {"forward", "backward", "reduce"}
    assert log.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 3, log
    for kind in ("forward", "backward"):
        registers, shared = LIMITS[width, kind]
        assert int(found[kind]) <= registers, (kind, found)
        assert getattr(kernels, kind).shared <= shared
    assert kernels.reduce.shared == 16 * kernels.reduce.threads


# The host's side


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 48}, "its width is 48, not one of 16, 32, 64, 128"),
        ({"depth": 9}, "it has 9 hidden layers, not 1 to 8"),
        ({"inputs": 0}, "it has 0 inputs and 3 outputs"),
        ({"dtype": "float32"}, "its products are in float32"),
        ({"activation": "add"}, "'add' is no activation"),
        ({"activation": "heaviside"}, "'heaviside' has no derivative"),
    ],
)
def test_networks_that_it_cannot_compute(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        Kernels(Network(5, 16, 3, 2)._replace(**change))


def test_arrays_that_do_not_fit() -> None:
    network = SMALL
    x, parameters, dy = values(network, 4)
    kernels = Kernels(network)
    launch: Any = None
    with pytest.raises(DeviceError, match=r"x has shape \(4, 4\)"):
        fused_mlp.forward(launch, kernels, x[:, :4], parameters, None, dy)
    with pytest.raises(DeviceError, match=r"x has .* dtype float64"):
        fused_mlp.forward(launch, kernels, x.astype(np.float64), parameters, None, dy)
    kept = np.zeros((2, 4, 16), np.uint16)
    with pytest.raises(DeviceError, match=r"kept has .* uint16 array of shape \(2, 1, 1, 32, 8\)"):
        fused_mlp.backward(launch, kernels, x, parameters, kept, dy, None, None, parameters)


def test_loading() -> None:
    done: list[Any] = []
    refusals: list[Exception] = []

    class Kernel:
        max_dynamic_shared_size_bytes = 0

        def __call__(self, *arguments: Any, shared_mem: int) -> None:
            done.append((arguments, shared_mem, self.max_dynamic_shared_size_bytes))
            if refusals:
                raise refusals.pop()

    def module(code: str, options: tuple[str, ...], backend: str, **more: Any) -> Any:
        done.append((code, options[0], backend, *more.items()))
        return SimpleNamespace(get_function=lambda name: done.append(name) or Kernel())

    cupy = SimpleNamespace(RawModule=module)
    launcher = Launcher(cupy, (9, 0))
    program = Kernels(SMALL).reduce
    launcher(program, 3, *"ab", 1, 2, 3, 4)
    launcher(program, 3, *"ab", 1, 2, 3, 4)
    call = (((3,), (256,), ("a", "b", 1, 2, 3, 4)), program.shared, program.shared)
    loaded = [(program.text, "-std=c++17", "nvrtc"), "fused_mlp_reduce"]
    assert done == [*loaded, call, call]
    done.clear()
    # Blocks that wait for one another are launched together or not at all.
    several = nvrtc.CudaProgram("one", "text", ("f4*",), 32, 1 << 16, (), 16)
    launcher(several, 16, "a")
    together = ("enable_cooperative_groups", True)
    assert done[0] == ("text", "-std=c++17", "nvrtc", together)
    assert done[2:] == [(((1, 16), (32,), ("a",)), 1 << 16, 1 << 16)]
    refusals.append(ValueError("no"))
    with pytest.raises(DeviceError, match="cannot run 16 blocks of a kernel at the same time: no"):
        launcher(several, 16, "a")


def test_every_activation_has_its_text() -> None:
    for row in formulas.ROWS:
        if row.activation and row.derivatives[0] is not None:
            written = fused_mlp.text(16, row.name, "float16")
            assert "float value(float x)" in written
            assert "float slope(float x)" in written


def test_formulas_in_c() -> None:
    written, name = c_formulas.define(formulas.FORMULAS["relu"])
    assert written.endswith(f"float {name}(float x) {{\n    return f_maximum(x, (0.0f));\n}}\n")
    assert "return (((a > b) | (a != a)) ? a : b);" in written

    def unknown(x: Any) -> Any:
        return x // 2

    with pytest.raises(binding.FormulaError, match="C\\+\\+ has no"):
        c_formulas.define(unknown)
