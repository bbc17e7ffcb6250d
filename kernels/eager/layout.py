"""Where machine code finds what Python's objects hold, as this interpreter lays them out.

Looked for, not assumed: a place is that at which what was put there is found. `POSSIBLE` is False
where objects are not as they must be, and on an interpreter whose threads run at once.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from .. import handles

HEAD = object.__basicsize__
REFERENCES, TYPE = HEAD - 16, HEAD - 8  # of every object; half a word and a word
COUNT = HEAD  # how many items a tuple has
ITEMS = tuple.__basicsize__  # the first item of a tuple
LIST_ITEMS = HEAD + 8  # where the items of a list are
BYTES = bytes.__basicsize__ - 1  # the first of bytes
VALUE = HEAD  # of a float
START = HEAD  # of a slice, which has its stop and its step after it
# Of an array: where it has the addresses of its elements, of its lengths and of the bytes from one
# to the next along each axis, and whose memory it is in.
DATA, NDIM, LENGTHS, STEPS, BASE = handles.DATA, HEAD + 8, handles.LENGTHS, HEAD + 24, HEAD + 32
DTYPE, FLAGS = HEAD + 40, HEAD + 48


def _word(place: int) -> int:
    return ctypes.c_size_t.from_address(place).value


def _standard() -> bool:
    """Whether objects, tuples, lists, bytes, floats, slices and arrays are as said above."""
    marker = object()
    row, several, x = (None, marker), [None, marker], np.zeros((2, 3), np.float32)
    read_only, view, cut = np.zeros(3), x[:, ::2], slice(marker, row, marker)
    read_only.flags.writeable = False
    return (
        _word(id(marker) + TYPE) == id(object)
        and _word(id(row) + COUNT) == len(row)
        and _word(id(row) + ITEMS + 8) == id(marker)
        and _word(_word(id(several) + LIST_ITEMS) + 8) == id(marker)
        and _word(id(x) + NDIM) % 2**32 == x.ndim
        and _word(id(x) + DTYPE) == id(x.dtype)
        and all(_word(id(y) + FLAGS) % 2**32 == y.flags.num for y in (x, view, read_only))
        and (_word(id(x) + BASE), _word(id(view) + BASE)) == (0, id(x))
        and [_word(_word(id(view) + STEPS) + 8 * i) for i in range(2)] == [*view.strides]
        and [_word(id(cut) + START + 8 * i) for i in range(3)] == [id(marker), id(row), id(marker)]
        and ctypes.string_at(id(b"word") + BYTES, 4) == b"word"
        and ctypes.c_double.from_address(id(_NUMBER) + VALUE).value == _NUMBER
        and _word(id(several) + REFERENCES) % 2**32 == 1
    )


def _slot(kind: type, name: str) -> int:
    """Where objects of a class hold a slot; 0 where that is not to be seen."""
    if not POSSIBLE:
        return 0
    x: Any = object.__new__(kind)
    marker = object()
    setattr(x, name, marker)
    places = [i for i in range(HEAD, kind.__basicsize__, 8) if _word(id(x) + i) == id(marker)]
    return places[0] if len(places) == 1 else 0


_NUMBER = -1.375
POSSIBLE = (
    handles.DIRECT
    and ctypes.sizeof(ctypes.c_void_p) == 8
    and sys.byteorder == "little"
    and "free-threading" not in sys.version
    and _standard()
)

# Slots of tensors and of nodes, by the slots' names. Where they are is told by `look`.
_TENSOR = {
    "ARRAY": "array", "BACKEND": "backend", "EDGE": "node", "COUNTER": "counter", "SEEN": "_seen",
    "TANGENTS": "tangents", "GRAD": "_grad", "GRAD_BUFFER": "_grad_buffer", "ORIGIN": "origin",
}  # fmt: skip
_NODE = {
    "ID": "id", "OP": "op", "INPUTS": "inputs", "KEPT": "kept", "PARENTS": "parents",
    "PARAMETERS": "parameters", "NODE_BACKEND": "backend", "OUTPUTS": "outputs", "HOOKS": "hooks",
    "HELD": "tensor",
}  # fmt: skip
ARRAY = BACKEND = EDGE = COUNTER = SEEN = TANGENTS = GRAD = GRAD_BUFFER = ORIGIN = 0
ID = OP = INPUTS = KEPT = PARENTS = PARAMETERS = NODE_BACKEND = OUTPUTS = HOOKS = HELD = 0


def look(tensor: type, node: type) -> dict[str, int]:
    """Where the slots of tensors and of nodes are; empty where that is not to be seen."""
    places = {name: _slot(tensor, slot) for name, slot in _TENSOR.items()}
    places |= {name: _slot(node, slot) for name, slot in _NODE.items()}
    return places if all(places.values()) else {}
