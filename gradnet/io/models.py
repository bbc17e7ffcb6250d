"""Whole models in one safetensors file: layout as JSON, values as tensors, nothing executable."""

from __future__ import annotations

import os
from typing import Any

from gradnet import dtypes
from gradnet.errors import DataError
from gradnet.io.tensors import load_tensors, save_tensors
from gradnet.nn import Module, Parameter, from_config
from gradnet.nn.init import blank
from gradnet.tensor import Tensor


def save(model: Module, path: str | os.PathLike[str], extra: dict[str, Any] | None = None) -> None:
    """Write a model's layout, parameters and buffers, and JSON-able `extra`, to a file.

    The file is replaced in one step: a crash leaves the old one whole. `extra`, by default what the
    model was loaded with, holds what has to travel along, such as the preprocessing of its data.
    Raises TypeError for a module without `config()`, DataError for an `extra` that JSON cannot
    hold, FileNotFoundError where the folder does not exist.
    """
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, owner, attribute in model.places():
        tensor = getattr(owner, attribute)
        original = first.setdefault(id(tensor), name)
        if original == name:
            tensors[name] = tensor
        else:
            shared[name] = original
    config = model.config()
    if model.product_precision is not None:
        config["precision"] = model.product_precision
    metadata = {
        "model": config,
        "shared": shared,
        "extra": model.extra if extra is None else extra,
    }
    save_tensors(tensors, path, metadata)


def load(path: str | os.PathLike[str], device: str | None = None) -> Module:
    """The model of a file that `save` wrote, in evaluation mode; its `extra` is `model.extra`.

    Only module classes that are known here are built (`gradnet.nn.register` adds your own), so a
    file cannot run code. Raises FileNotFoundError, and DataError for what is no such file.
    """
    tensors, metadata = load_tensors(path, device)
    if not isinstance(metadata.get("model"), dict):
        raise DataError(
            f"{path} holds tensors but no model; read them with gradnet.io.load_tensors and give "
            "them to load_state_dict of a model of that layout"
        )
    shared = metadata.get("shared") or {}
    if not isinstance(shared, dict) or not isinstance(metadata.get("extra") or {}, dict):
        raise DataError(
            f"{path} is no model as gradnet writes it: 'shared' and 'extra' must be mappings"
        )
    try:
        with blank():
            model = from_config(metadata["model"])
        if device is not None:
            model.to(device)
        _share(model, shared)
        _take_dtypes(model, tensors)
        given = {name: tensors.get(shared.get(name, name)) for name in {**tensors, **shared}}
        model.load_state_dict({name: x for name, x in given.items() if x is not None})
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    model.extra = metadata.get("extra") or {}
    return model.eval()


def _share(model: Module, shared: dict[str, str]) -> None:
    """Make the tensor of each name the one of another name. Raises DataError for unknown names."""
    places = {name: (owner, attribute) for name, owner, attribute in model.places()}
    for name, original in shared.items():
        if name not in places or original not in places:
            raise DataError(f"{name} is to share {original}, but the model does not have both")
        owner, attribute = places[name]
        source, source_attribute = places[original]
        setattr(owner, attribute, getattr(source, source_attribute))


def _take_dtypes(model: Module, tensors: dict[str, Tensor]) -> None:
    """Give the parameters and buffers the dtypes that the file has.

    Raises DataError where floats are to be integers, or the other way round.
    """
    for name, owner, attribute in model.places():
        member, stored = getattr(owner, attribute), tensors.get(name)
        if stored is None or stored.dtype == member.dtype:
            continue
        if dtypes.kind(stored.dtype) != dtypes.kind(member.dtype):
            raise DataError(
                f"{name} is {stored.dtype.name} in the file, but the model's is "
                f"{member.dtype.name}: these are not its values"
            )
        if isinstance(member, Parameter):
            member.move_(stored.dtype)
        else:
            owner.register_buffer(attribute, member.to(stored.dtype))
