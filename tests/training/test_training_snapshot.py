"""Snapshots of runs: in memory or in a file, they give back what they were made of."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.training import NotFinite, run, snapshot
from gradnet.training.snapshot import Snapshot


def position(backend: Backend) -> dict[str, Any]:
    with gn.backends.use(backend.name):
        return {
            "model": {"w": gn.arange(12.0).reshape(3, 4), "n": gn.asarray(7), "none": gn.ones(0)},
            "half": [gn.asarray([1.5, -2.0], dtype=gn.bfloat16), (1, "text", None)],
            "done": 3,
        }


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_a_position_is_given_back_as_it_was(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(snapshot, "_LARGE", large)
    given = position(backend)
    kept = Snapshot(given)
    assert kept.every == (256 if large == 0 else 32)
    given["model"]["w"].assign_(0.0)
    for _ in range(2):
        found = kept.position()
        assert found["model"]["w"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert found["model"]["w"].backend is backend
        assert (found["model"]["n"].item(), found["model"]["none"].shape) == (7, (0,))
        assert found["half"][0].dtype == gn.bfloat16
        assert found["half"][0].astype(gn.float32).tolist() == [1.5, -2.0]
        assert (found["half"][1], found["done"]) == ((1, "text", None), 3)
        found["model"]["n"].assign_(0)
        if large:
            break


def test_memory_is_used_where_there_is_no_room_for_a_file(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(snapshot, "_LARGE", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    kept = Snapshot(position(backend))
    assert kept.every == 32
    assert kept.position()["model"]["w"].sum().item() == 66


def test_a_large_copy_takes_no_memory() -> None:
    with gn.backends.use("numpy"):
        given = {"model": gn.ones((1 << 20,))}
        gc.collect()
        tracemalloc.start()
        kept = Snapshot(given)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert held < given["model"].nbytes // 4
    assert kept.position()["model"].sum().item() == 1 << 20


def test_what_broke_is_found_from_a_file_as_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(20, 2)
    found = []
    for large in (0, 1 << 30):
        monkeypatch.setattr(snapshot, "_LARGE", large)
        model = gn.nn.MLP((2, 4, 1), output="linear", dropout=0.3, seed=0)
        with pytest.raises(NotFinite, match="not finite in epoch") as raised:
            # The error of such targets is finite, and its gradient is not.
            gn.fit(model, x, x[:, :1] * 3e19, lr=1e9, epochs=200, batch_size=4, progress=False)
        found.append((raised.value.epoch, raised.value.batch, str(raised.value)))
    assert found[0] == found[1]


def test_snapshots_are_far_apart_as_measured_by_what_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, taken = np.ones((320, 2), np.float32), []
    kept = run.Snapshot

    def counted(position: Any) -> Snapshot:
        taken.append(position["completed"])
        return kept(position)

    monkeypatch.setattr(run, "Snapshot", counted)
    for rarely, epochs in ((0, [0, 1, 2, 3, 4, 5]), (10**9, [0])):
        monkeypatch.setattr(run, "_RARELY", rarely)
        taken.clear()
        model = gn.nn.MLP((2, 3, 1), output="linear", seed=0)
        gn.fit(model, x, x[:, :1], epochs=6, batch_size=10, capture=False, progress=False)
        assert taken == epochs


def test_moments_may_be_looked_at_without_a_copy(backend: Backend) -> None:
    with gn.backends.use(backend.name):
        w = gn.nn.Parameter(gn.ones(3))
        for kind in ("adam", "lbfgs"):
            optimizer = gn.optim.create(kind, [w], lr=0.1)

            def closure() -> gn.Tensor:
                loss = (w * w).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
            shared, copied = optimizer.live_state(), optimizer.state_dict()
            assert shared.keys() == copied.keys()
            for name in (n for n, m in shared.items() if isinstance(m, gn.Tensor)):
                before = copied[name].tolist()
                shared[name].assign_(-5.0)
                assert copied[name].tolist() == before
                assert set(optimizer.state_dict()[name].tolist()) == {-5.0}


class Counting(gn.optim.SGD):
    """An optimizer of a user's own, with state of its own beside that of every one."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state: Any) -> None:
        super().load_state_dict(state)
        self.steps = state["steps"]


def test_an_optimizer_that_overrides_its_state_trains_and_resumes(tmp_path: Any) -> None:
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(20, 2)
    steps = []
    for epochs, resume in ((2, None), (4, tmp_path)):
        model = gn.nn.MLP((2, 3, 1), output="linear", seed=0)
        optimizer = Counting(model.parameters(), lr=0.01, momentum=0.9)
        gn.fit(
            model,
            x,
            x[:, :1],
            optimizer=optimizer,
            epochs=epochs,
            batch_size=10,
            validation=None,
            capture=False,
            checkpoint=tmp_path,
            resume=resume,
            progress=False,
        )
        steps.append(optimizer.steps)
    assert steps == [4, 8]
