"""Spilling: tensors kept in a temporary file, so that they take no memory."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence

import numpy as np

from gradnet.backends import Array
from gradnet.tensor import Tensor


class Spill:
    """The values of tensors in a file without a name, which is gone with this object.

    Raises OSError where the folder for temporary files is missing or full.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._kinds = [(x.shape, x.dtype, x.backend) for x in tensors]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it stays open
        self._closing = weakref.finalize(self, self._file.close)
        for x in tensors:
            self._file.write(_bytes(np.ascontiguousarray(x.numpy())))
        self._file.flush()

    def load(self) -> list[Tensor]:
        """The tensors as they were, each on its backend."""
        self._file.seek(0)
        found = []
        for shape, dtype, backend in self._kinds:
            values = np.empty(shape, dtype)
            self._file.readinto(_bytes(values))
            found.append(Tensor.wrap(backend.from_host(values, copy=False), backend))
        return found


def _bytes(values: Array) -> memoryview:
    return memoryview(values.reshape(-1).view(np.uint8))
