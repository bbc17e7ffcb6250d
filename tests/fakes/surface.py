"""CuPy's functions that the CUDA backend calls, with the parameters that CuPy 14 has for them.

Another name is not there on the device made of NumPy, and what NumPy takes besides is refused.
Where CuPy is installed, tests/kernels/cuda/test_cuda_surface.py compares this with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradnet.numpy_calls import UFUNCS

# The parameters, those that are given by place first; "out" and what follows only by name.
FUNCTIONS = {
    "all": "a axis out keepdims",
    "any": "a axis out keepdims",
    "arange": "start stop step dtype",
    "argmax": "a axis dtype out keepdims",
    "argmin": "a axis dtype out keepdims",
    "argsort": "a axis kind",
    "asarray": "a dtype order",
    "broadcast_to": "array shape",
    "convolve": "a v mode",
    "cumprod": "a axis dtype out",
    "cumsum": "a axis dtype out",
    "empty_like": "prototype dtype order",
    "flip": "a axis",
    "may_share_memory": "a b max_work",
    "amax": "a axis out keepdims",
    "amin": "a axis out keepdims",
    "nonzero": "a",
    "prod": "a axis dtype out keepdims",
    "searchsorted": "a v side sorter",
    "sort": "a axis kind",
    "sum": "a axis dtype out keepdims",
    "take_along_axis": "a indices axis",
    "where": "condition x y",
    "zeros": "shape dtype order",
    "zeros_like": "a dtype order",
    "linalg.cholesky": "a",
    "linalg.det": "a",
    "linalg.eig": "a",
    "linalg.eigh": "a UPLO",
    "linalg.eigvals": "a",
    "linalg.eigvalsh": "a UPLO",
    "linalg.inv": "a",
    "linalg.pinv": "a rcond",
    "linalg.qr": "a mode",
    "linalg.slogdet": "a",
    "linalg.solve": "a b",
    "linalg.svd": "a full_matrices compute_uv",
    **dict.fromkeys(
        ("fft.fft", "fft.ifft", "fft.rfft", "fft.irfft", "fft.hfft", "fft.ihfft"), "a n axis norm"
    ),
    **dict.fromkeys(("fft.fft2", "fft.ifft2", "fft.rfft2", "fft.irfft2"), "a s axes norm"),
    **dict.fromkeys(("fft.fftn", "fft.ifftn", "fft.rfftn", "fft.irfftn"), "a s axes norm"),
}
UNIVERSAL = {ufunc.__name__: ufunc.nin for ufunc in UFUNCS.values()}
UNIVERSAL |= {"matmul": 2, "floor_divide": 2, "true_divide": 2, "i0": 1}
# Those that know no complex numbers, of those that do in NumPy.
_REAL = {"logical_and", "logical_or", "logical_xor", "logical_not"}
_NUMBERS = (bool, int, float, complex)


def known(name: str) -> bool:
    """Whether the backend is known to call a function."""
    return name in FUNCTIONS or name in UNIVERSAL


def check(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise TypeError for what CuPy does not take."""
    if name in UNIVERSAL:
        most, names = UNIVERSAL[name], {"out", "casting", "dtype"}
    else:
        names = set(FUNCTIONS[name].split())
        most = len(names)
    if len(arguments) > most or not options.keys() <= names:
        raise TypeError(f"cupy.{name} takes no {len(arguments)} arguments and {sorted(options)}")
    for value in (*arguments, *options.values()):
        refuse_host(value)
        if name in _REAL and getattr(getattr(value, "dtype", None), "kind", "") == "c":
            raise TypeError(
                f"ufunc 'cupy_{name}' does not support the argument types: {value.dtype}"
            )


def refuse_host(value: Any) -> None:
    """Raise TypeError for an array of NumPy's, and for numbers of other types than Python's."""
    if isinstance(value, tuple | list):
        for item in value:
            refuse_host(item)
    elif isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    elif isinstance(value, _NUMBERS) and not (
        type(value) in _NUMBERS or isinstance(value, np.generic)
    ):
        raise TypeError(f"Unsupported type {type(value)}")
