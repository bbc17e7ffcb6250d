"""fit on data sets that stream: objects whose iteration gives batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import Callback, Run, Trainer, fit
from gradnet.training.sources import InMemory, Rows


def mlp(outputs: int = 3, **options: Any) -> gn.nn.MLP:
    return gn.nn.MLP((5, 8, outputs), **{"output": "softmax", "seed": 3, **options})


class Stream:
    """Batches in another order in each epoch."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y, self.rows, self.asked = X, y, len(X), list[int]()

    def __len__(self) -> int:
        return -(-self.rows // 16)

    def __iter__(self) -> Iterator[Any]:
        return self.batches(0)

    def batches(self, epoch: int) -> Iterator[Any]:
        self.asked.append(epoch)
        order = np.random.default_rng(epoch).permutation(self.rows)
        for start in range(0, self.rows, 16):
            part = order[start : start + 16]
            yield self.X[part], self.y[part]


def test_a_data_set_that_streams(backend: Backend, classes: Any) -> None:
    stream = Stream(*classes)
    model = mlp()
    history = fit(
        model, stream, lr=0.02, epochs=5, validation=Stream(*classes), schedule="cosine",
        metrics=["accuracy"], progress=False,
    )  # fmt: skip
    assert stream.asked == [0, 0, 1, 2, 3, 4]  # the first time for a look at the data
    assert history["val_accuracy"][-1] > 0.6
    assert history["lr"][-1] == 0.0
    assert Trainer(model).evaluate(stream)["loss"] == pytest.approx(
        Trainer(model).evaluate(*classes)["loss"], rel=1e-5
    )


def test_a_list_of_batches_is_a_data_set(backend: Backend, classes: Any) -> None:
    X, y = classes
    weight = np.arange(90) % 2
    batches = [(X[i : i + 30], y[i : i + 30], weight[i : i + 30]) for i in range(0, 90, 30)]
    model, other = mlp(), mlp()
    history = fit(model, batches, epochs=2, progress=False)
    odd = [(part[w == 1], labels[w == 1]) for part, labels, w in batches]
    again = fit(other, odd, epochs=2, progress=False)
    np.testing.assert_allclose(history["loss"], again["loss"], rtol=1e-5)


def test_library_streams(tmp_path: Any, backend: Backend, classes: Any) -> None:
    np.savez(tmp_path / "set.npz", X=classes.X, y=classes.y)
    stream = gn.data.stream(tmp_path / "set.npz", 16, validation=0.3, task="classification")
    history = fit(mlp(), stream, validation=stream.validation, lr=0.02, epochs=4, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert "val_accuracy" in history


def test_a_run_sees_how_far_it_is_in_a_stream_without_length(classes: Any) -> None:
    class Endless:
        def __iter__(self) -> Iterator[Any]:
            return iter([(classes.X[:50], classes.y[:50]), (classes.X[50:], classes.y[50:])])

    lengths: list[int | None] = []

    class Look(Callback):
        def on_epoch_end(self, run: Run) -> None:
            lengths.append(run.steps_per_epoch)

    options: dict[str, Any] = {"callbacks": [Look()], "epochs": 2, "progress": False}
    fit(mlp(), Endless(), **options)
    assert lengths == [None, None]
    with pytest.raises(ValueError, match="the number of steps, which the data set does not tell"):
        fit(mlp(), Endless(), schedule="cosine", **options)
    per_epoch = fit(mlp(), Endless(), schedule={"name": "cosine", "per": "epoch"}, **options)
    assert per_epoch["lr"].tolist() == [1e-3, 5e-4]

    class Once(Endless):
        def batches(self, epoch: int) -> Iterator[Any]:
            return iter(self) if epoch == 0 else iter(())

    with pytest.raises(gn.errors.DataError, match="gave no batches in epoch 2"):
        fit(mlp(), Once(), **options)


@pytest.mark.parametrize("rows", [7, 4099, 40_000])
def test_orders_are_those_that_are_drawn_one_by_one(backend: Backend, rows: int) -> None:
    x = gn.zeros((rows, 1))
    source = InMemory(Rows(x, x, None), 3, True)
    plain, drawn = gn.random.Generator(5), gn.random.Generator(5)
    states = []
    for epoch in range(21):
        if epoch in (4, 13):  # as a run that is resumed, or looked into, goes back
            plain.set_state(states[epoch - 3]), drawn.set_state(states[epoch - 3])
        if epoch == 17:
            plain.uniform((3,)), drawn.uniform((3,))
        states.append(drawn.get_state())
        expected = plain.permutation(rows, backend=x.backend)
        (block, _), *_ = source.blocks(drawn, epoch, 0)
        found = block.indices.numpy()  # type: ignore[union-attr]
        np.testing.assert_array_equal(found, expected.numpy()[: len(found)])
        assert drawn.get_state() == plain.get_state()
