"""Checks of values on the CUDA backend: no step waits for one, and each raises what NumPy does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.compare import F32, FLOATS, I64, NUMPY
from fakes.lockstep import use_blocks
from fakes.steps import ROWS, batch, cupy, replay_of, training
from gradnet.kernels import cuda_cluster
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_cluster_replay import Clustered
from gradnet.kernels.cuda_templates.flags import BLOCKS, blocks_of

import gradnet as gn
from gradnet import backends, nn
from gradnet.errors import DataError

WAITS = {"to host", "synchronize"}


def logits() -> gn.Tensor:
    return gn.asarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))


def ones() -> gn.Tensor:
    return gn.ones((3,))


def embedded(*codes: int) -> gn.Tensor:
    return nn.Embedding(6, 2)(gn.asarray([codes]))


BAD: dict[str, Callable[[], Any]] = {
    "class": lambda: nn.cross_entropy(logits(), [0, 4, 1]),
    "class below 0": lambda: nn.cross_entropy(logits(), [0, 1, -2]),
    "class as int32": lambda: nn.cross_entropy(logits(), gn.asarray([0, 9, 1], dtype=gn.int32)),
    "class of a row without weight": lambda: nn.cross_entropy(
        logits(), [0, 4, 1], sample_weight=[1.0, 0.0, 1.0]
    ),
    "sum of probabilities": lambda: nn.cross_entropy(logits(), logits() + 0.5),
    "probability below 0": lambda: nn.cross_entropy(
        logits(), [[0, 1, 0, 0], [2, -1, 0, 0], [1, 0, 0, 0]]
    ),
    "NaN probabilities": lambda: nn.cross_entropy(logits(), logits() * math.nan),
    "class weight": lambda: nn.cross_entropy(logits(), [0, 1, 2], class_weight=[1, -1, 1, 1]),
    "NaN weight": lambda: nn.mse(ones(), ones(), sample_weight=[1.0, math.nan, 1.0]),
    "infinite weight": lambda: nn.mse(ones(), ones(), sample_weight=[1.0, math.inf, 1.0]),
    "no weight": lambda: nn.mse(ones(), ones(), sample_weight=[0, 0, 0]),
    "no weight left": lambda: nn.cross_entropy(logits(), [0, 0, 0], class_weight=[0, 1, 1, 1]),
    "target of two classes": lambda: nn.binary_cross_entropy(ones(), [0.0, 1.0, 2.0]),
    "NaN target": lambda: nn.mse(logits(), logits() * [[1.0], [math.nan], [math.nan]]),
    "sign": lambda: nn.hinge(ones(), [1, -1, 5]),
    "three signs": lambda: nn.hinge(ones(), [1, -1, 0]),
    "class of a margin": lambda: nn.perceptron(logits(), [0, 1, 4]),
    "index arrays": lambda: logits()[gn.asarray([0, 1]), gn.asarray([-5, 2])],
    "code": lambda: embedded(1, 2, 6),
    "code below 0": lambda: embedded(-1, 2, 7),
}


@pytest.mark.parametrize("name", BAD)
def test_the_error_comes_when_values_are_read(name: str, backend: CudaBackend) -> None:
    with backends.use("numpy"), pytest.raises((DataError, IndexError)) as expected:
        BAD[name]()
    device = cupy(backend)
    device.done.clear()
    found = BAD[name]()
    assert not WAITS & set(device.done)
    assert "launch flag" in device.done
    with pytest.raises(expected.type) as caught:
        found.numpy()
    assert str(caught.value) == str(expected.value)
    assert "has waited only now" in caught.value.__notes__[0]
    # It is told once.
    assert np.isfinite(ones().numpy()).all()
    backend.synchronize()


def test_what_is_right_raises_nothing(backend: CudaBackend) -> None:
    weights = gn.asarray([0.5, 0.0, 2.0])
    for _ in range(2):
        losses = [
            nn.cross_entropy(logits(), [0, 3, 1], sample_weight=weights, class_weight=[1, 2, 1, 1]),
            nn.cross_entropy(logits(), np.full((3, 4), 0.25, np.float32)),
            nn.binary_cross_entropy(ones(), [0, 1, 1]),
            nn.hinge(ones(), [1, -1, 1]),
            nn.hinge(ones(), [1, 0, 1]),
            nn.mse(ones(), [math.inf, 0.0, 1.0]),
        ]
        embedded(0, 5)
        assert all(math.isfinite(x.item()) for x in losses[:-1])


PLACES = [(n, dtype) for n in (1, 33, 129) for dtype in (*FLOATS, I64, np.dtype(np.uint8))]


@pytest.mark.parametrize(("n", "dtype"), [*PLACES, (BLOCKS * 32 * 4 + 7, F32)], ids=str)
def test_the_place_and_the_value(n: int, dtype: Any, cuda: CudaBackend) -> None:
    def error(i: int, value: Any) -> DataError:
        return DataError(f"{i}: {value!r}")

    use_blocks(32)
    x = (np.arange(n) % 5).astype(dtype)
    wrong = {0, n // 2, n - 1}
    for i in wrong:
        here = x.copy()
        here[i] = 7
        for backwards in (False, True):
            cuda._device.launch.backwards = backwards  # type: ignore[attr-defined]
            cuda.flag(cuda.from_host(x, copy=True), 0, 4, error, ())
            cuda.flag(cuda.from_host(here, copy=True), 0, 4, error, ())
            # What comes later changes nothing.
            cuda.flag(cuda.from_host(x + dtype.type(9), copy=True), 0, 4, error, ())
            with pytest.raises(DataError) as expected:
                NUMPY.flag(here, 0, 4, error, ())
            with pytest.raises(DataError) as caught:
                cuda.synchronize()
            one_block = blocks_of(n) == 1
            assert str(caught.value) == str(expected.value) or not one_block
            assert one_block or str(caught.value).endswith(repr(dtype.type(7)))
    cuda.synchronize()


def test_views_are_checked_in_their_own_order(cuda: CudaBackend) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = cuda.permute(cuda.from_host(x, copy=True), (1, 0))
    cuda.flag(turned, 0, 2, lambda i, value: DataError(f"{i} {value}"), ())
    with pytest.raises(DataError, match=r"^1 3\.0"):
        cuda.synchronize()


# Captured


def wrong(x: gn.Tensor, y: gn.Tensor, row: int, value: int) -> tuple[gn.Tensor, gn.Tensor]:
    labels = y.numpy().copy()
    labels[row] = value
    return x, gn.asarray(labels)


@pytest.mark.parametrize("switch", [cuda_cluster.NEVER, cuda_cluster.AT_ONCE])
@pytest.mark.parametrize("value", [-3, 3, 2**31 - 1])
def test_a_captured_step_does_not_wait(
    switch: str, value: int, graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cuda_cluster.SWITCH, switch)
    _, _, step = training()
    captured = gn.capture(step)
    for i in range(3):
        captured(*batch(i)).item()
    assert isinstance(replay_of(captured), Clustered) == (switch == cuda_cluster.AT_ONCE)
    given = wrong(*batch(3), 5, value)
    cupy(graphs).done.clear()
    losses = [captured(*given), captured(*batch(4))]
    assert not WAITS & set(cupy(graphs).done)
    assert "launch flag" not in cupy(graphs).done  # the losses' kernel has made the check
    text = rf"cross_entropy has classes 0 to 2 for outputs of shape \({ROWS}, 3\), got class "
    with pytest.raises(DataError, match=f"^{text}{value} in row 5"):
        losses[1].item()
    captured(*batch(5))
    graphs.synchronize()


@pytest.mark.parametrize("switch", [cuda_cluster.NEVER, cuda_cluster.AT_ONCE])
def test_several_captured_steps_in_a_row(
    switch: str, graphs: CudaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cuda_cluster.SWITCH, switch)
    _, _, step = training()
    captured = gn.capture(step)
    captured(*batch(0))
    given = wrong(*batch(1, 9 * ROWS), 4 * ROWS + 2, 8)
    cupy(graphs).done.clear()
    losses = captured.each(*given, rows=ROWS)
    assert not WAITS & set(cupy(graphs).done)
    with pytest.raises(DataError, match="got class 8 in row 2"):
        losses.numpy()


def test_a_captured_check_of_its_own(graphs: CudaBackend) -> None:
    """A check that no other kernel makes is in the graph, whose flag lasts as long."""

    @gn.capture
    def loss(z: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        return nn.mse(z, y * 2.0)

    y = gn.asarray([1.0, math.nan, 2.0])
    loss(ones(), ones()).item()
    cupy(graphs).done.clear()
    found = loss(ones(), y), loss(ones(), ones())
    assert not {*WAITS, "launch flag"} & set(cupy(graphs).done)
    with pytest.raises(DataError, match="mse got NaN as the target of row 1"):
        found[1].item()
    assert loss(ones(), ones()).item() == 1.0


def test_training_tells_of_codes_at_the_end_of_an_epoch(backend: CudaBackend) -> None:
    model = nn.Sequential(nn.Embedding(6, 2), nn.Flatten(), nn.Linear(4, 2))
    x = np.array([[0, 1], [5, 2], [3, 6], [4, 0]])
    with pytest.raises(IndexError, match="Embedding has codes 0 to 5, got 6 at position 5"):
        gn.fit(
            model, x, [0, 1, 0, 1], loss="cross_entropy", epochs=2, batch_size=None, shuffle=False,
            progress=False, capture=False, validation=None,
        )  # fmt: skip
