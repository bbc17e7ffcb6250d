"""What kernels compute with and take: numbers of a kind, and arrays of them."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """Numbers: floats, signed or unsigned integers, or conditions, and how many bits each has."""

    name: str
    sort: str
    bits: int

    @property
    def itemsize(self) -> int:
        """The bytes of an element of an array."""
        return max(self.bits // 8, 1)


class Array(NamedTuple):
    """An array in row-major order, as an argument: the address of its elements, and its lengths."""

    kind: Kind
    ndim: int


Argument = Kind | Array

_INTEGERS = (8, 16, 32, 64)
KINDS: dict[str, Kind] = {
    "float32": Kind("float32", "float", 32),
    "float64": Kind("float64", "float", 64),
    "boolean": Kind("boolean", "condition", 1),
    **{f"int{bits}": Kind(f"int{bits}", "signed", bits) for bits in _INTEGERS},
    **{f"uint{bits}": Kind(f"uint{bits}", "unsigned", bits) for bits in _INTEGERS},
}


def told(arguments: tuple[Argument, ...]) -> str:
    """Arguments as one line, for a file."""
    return " ".join(x.name if isinstance(x, Kind) else f"{x.kind.name}:{x.ndim}" for x in arguments)


def read(line: str) -> tuple[Argument, ...]:
    """The arguments that `told` has told."""
    pairs = (word.partition(":") for word in line.split())
    return tuple(Array(KINDS[name], int(n)) if n else KINDS[name] for name, _, n in pairs)
