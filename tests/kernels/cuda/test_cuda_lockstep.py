"""What the tests of CUDA kernels stand on: faults that the step-by-step runner must see."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from fakes import lockstep
from fakes.lockstep import Divergence
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_templates import reductions
from gradnet.kernels.cuda_templates.program import Program

from gradnet.backends import Backend

X = np.arange(96, dtype=np.float32).reshape(2, 48)
BARRIER = "cuda.syncthreads()"


def reduced(text: str, backwards: bool) -> bytes:
    made = reductions.rows("sum", 32, "f4", "f4", 8)
    y = np.zeros(2, np.float32)
    changed = Program("rows", text, made.signature, 32, 16)
    lockstep.run(changed, 1, (X, y, 2, 48, 1), backwards=backwards)
    return y.tobytes()


def test_the_kernel_as_it_is() -> None:
    text = reductions.rows("sum", 32, "f4", "f4", 8).text.replace("* 4\n", "* 2\n")
    for backwards in (False, True):
        assert reduced(text, backwards) == X.sum(1).tobytes()


@pytest.mark.parametrize("number", range(3))
def test_a_missing_barrier_is_seen(number: int) -> None:
    text = reductions.rows("sum", 32, "f4", "f4", 8).text.replace("* 4\n", "* 2\n")
    parts = text.split(BARRIER)
    assert len(parts) == 4
    without = BARRIER.join(parts[: number + 1]) + "pass" + BARRIER.join(parts[number + 1 :])
    right = X.sum(1).tobytes()
    if number < 2:
        assert {reduced(without, False), reduced(without, True)} != {right}
    else:
        # The last one keeps a block's next rows from those before; here there are none.
        assert reduced(without, False) == right


def run(body: str, *arguments: object, signature: tuple[str, ...] = ("f4*",)) -> None:
    text = "def kernel(x):\n    t = cuda.threadIdx.x\n    " + body
    lockstep.run(Program("wrong", text, signature, 32, 4), 1, arguments, backwards=False)


def test_threads_that_part_at_a_barrier() -> None:
    with pytest.raises(Divergence, match="others wait at a barrier"):
        run(f"if t > 1:\n        {BARRIER}", np.zeros(4, np.float32))


def test_addresses_are_checked() -> None:
    x = np.zeros(8, np.float32)[2:]
    run("x[t] = T(1)", x)
    assert x.tolist() == [1, 1, 1, 1, 0, 0]
    for body in ("x[t + 4] = T(1)", "x[t - 3] = T(1)", "t = x[t + 3]"):
        with pytest.raises(IndexError, match=r"a kernel (reads|writes) element"):
            run(body, x)
    with pytest.raises(ValueError, match="not aligned"):
        run("load4(x, 0)", x)
    with pytest.raises(TypeError, match="got an array of uint8"):
        run("x[t] = T(1)", np.zeros(8, np.uint8))


def test_shared_memory_begins_poisoned() -> None:
    x = np.zeros(4, np.float32)
    run("shared = cuda.shared.array(4, T)\n    x[t] = shared[t]", x)
    assert np.isnan(x).all()


def test_the_backend_has_the_methods_of_the_protocol(cuda: CudaBackend) -> None:
    methods = {name: value for name, value in vars(Backend).items() if not name.startswith("_")}
    assert isinstance(cuda, Backend)
    # Beside those of the protocol: what captured programs call, and where products come from.
    own = {"product_epilogue", "multiply_by", "cublaslt"}
    assert {name for name in dir(cuda) if not name.startswith("_")} - own == set(methods)
    for name, declared in methods.items():
        if not isinstance(declared, property):
            found = inspect.signature(getattr(CudaBackend, name))
            assert found == inspect.signature(declared), name
