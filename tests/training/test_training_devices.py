"""Training on another device: a stand-in for one that counts what is read from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import backends, optim
from gradnet.numpy_backend import NumpyBackend
from gradnet.training import Trainer, fit


class StandIn(NumpyBackend):
    """NumPy under the name of a GPU. `reads` counts the transfers to the host."""

    name = "cuda"
    device = "cuda:0"

    def __init__(self) -> None:
        self.reads = 0

    def to_host(self, x: Any) -> Any:
        self.reads += 1
        return super().to_host(x)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    module = ModuleType("gradnet_stand_in")
    module.BACKEND = StandIn()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gradnet_stand_in", module)
    monkeypatch.setattr(backends, "_MODULES", {**backends._MODULES, "cuda": "gradnet_stand_in"})
    monkeypatch.setattr(backends, "_loaded", {})
    with backends.use("numpy"):
        yield module.BACKEND


def state(model: gn.nn.Module) -> dict[str, Any]:
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def test_model_optimizer_and_data_move_to_the_device(device: StandIn, classes: Any) -> None:
    X, y = classes
    model = gn.nn.MLP((5, 8, 3), dropout=0.2, norm="batch", output="softmax", seed=0)
    opt = optim.Adam(model.parameters(), lr=0.01)
    history = gn.fit(
        model, X, y, optimizer=opt, epochs=5, batch_size=16, validation=0.1, early_stopping=10,
        device="cuda", seed=0, progress=False,
    )  # fmt: skip
    assert {x.device for x in model.state_dict().values()} == {"cuda:0"}
    other = gn.nn.MLP((5, 8, 3), dropout=0.2, norm="batch", output="softmax", seed=0)
    again = fit(
        other, X, y, lr=0.01, epochs=5, batch_size=16, validation=0.1, early_stopping=10,
        device="cpu", progress=False,
    )  # fmt: skip
    assert next(other.parameters()).device == "cpu"
    for name, x in state(model).items():
        assert np.array_equal(x, state(other)[name]), name
    assert np.array_equal(history["val_loss"], again["val_loss"])
    assert Trainer(model).predict(X).device == "cuda:0"
    assert Trainer(model).evaluate(X, y) == pytest.approx(Trainer(other).evaluate(X, y))


@pytest.mark.parametrize("weighed", [False, True])
def test_no_step_reads_from_the_device(weighed: bool, device: StandIn, classes: Any) -> None:
    def reads(batch_size: int) -> int:
        model = gn.nn.MLP((5, 8, 3), dropout=0.2, norm="layer", output="softmax", seed=0)
        model.to("cuda")
        before = device.reads
        fit(
            model, *classes, epochs=4, batch_size=batch_size, clip_norm=1.0, l2=1e-3, max_norm=3.0,
            schedule="cosine", sample_weight=classes.y + 1 if weighed else None, progress=False,
        )  # fmt: skip
        return device.reads - before

    assert reads(1) == reads(30)


def test_a_checkpoint_goes_to_another_device(device: StandIn, classes: Any, tmp_path: Any) -> None:
    def make() -> gn.nn.MLP:
        return gn.nn.MLP((5, 8, 3), norm="batch", output="softmax", seed=0)

    options: dict[str, Any] = {"batch_size": 16, "validation": 0.2, "progress": False}
    fit(make(), *classes, epochs=2, checkpoint=tmp_path, device="cuda", **options)
    model, whole = make(), make()
    fit(model, *classes, epochs=4, resume=tmp_path, device="cpu", **options)
    fit(whole, *classes, epochs=4, **options)
    for name, x in state(model).items():
        assert np.array_equal(x, state(whole)[name]), name
