"""Updates from gradients of a scaled loss: two launches, and the numbers of NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.compare import F32, F64, both, normal
from fakes.steps import REPLAY, batch, cupy, replay_of
from gradnet.kernels.cuda_backend import CudaBackend

import gradnet as gn
from gradnet import backends, formulas, nn, optim
from gradnet.formulas import add, multiply, where

NAMES = [n for n in optim.names() if n not in ("lbfgs", "conjugate_gradient")]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("n", [0, 1, 66, 1200])
@pytest.mark.parametrize("bad", [None, np.nan, -np.inf])
def test_gradients_are_looked_at(cuda: CudaBackend, dtype: Any, n: int, bad: Any) -> None:
    x, numbers = normal(n, dtype=dtype), np.array([4, 1, 2, 3, 4], dtype)
    if bad is not None:
        x[-1:] = bad

    def look(k: Any, t: Any) -> Any:
        fine, kept = k.finite(t(x), t(numbers))
        return k.reduce("all", fine, (0,), False, dtype=np.dtype(bool)), kept

    both(cuda, look, exact=True)


def test_a_gradient_may_be_finite_by_its_scale_alone(cuda: CudaBackend) -> None:
    x, numbers = np.full(5, 1e35, np.float32), np.array([2.0**-24], np.float32)
    both(cuda, lambda k, t: k.finite(t(x), t(numbers))[0], exact=True)
    assert not cuda.to_host(cuda.finite(*(cuda.from_host(v, copy=True) for v in (x, numbers)))[0])[
        0
    ]


def advance(fine, a, b, rate):  # type: ignore[no-untyped-def]
    """(a + 1 or a, b * rate, factor, and the scalars of sgd_momentum)"""
    return where(fine, add(a, 1), a), multiply(b, rate), rate, b, rate, a


@pytest.mark.parametrize("n", [0, 1, 77, 1300])
@pytest.mark.parametrize("fine", [[True], [True, False, True], [True] * 40])
def test_an_update_is_made_or_not(cuda: CudaBackend, n: int, fine: list[bool]) -> None:
    update = formulas.UPDATES["sgd_momentum"].formula
    given = [normal(n) for _ in range(3)]
    numbers = np.array([0.25, 0.5], np.float32)

    def make(k: Any, t: Any) -> Any:
        arrays = tuple(map(t, given))
        out = t(np.zeros(2, np.float32))
        found = k.scaled_update(
            update, advance, arrays, t(np.array(fine)), t(numbers), (0.125,), out=out
        )
        assert found is out
        return *arrays, out

    both(cuda, make)


def model_of(name: str, **options: Any) -> tuple[Any, Any, Any]:
    gn.random.seed(0)
    model = nn.MLP((5, 6, 3), output="softmax", seed=0, precision="float16")
    optimizer = optim.create(name, model.parameters(), lr=0.05)
    return model, optimizer, optim.LossScale(optimizer, initial=2.0**8, interval=3, **options)


def stepping(made: Any) -> Any:
    model, optimizer, scale = made

    def step(x: gn.Tensor, y: gn.Tensor, factor: gn.Tensor) -> gn.Tensor:
        loss = nn.cross_entropy(model(x), y)
        scale(loss * factor).backward()
        scale.step()
        optimizer.zero_grad()
        return loss

    return step


FACTORS = (1.0, 1.0, np.inf, 1.0, 1.0, 1.0, 1.0)


def run(made: Any, step: Any, clear: Any = lambda i: None) -> Any:
    losses = []
    for i, factor in enumerate(FACTORS):
        given = (*batch(i), gn.asarray(np.float32(factor)))
        clear(i)
        losses.append(step(*given))
    model, optimizer, scale = made
    scale.settle()
    progress = [group["progress"] for group in optimizer.state_dict()["groups"]]
    weights = [x.numpy() for x in model.parameters()]
    return [x.item() for x in losses], weights, progress, scale.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_numpy(name: str, backend: CudaBackend) -> None:
    made = model_of(name)
    found = run(made, stepping(made))
    with backends.use("numpy"):
        other = model_of(name)
        right = run(other, stepping(other))
    assert right[3]["skipped"] == found[3]["skipped"] == 1
    assert right[3]["scale"] == found[3]["scale"] == 2.0**8
    np.testing.assert_allclose(found[0], right[0], rtol=2e-3)
    np.testing.assert_allclose(found[2], right[2], rtol=1e-6)
    for a, b in zip(found[1], right[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-2, atol=5e-3)


def test_two_launches_and_no_wait(backend: CudaBackend) -> None:
    """What LossScale.step asks of the device, with and without gradients that are finite."""
    made = model_of("adam")
    step, device = stepping(made), cupy(backend)
    scale = made[2]
    plain = scale.step
    for factor in (1.0, 1.0, np.inf):
        seen: list[str] = []

        def counted(seen: list[str] = seen) -> None:
            before = len(device.done)
            plain()
            seen += device.done[before:]

        scale.step = counted
        step(*batch(0), gn.asarray(np.float32(factor)))
    assert seen == ["allocate", "allocate", "launch finite", "launch scaled_update"]


def test_a_captured_step_is_one_graph(graphs: CudaBackend) -> None:
    eager = model_of("adam")
    right = run(eager, stepping(eager))
    made = model_of("adam")
    captured = gn.capture(stepping(made))
    device = cupy(graphs)
    asked: list[list[str]] = []

    def clear(i: int) -> None:
        asked.append(list(device.done))
        device.done.clear()

    found = run(made, captured, clear)
    assert all([x for x in one if x != "from host"][:4] == REPLAY for one in asked[2:])
    assert not replay_of(captured).divided
    kinds = [w[0] for w in replay_of(captured)._frames[1].parts[0].work]
    assert [k for k in kinds if k in ("launch finite", "launch scaled_update")] == [
        "launch finite",
        "launch scaled_update",
    ]
    assert kinds[-2:] == ["launch finite", "launch scaled_update"]
    np.testing.assert_equal(found, right)
