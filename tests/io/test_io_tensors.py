"""save_tensors and load_tensors: dtypes, shapes, metadata, and files that are none."""

from __future__ import annotations

import json
import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import DataError, DTypeError
from gradnet.io import load_tensors, save_tensors

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_to_the_bit(dtype: str, tmp_path: Path, backend: Any) -> None:
    path = tmp_path / "x.safetensors"
    values = gn.asarray([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    save_tensors({"a.b": values, "turned": values.T}, path)
    tensors, metadata = load_tensors(path)
    assert metadata == {}
    assert tensors["a.b"].dtype.name == dtype
    assert tensors["a.b"].backend is backend
    np.testing.assert_array_equal(tensors["a.b"].numpy(), values.numpy())
    np.testing.assert_array_equal(tensors["turned"].numpy(), values.numpy().T)
    tensors["a.b"].assign_(0)
    assert not tensors["a.b"].numpy().any()


def test_bfloat16_is_read_where_nothing_else_has_loaded_it(tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "x.safetensors"
    save_tensors({"x": gn.asarray([1.5], dtype="bfloat16")}, path)
    code = (
        "import sys; from gradnet.io import load_tensors; assert 'ml_dtypes' not in sys.modules;"
        f"print(load_tensors({str(path)!r}, 'cpu')[0]['x'].tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[1.5]"


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1)])
def test_odd_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors({"x": gn.ones(shape), "y": np.ones(shape)}, path)
    tensors, _ = load_tensors(path, "cpu")
    assert tensors["x"].shape == shape
    assert tensors["y"].dtype == gn.float64


def test_parameters_and_special_values(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    x = gn.nn.Parameter([np.nan, np.inf, -0.0, 1e-45])
    save_tensors({"x": x}, path)
    assert load_tensors(path)[0]["x"].numpy().tobytes() == x.detach().numpy().tobytes()


def test_metadata_of_all_that_json_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    metadata = {
        "epoch": 3,
        "loss": np.float32(0.5),
        "curve": np.array([1.0, 2.0]),
        "names": ("a", "ü"),
        "nested": {"none": None, "yes": True, "count": np.int64(4)},
    }
    save_tensors({}, path, metadata)
    tensors, found = load_tensors(path)
    assert tensors == {}
    assert found == {
        "epoch": 3,
        "loss": 0.5,
        "curve": [1.0, 2.0],
        "names": ["a", "ü"],
        "nested": {"none": None, "yes": True, "count": 4},
    }


def test_a_file_of_another_program_has_no_metadata(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "x.safetensors"
    save_file({"x": np.ones(2, np.float32)}, path, metadata={"format": "pt"})
    tensors, metadata = load_tensors(path)
    assert tensors["x"].tolist() == [1, 1]
    assert metadata == {}


def test_another_program_reads_the_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path = tmp_path / "x.safetensors"
    save_tensors({"x": gn.asarray([1.0, 2.0])}, path)
    assert load_file(path)["x"].tolist() == [1, 2]


def _with_header(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def whole() -> bytes:
    return _with_header(
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"\0\0\x80?\0\0\0@"
    )


def described(**metadata: str) -> bytes:
    return _with_header({"__metadata__": metadata})


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (b"", ["no whole safetensors file"]),
        (b"short", ["no whole safetensors file"]),
        (whole()[:-1], ["no whole safetensors file", "cut short"]),
        (whole()[:20], ["no whole safetensors file"]),
        (whole() + b"more", ["no whole safetensors file"]),
        (b"a,b\n1,2\n3,4\n", ["no safetensors file"]),
        (pickle.dumps({"weight": [1.0]}), ["no safetensors file", "pickle", "reads none"]),
        (b"PK\x03\x04" + b"\0" * 40, ["no safetensors file", "zip archive", "torch.save"]),
        (b"\x93NUMPY\x01\x00" + b"\0" * 40, ["no safetensors file", "NumPy array"]),
        (_with_header({"x": {"dtype": "F32", "shape": [3]}}), ["no whole safetensors file"]),
        (
            _with_header({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"\0" * 8),
            ["no whole safetensors file"],
        ),
        (
            _with_header(
                {"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"\0\0"
            ),
            ["'x'", "F8_E4M3"],
        ),
        (
            described(format="gradnet", format_version="2", gradnet_version="9.9", metadata="{}"),
            ["format version 2", "9.9", "reads version 1", "upgrade"],
        ),
        (described(format="gradnet", format_version="1"), ["metadata", "read"]),
        (described(format="gradnet", format_version="1", metadata="{"), ["metadata", "read"]),
        (described(format="gradnet", format_version="1", metadata="[1]"), ["a list, not a dict"]),
    ],
)
def test_files_that_are_not_whole_or_not_ours(
    content: bytes, pieces: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_tensors(path)
    for piece in [str(path), *pieces]:
        assert piece in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "absent.safetensors")
    with pytest.raises(DataError, match="is a folder"):
        load_tensors(tmp_path)


@pytest.mark.parametrize(
    ("metadata", "piece"),
    [
        ({"a": {"b": [1, object()]}}, "metadata['a']['b'][1] is a object"),
        ({"a": {1: 2}}, "metadata['a'] has the key 1"),
        ({"a": 1j}, "metadata['a'] is a complex"),
    ],
)
def test_metadata_that_json_cannot_hold(metadata: Any, piece: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(DataError) as caught:
        save_tensors({}, path, metadata)
    assert piece in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_complex_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match="'z' has dtype complex64"):
        save_tensors({"z": gn.asarray([1j])}, tmp_path / "x.safetensors")


def test_the_remedy_is_told_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match="pip install safetensors"):
        save_tensors({}, tmp_path / "x.safetensors")
