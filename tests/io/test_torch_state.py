"""Weights to and from real PyTorch modules: names, layouts, and the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.errors import DataError
from gradnet.io import (
    from_torch_state,
    load_torch_state,
    save_tensors,
    save_torch_state,
    to_torch_state,
)

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

# Ours, and the torch.nn.Sequential that it is.
PAIRS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "MLP": (
        lambda: nn.MLP((3, 8, 5, 2), "tanh", dropout=0.1, output="softmax"),
        lambda t: t.Sequential(
            *(t.Linear(3, 8), t.Tanh(), t.Dropout(0.1)),
            *(t.Linear(8, 5), t.Tanh(), t.Dropout(0.1), t.Linear(5, 2)),
        ),
    ),
    "batch norm": (
        lambda: nn.MLP((3, 8, 2), "relu", norm="batch"),
        lambda t: t.Sequential(
            t.Linear(3, 8, bias=False), t.BatchNorm1d(8), t.ReLU(), t.Linear(8, 2)
        ),
    ),
    "layer norm and prelu": (
        lambda: nn.MLP((3, 8, 2), "prelu", norm="layer"),
        lambda t: t.Sequential(t.Linear(3, 8), t.LayerNorm(8), t.PReLU(8), t.Linear(8, 2)),
    ),
    "Sequential": (
        lambda: nn.Sequential(
            nn.Linear(3, 4, activation="gelu"),
            nn.BatchNorm1d(4, affine=False),
            nn.Sequential(nn.ELU(), nn.Linear(4, 2, bias=False)),
            nn.Sigmoid(),
        ),
        lambda t: t.Sequential(
            t.Linear(3, 4),
            t.GELU(),
            t.BatchNorm1d(4, affine=False),
            t.Sequential(t.ELU(), t.Linear(4, 2, bias=False)),
            t.Sigmoid(),
        ),
    ),
    "Linear": (lambda: nn.Linear(3, 2), lambda t: t.Linear(3, 2)),
}


@pytest.fixture
def torch() -> Any:
    library = pytest.importorskip("torch")
    library.manual_seed(0)
    return library


def twins(name: str, torch: Any) -> tuple[Any, Any]:
    """The two, with running statistics that are not those of the start."""
    ours, theirs = (make(*also) for make, also in zip(PAIRS[name], ((), (torch.nn,)), strict=True))
    for _ in range(3):
        theirs(torch.randn(16, 3))
        ours(gn.random.normal((16, 3)))
    return ours.eval(), theirs.eval()


def same(ours: Any, theirs: Any, torch: Any) -> None:
    with torch.no_grad():
        expected = theirs(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(ours(X).detach().numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_to_torch(name: str, torch: Any, backend: Any) -> None:
    ours, theirs = twins(name, torch)
    state = to_torch_state(ours)
    theirs.load_state_dict({key: torch.from_dlpack(x) for key, x in state.items()})
    same(ours, theirs, torch)
    assert list(state) == list(theirs.state_dict())


@pytest.mark.parametrize("name", PAIRS)
def test_from_torch(name: str, torch: Any, backend: Any) -> None:
    ours, theirs = twins(name, torch)
    parameters = list(ours.parameters())
    assert from_torch_state(ours, theirs.state_dict()) is ours
    same(ours, theirs, torch)
    assert all(p is q for p, q in zip(parameters, ours.parameters(), strict=True))
    assert all(p.requires_grad for p in ours.parameters())


@pytest.mark.parametrize("name", PAIRS)
def test_files_both_ways(name: str, torch: Any, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    files = pytest.importorskip("safetensors.torch")
    path = tmp_path / "torch.safetensors"
    ours, theirs = twins(name, torch)
    files.save_file(theirs.state_dict(), path)
    same(load_torch_state(ours, path), theirs, torch)
    ours, theirs = twins(name, torch)
    save_torch_state(ours, path)
    theirs.load_state_dict(files.load_file(path))
    same(ours, theirs, torch)


def test_names_with_a_prefix_or_other_numbers(torch: Any) -> None:
    ours, theirs = twins("MLP", torch)
    state = theirs.state_dict()
    prefixed = {f"module.net.{key}": x for key, x in state.items()}
    same(from_torch_state(ours, prefixed), theirs, torch)
    # As of a Sequential without the dropouts, in the order of a file: by text.
    fewer = {"0": "8", "3": "9", "6": "10"}
    renamed = {f"{fewer[key[0]]}{key[1:]}": state[key] for key in state}
    ours = twins("MLP", torch)[0]
    same(from_torch_state(ours, dict(sorted(renamed.items()))), theirs, torch)


def test_names_of_layers_that_torch_has_not() -> None:
    model = nn.MLP((4, 6, 6, 2), "relu", residual=True, embeddings=[(1, 5, 3)])
    state = to_torch_state(model)
    assert {key: x.shape for key, x in state.items()} == {
        "0.vectors.0.weight": (5, 3),
        "1.block.0.weight": (6, 6),
        "1.block.0.bias": (6,),
        "2.block.0.weight": (6, 6),
        "2.block.0.bias": (6,),
        "3.weight": (2, 6),
        "3.bias": (2,),
    }
    again = nn.MLP((4, 6, 6, 2), "relu", residual=True, embeddings=[(1, 5, 3)], seed=9)
    from_torch_state(again, state)
    x = np.abs(np.resize(X, (5, 4))) // 1
    np.testing.assert_array_equal(again(x).detach().numpy(), model(x).detach().numpy())
    projected = nn.Residual(nn.Linear(3, 2), nn.Linear(3, 2, bias=False))
    assert list(to_torch_state(projected)) == ["block.weight", "block.bias", "projection.weight"]


def test_values_are_copied_and_cast() -> None:
    model = nn.Linear(3, 2)
    state = to_torch_state(model)
    state["weight"].assign_(7.0)
    assert not np.any(model.weight.detach().numpy() == 7)
    assert state["weight"].numpy().flags.c_contiguous
    from_torch_state(model, {"weight": np.ones((2, 3)), "bias": [1, 2]})
    assert model.weight.dtype == gn.float32
    assert model.bias is not None
    assert model.bias.tolist() == [1.0, 2.0]


def test_what_does_not_fit(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    before = model.state_dict()["0.weight"].tolist()
    state = to_torch_state(model)
    with pytest.raises(
        DataError,
        match=r"0.weight has shape \(3, 4\), expected \(4, 3\); torch's Linear.weight is \(outputs",
    ):
        from_torch_state(model, {**state, "0.weight": gn.ones((3, 4))})
    wrong = {f"fc{key}": x for key, x in state.items()}
    with pytest.raises(DataError, match=r"expected 0.weight, .*2.bias; got fc0.weight, .*rename"):
        from_torch_state(model, wrong)
    del state["2.bias"]
    with pytest.raises(DataError, match=r"do not fit this Sequential"):
        from_torch_state(model, state)
    with pytest.raises(DataError, match="got none"):
        from_torch_state(model, {})
    assert model.state_dict()["0.weight"].tolist() == before

    class Scale(nn.Module):
        def __init__(self) -> None:
            self.scale = nn.Parameter(gn.ones((2,)))

    with pytest.raises(DataError, match="Scale has values, but PyTorch has no such layer"):
        to_torch_state(nn.Sequential(Scale()))
    pytest.importorskip("safetensors")
    save_tensors({"a": np.ones(2)}, tmp_path / "a.safetensors", {"b": 1})
    with pytest.raises(DataError, match=r"written by gradnet's save: read it with gradnet.load"):
        load_torch_state(model, tmp_path / "a.safetensors")
    save_torch_state(nn.Linear(1, 1), tmp_path / "l.safetensors")
    with pytest.raises(DataError, match=r"l\.safetensors: the names of the PyTorch state"):
        load_torch_state(model, tmp_path / "l.safetensors")
    with pytest.raises(FileNotFoundError):
        load_torch_state(model, tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["model.pt", "model.pth"])
def test_names_of_pickles_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"torch\.load would take .* safetensors\.torch\.load_file"):
        save_torch_state(nn.MLP((2, 1)), tmp_path / name)
    assert not list(tmp_path.iterdir())
