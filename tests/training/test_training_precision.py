"""Training in every precision: as good as in float32, captured or not, saved and resumed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strict_backend import StrictBackend

import gradnet as gn
from gradnet import backends, nn, ops, optim
from gradnet.backends import Backend
from gradnet.training import Callback, NotFinite, Trainer, build, fit

NAMES = ("float32", "tf32", "bfloat16", "float16", "float64")
NARROW = ("tf32", "bfloat16", "float16")


def digits() -> tuple[Any, Any]:
    """Ten patterns of 6 by 6 pixels, noisy: 240 rows."""
    rng = np.random.default_rng(8)
    y = np.arange(240) % 10
    X = rng.uniform(size=(10, 36))[y] + rng.normal(size=(240, 36)) * 0.35
    return X.astype(np.float32), y


X, Y = digits()


def trained(precision: str | None, model: Any = None, **options: Any) -> tuple[Any, Any]:
    if model is None:
        model = nn.MLP((36, 24, 10), output="softmax", seed=1)
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 24, "lr": 1e-2, "seed": 2}
    options = {**settings, "progress": False, "capture": False, **options}
    return model, fit(model, X, Y, precision=precision, **options)


def values(model: Any) -> Any:
    return {name: x.numpy().copy() for name, x in model.state_dict().items()}


def same(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


def scales(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Have fit begin with another loss scale."""
    monkeypatch.setattr(build, "LossScale", partial(optim.LossScale, **options))


@pytest.mark.parametrize("norm", [None, "batch"])
def test_each_trains_as_float32_does(backend: Backend, norm: str | None) -> None:
    found = {}
    for name in NAMES:
        model = nn.MLP((36, 24, 10), output="softmax", norm=norm, seed=1)
        model, history = trained(name, model, epochs=4, validation=(X[:80], Y[:80]))
        found[name] = history
        weights = "float64" if name == "float64" else "float32"
        assert {p.dtype.name for p in model.parameters()} == {weights}
        assert model.product_precision == (name if name in NARROW else None)
        assert ("loss_scale" in history) == (name == "float16")
    plain = found["float32"]
    assert plain["loss"][-1] < 0.4 * plain["loss"][0]
    for name in NAMES:
        tolerance = 3e-2 if name == "bfloat16" else 5e-3
        np.testing.assert_allclose(found[name]["loss"], plain["loss"], rtol=tolerance)
        assert abs(found[name]["val_accuracy"][-1] - plain["val_accuracy"][-1]) <= 0.03
        if name in NARROW:
            assert not np.array_equal(found[name]["loss"], plain["loss"])
    assert set(found["float16"]["loss_scale"]) == {2.0**16}


@pytest.mark.parametrize("name", ["float32", *NARROW])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5, "schedule": "cosine", "l2": 1e-3}])
def test_captured_runs_are_the_same_to_the_bit(
    backend: Backend, name: str, options: dict[str, Any]
) -> None:
    plain, first = trained(name, epochs=2, **options)
    other, second = trained(name, epochs=2, capture=True, **options)
    assert second.captured > 0
    assert not second.notes
    same(values(plain), values(other))
    np.testing.assert_array_equal(first["loss"], second["loss"])


@pytest.mark.parametrize("capture", [False, True])
def test_overflow_skips_and_halves(
    backend: Backend, capture: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales(monkeypatch, initial=2.0**30)
    model = nn.MLP((36, 24, 10), output="softmax", seed=1)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    options = {"optimizer": optimizer, "lr": None, "epochs": 3, "capture": capture}
    model, history = trained("float16", model, **options)
    # Of the first steps some are skipped, until the gradients fit.
    skipped = 30 - int(math.log2(history["loss_scale"][0]))
    assert 3 <= skipped < 15
    assert history["loss_scale"][-1] == history["loss_scale"][0]
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert optimizer.state_dict()["groups"][0]["progress"] == [[3 * 10 - skipped]] * 4
    scales(monkeypatch, initial=history["loss_scale"][0])
    assert trained("float16", epochs=1)[1]["loss_scale"][0] == history["loss_scale"][0]


def test_a_scale_that_grows_shows_in_the_history(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales(monkeypatch, initial=1024.0, interval=10)
    assert trained("float16", epochs=3)[1]["loss_scale"].tolist() == [2048, 4096, 8192]


class StopAt(Callback):
    """Ends the run as a crash would, after so many epochs."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, run: Any) -> None:
        if run.epoch == self.epoch:
            raise ZeroDivisionError


@pytest.mark.parametrize(
    ("name", "optimizer"), [("bfloat16", "adam"), ("float16", "adam"), ("float16", "nadam")]
)
def test_resumed_to_the_bit(
    name: str,
    optimizer: str,
    backend: Backend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scales(monkeypatch, initial=2.0**26, interval=9)
    whole, history = trained(name, epochs=4, optimizer=optimizer)
    stops = {"callbacks": [StopAt(2)], "checkpoint": tmp_path / "run.safetensors"}
    with pytest.raises(ZeroDivisionError):
        # The checkpoint's turn comes after the callbacks': it has the first epoch.
        trained(name, epochs=4, optimizer=optimizer, **stops)
    model = nn.MLP((36, 24, 10), output="softmax", seed=9)
    model, rest = trained(
        name, model, epochs=4, optimizer=optimizer, resume=tmp_path / "run.safetensors"
    )
    same(values(whole), values(model))
    for column in ("loss", "lr", *(("loss_scale",) if name == "float16" else ())):
        np.testing.assert_array_equal(history[column], rest[column])
    other = nn.MLP((36, 24, 10), output="softmax", seed=9)
    with pytest.raises(ValueError, match=f"precision='{name}', this one has 'float32'"):
        trained("float32", other, epochs=4, resume=tmp_path / "run.safetensors")


@pytest.mark.parametrize("name", NARROW)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    model, _ = trained(name, epochs=1)
    assert model.config()["precision"] == name
    path = tmp_path / "m.safetensors"
    model.save(path)
    tensors, _ = gn.io.load_tensors(path)
    assert {x.dtype for x in tensors.values()} == {gn.float32}
    again = gn.load(path)
    assert again.product_precision == name
    first, second = (Trainer(m, progress=False).predict(X).numpy() for m in (model, again))
    np.testing.assert_array_equal(first, second)
    again.product_precision = None
    assert not np.array_equal(first, Trainer(again, progress=False).predict(X).numpy())


def test_other_models_keep_their_precision_too(tmp_path: Path) -> None:
    layers = nn.Linear(36, 8, activation="relu"), nn.Linear(8, 10)
    model = nn.Sequential(*layers)
    trained("bfloat16", model, epochs=1, loss="cross_entropy")
    model.save(tmp_path / "m.safetensors")
    assert gn.load(tmp_path / "m.safetensors").product_precision == "bfloat16"
    # None is the model's own; float32 ends it.
    trained(None, model, epochs=1, loss="cross_entropy")
    assert model.product_precision == "bfloat16"
    trained("float32", model, epochs=1, loss="cross_entropy")
    assert model.product_precision is None


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_made_in_a_precision(name: str) -> None:
    model = nn.MLP((4, 8, 3), precision=name, seed=0)
    assert {p.dtype.name for p in model.parameters()} == {
        "float64" if name == "float64" else "float32"
    }
    assert model.product_precision == (name if name in NARROW else None)
    rebuilt = nn.from_config(model.config())
    assert rebuilt.product_precision == model.product_precision


def test_weights_of_16_bits_become_float32() -> None:
    model = nn.MLP((36, 24, 10), output="softmax", seed=1).to("float16")
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    model, history = trained("float16", model, optimizer=optimizer, lr=None, epochs=1)
    assert {p.dtype for p in model.parameters()} == {gn.float32}
    assert math.isfinite(history["loss"][-1])


@pytest.mark.parametrize("capture", [False, True])
def test_gradients_that_no_scale_makes_finite(backend: Backend, capture: bool) -> None:
    def loss(z: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
        return nn.cross_entropy(z, y, check=False) + ops.sqrt(ops.sum(z * 0.0))

    before = values(nn.MLP((36, 24, 10), output="softmax", seed=1))
    model = nn.MLP((36, 24, 10), output="softmax", seed=1)
    with pytest.raises(NotFinite, match=r"NaN arose first in the gradient of 'layers\.1"):
        trained("float16", model, loss=loss, epochs=4, capture=capture)
    same(values(model), before)


@pytest.fixture
def strict() -> Iterator[StrictBackend]:
    chosen = StrictBackend()
    with backends.use(chosen):
        yield chosen


@pytest.mark.parametrize("name", NARROW)
def test_without_float64(name: str, strict: StrictBackend) -> None:
    model, history = trained(
        name, epochs=1, clip_norm=1.0, optimizer="nadam", schedule="cosine", validation=0.2
    )
    assert math.isfinite(history.row(-1)["val_loss"])
    assert Trainer(model, progress=False).predict(X).shape == (240, 10)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.MLP((3, 2), precision="half way"), ValueError, "precision must be one of"),
    (
        lambda: nn.MLP((3, 2), precision="bfloat16", dtype="float64"),
        ValueError,
        "MLP in precision 'bfloat16' has float32 weights, got dtype float64",
    ),
    (
        lambda: trained("float16", optimizer="lbfgs", batch_size=None, lr=None),
        ValueError,
        "LBFGS looks at its gradients by itself.*bfloat16",
    ),
    (
        lambda: nn.MLP((3, 2), precision="tf32").to("float64")(gn.ones((1, 3), dtype=gn.float64)),
        gn.errors.DTypeError,
        "linear got float64 under precision 'tf32', which is for float32",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), BAD)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_searches_work_in_bfloat16(backend: Backend) -> None:
    _, history = trained("bfloat16", optimizer="lbfgs", batch_size=None, lr=None, epochs=3)
    assert history["loss"][-1] < history["loss"][0]
