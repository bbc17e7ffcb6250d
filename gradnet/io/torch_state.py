"""Weights exchanged with PyTorch: names and layouts of the `state_dict` of a torch.nn.Sequential.

A torch Sequential counts activations and dropouts, which have no values, as layers. So MLP((3, 8,
2)) with ReLU is torch's Sequential(Linear(3, 8), ReLU(), Linear(8, 2)): "0.weight", "0.bias",
"2.weight", "2.bias". Its Linear.weight is (outputs, inputs), ours (inputs, outputs). Modules in a
TabularInput or Residual, which torch has no layers for, are named "0.vectors.1.weight",
"2.block.0.weight" and "2.projection.weight": those of a torch module with such attributes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from gradnet import dtypes, nn, ops
from gradnet.errors import DataError
from gradnet.io.tensors import load_tensors, write_tensors
from gradnet.nn.mlp import TabularInput
from gradnet.nn.normalization import _Norm
from gradnet.tensor import Tensor

M = TypeVar("M", bound=nn.Module)
_COUNTER = "num_batches_tracked"


class _Place(NamedTuple):
    """A tensor of the model, and torch's name for it; a weight of Linear is transposed there."""

    name: str
    tensor: Tensor
    transposed: bool = False


def to_torch_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's values as the state_dict of its torch.nn.Sequential, on the CPU.

        module.load_state_dict({k: torch.from_dlpack(v) for k, v in to_torch_state(model).items()})

    Batch norms count no batches here: their `num_batches_tracked` is 0. Raises DataError for a
    layer of values that torch does not have.
    """
    state: dict[str, Tensor] = {}
    for place in _places(model):
        value = place.tensor.detach().to("cpu")
        state[place.name] = ops.copy(value.T if place.transposed else value)
        head, _, last = place.name.rpartition(".")
        if last == "running_var":
            counter = ops.zeros((), dtype=dtypes.int64, device="cpu")
            state[f"{head}.{_COUNTER}".lstrip(".")] = counter
    return state


def from_torch_state(model: M, state: Mapping[str, Any]) -> M:
    """Write the values of a PyTorch state_dict into a model of the same layers, and return it.

    Values may be anything that `asarray` takes. The names may share a prefix ("net.0.weight"), and
    the numbers in them may leave out or count other layers than ours: then they are taken in their
    order. Raises DataError, and changes nothing, where names or shapes do not fit.
    """
    places = list(_places(model))
    given = {name: x for name, x in state.items() if name.rpartition(".")[2] != _COUNTER}
    names = _matched([place.name for place in places], list(given), type(model).__name__)
    values: list[Tensor] = []
    wrong = []
    for place in places:
        name = names[place.name]
        x = given[name]
        value = ops.asarray(x.detach() if hasattr(x, "detach") else x)
        shape = place.tensor.shape[::-1] if place.transposed else place.tensor.shape
        if value.shape != shape:
            wrong.append(f"{name} has shape {value.shape}, expected {shape}")
        values.append(value)
    if wrong:
        raise DataError(
            f"the PyTorch state does not fit this {type(model).__name__}: {'; '.join(wrong)}; "
            "torch's Linear.weight is (outputs, inputs)"
        )
    for place, value in zip(places, values, strict=True):
        place.tensor.assign_(value.T if place.transposed else value)
    return model


def save_torch_state(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write `to_torch_state(model)` to a safetensors file, which safetensors.torch loads.

    Raises DataError as that does, and for a name that PyTorch takes for a pickle;
    FileNotFoundError where the folder does not exist.
    """
    if os.fspath(path).endswith((".pt", ".pth")):
        raise DataError(
            f"torch.load would take {path} for a pickle; name it .safetensors, and read it with "
            "safetensors.torch.load_file"
        )
    write_tensors(to_torch_state(model), path, {"format": "pt"})


def load_torch_state(model: M, path: str | os.PathLike[str]) -> M:
    """`from_torch_state` of a safetensors file that PyTorch's tools wrote; returns the model.

    Raises FileNotFoundError for no file and DataError for what is no such file or does not fit.
    """
    state, metadata = load_tensors(path)
    if metadata:
        raise DataError(
            f"{path} was written by gradnet's save: read it with gradnet.load, or write it with "
            "gradnet.io.save_torch_state"
        )
    try:
        return from_torch_state(model, state)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


# Names


def _places(model: nn.Module) -> Iterator[_Place]:
    """Every tensor of the model under torch's name; shared ones under each of theirs."""
    if isinstance(model, nn.MLP):
        yield from _places(model.layers)
    elif isinstance(model, nn.Sequential):
        i = 0
        for layer in model:
            yield from _within(str(i), _places(layer))
            # An activation that is part of our Linear is a layer of its own there.
            i += 2 if isinstance(layer, nn.Linear) and layer.activation is not None else 1
    elif isinstance(model, nn.Residual):
        yield from _within("block", _places(model.block))
        if model.projection is not None:
            yield from _within("projection", _places(model.projection))
    elif isinstance(model, TabularInput):
        yield from _within("vectors", _places(model.vectors))
    else:
        yield from _own(model)


def _within(head: str, places: Iterator[_Place]) -> Iterator[_Place]:
    return (place._replace(name=f"{head}.{place.name}") for place in places)


def _own(layer: nn.Module) -> Iterator[_Place]:
    """The tensors of a layer that torch has as well. Raises DataError for another with values."""
    if isinstance(layer, nn.Linear):
        yield _Place("weight", layer.weight, transposed=True)
        if layer.bias is not None:
            yield _Place("bias", layer.bias)
    elif isinstance(layer, nn.Embedding):
        yield _Place("weight", layer.weight)
    elif isinstance(layer, nn.PReLU):
        yield _Place("weight", layer.alpha)
    elif isinstance(layer, _Norm):
        if layer.weight is not None and layer.bias is not None:
            yield _Place("weight", layer.weight)
            yield _Place("bias", layer.bias)
        if isinstance(layer, nn.BatchNorm1d):
            yield _Place("running_mean", layer.running_mean)
            yield _Place("running_var", layer.running_var)
    elif layer.state_dict():
        raise DataError(
            f"{type(layer).__name__} has values, but PyTorch has no such layer; exchange the "
            "layers around it one by one"
        )


def _matched(ours: list[str], theirs: list[str], model: str) -> dict[str, str]:
    """Their name for each of ours. Raises DataError where they are not the same layers."""
    for rename in (str, _without_prefix(theirs), None):
        if rename is None:
            found = _in_order(ours, theirs)
        else:
            found = {rename(name): name for name in theirs}
        if found is not None and set(found) == set(ours):
            return found
    raise DataError(
        f"the names of the PyTorch state do not fit this {model}: expected "
        f"{', '.join(ours) or 'none'}; got {', '.join(theirs) or 'none'}; rename them, or give a "
        "model of the same layers"
    )


def _without_prefix(names: list[str]) -> Callable[[str], str]:
    """A function that takes away what all names begin with before any number: "net."."""
    heads = [name.split(".")[:-1] for name in names]
    together = zip(*heads, strict=False)
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, together)
    words = itertools.takewhile(lambda part: not part.isdigit(), (parts[0] for parts in shared))
    length = sum(len(part) + 1 for part in words)
    return lambda name: name[length:]


def _in_order(ours: list[str], theirs: list[str]) -> dict[str, str] | None:
    """Our names to theirs by the order of their numbers, where they are alike but for those."""

    def sort_key(name: str) -> list[tuple[int, str]]:
        parts = name.split(".")[:-1]
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    rename = _without_prefix(theirs)
    if not all(re.search(r"(^|\.)\d+\.", rename(name)) for name in theirs):
        return None
    layers: list[dict[str, dict[str, str]]] = []
    for names, shown in ((ours, str), (theirs, rename)):
        grouped: dict[str, dict[str, str]] = {}
        for _, name in sorted((sort_key(shown(name)), name) for name in names):
            head, _, last = name.rpartition(".")
            grouped.setdefault(head, {})[last] = name
        layers.append(grouped)
    if len(layers[0]) != len(layers[1]):
        return None
    found = {}
    for own, other in zip(layers[0].values(), layers[1].values(), strict=True):
        if set(own) != set(other):
            return None
        found.update({own[last]: other[last] for last in own})
    return found
