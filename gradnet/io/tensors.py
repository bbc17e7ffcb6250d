"""Tensors in safetensors files: names, values and a JSON description, and no code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradnet import dtypes, ops
from gradnet.errors import DataError, DTypeError
from gradnet.io.files import replacing
from gradnet.tensor import Tensor

FORMAT_VERSION = 1

# The format's names of the dtypes that gradnet has too.
_DTYPES = {
    "BOOL": "bool",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    **{
        f"{kind[0].upper()}{bits}": f"{kind}{bits}"
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
}
# What users give by mistake, by its first bytes.
_OTHERS = {
    b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write",
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
    b"\x80": "a pickle, which can run code when it is read: gradnet reads none",
}


def _library() -> Any:
    """The safetensors package. Raises ImportError, with the remedy, where it is missing."""
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "model files need the safetensors package; install it with: pip install safetensors"
        ) from error
    return safetensors


def save_tensors(
    tensors: Mapping[str, Any],
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write tensors by name, and JSON-able metadata, to a safetensors file, in one atomic step.

    Raises DTypeError for a dtype that the format lacks, DataError for metadata that JSON cannot
    hold, FileNotFoundError where the folder does not exist, and OSError where the disk is full.
    """
    from gradnet import __version__

    described = {
        "format": "gradnet",
        "format_version": str(FORMAT_VERSION),
        "gradnet_version": __version__,
        "metadata": as_json(dict(metadata or {}), "metadata"),
    }
    write_tensors(tensors, path, described)


def write_tensors(
    tensors: Mapping[str, Any], path: str | os.PathLike[str], described: dict[str, str]
) -> None:
    """Write tensors by name, and the format's own metadata, in one atomic step."""
    library = _library()
    arrays = {name: _host(name, value) for name, value in tensors.items()}
    with replacing(path) as temporary:
        try:
            library.numpy.save_file(arrays, temporary, metadata=described)
        except library.SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error


def load_tensors(
    path: str | os.PathLike[str], device: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file by name, and the metadata that was saved with them.

    A file that gradnet did not write has the metadata {}. Raises FileNotFoundError for no file and
    DataError for one that is no safetensors file, incomplete, or of a newer format.
    """
    with _opened(path) as file:
        metadata = _metadata(path, file.metadata() or {})
        arrays = {}
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _DTYPES:
                raise DataError(
                    f"{path}: tensor {name!r} has dtype {dtype}, which gradnet does not have"
                )
            dtypes.canonical(_DTYPES[dtype])  # NumPy knows bfloat16 from here on
            arrays[name] = file.get_tensor(name)
    tensors = {name: ops.asarray(array, device=device) for name, array in arrays.items()}
    return tensors, metadata


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The file, opened; what the library finds wrong with it becomes a DataError."""
    library = _library()
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder; expected a safetensors file")
    with open(path, "rb") as raw:
        start = raw.read(9)
    # Eight bytes of length, then JSON.
    if len(start) == 9 and start[8:] != b"{":
        looks = next((what for magic, what in _OTHERS.items() if start.startswith(magic)), None)
        raise DataError(
            f"{path} is no safetensors file{'' if looks is None else f' but {looks}'}; expected "
            "one, as model.save and gradnet train write"
        )
    try:
        with library.safe_open(path, framework="np") as file:
            yield file
    except library.SafetensorError as error:
        raise DataError(
            f"{path} is no whole safetensors file, perhaps cut short: {error}"
        ) from error


def _host(name: str, value: Any) -> np.ndarray[Any, Any]:
    """A tensor or array as a contiguous NumPy array of a dtype that the format has."""
    array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.name not in _DTYPES.values():
        raise DTypeError(
            f"tensor {name!r} has dtype {array.dtype.name}, which safetensors files do not hold; "
            "save its real and imaginary parts, or another dtype"
        )
    return np.array(array, order="C", copy=None)


def _metadata(path: str | os.PathLike[str], described: dict[str, str]) -> dict[str, Any]:
    """The metadata that `save_tensors` wrote. Raises DataError for a version that is not known."""
    if described.get("format") != "gradnet":
        return {}
    version = described.get("format_version")
    if version != str(FORMAT_VERSION):
        raise DataError(
            f"{path} has format version {version}, written by gradnet "
            f"{described.get('gradnet_version')}; this gradnet reads version {FORMAT_VERSION}: "
            "upgrade gradnet"
        )
    try:
        metadata = json.loads(described["metadata"])
    except (KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path} has metadata that cannot be read: {error!r}") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{path} has metadata that is a {type(metadata).__name__}, not a dict")
    return metadata


def as_json(value: Any, where: str) -> str:
    """JSON of a value, NumPy's numbers among it. Raises DataError that says where it has none."""
    return json.dumps(_plain(value, where))


def _plain(value: Any, where: str) -> Any:
    """The value with plain numbers, lists and dicts in it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist(), where)
    if isinstance(value, Mapping):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            raise DataError(f"{where} has the key {odd!r}; JSON keys are text")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise DataError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; use numbers, text, lists "
        "and dicts"
    )
