"""The catalogue of scalar formulas: every elementwise function, derivative and optimizer update.

A formula is a plain scalar function: positional arguments, bare names, no defaults, no branches but
`where(c, a, b)`. `gradnet.binding` binds it to a target (NumPy, Numba, CUDA, Tensors, mpmath).
Nothing is imported but the rooms of this package; difflib when a name is misspelt.
"""

from gradnet.formulas import activations as _activations
from gradnet.formulas import arithmetic as _arithmetic
from gradnet.formulas import elementary as _elementary
from gradnet.formulas import gates as _gates
from gradnet.formulas import primitives as _primitives
from gradnet.formulas import special as _special
from gradnet.formulas.activations import *
from gradnet.formulas.arithmetic import *
from gradnet.formulas.elementary import *
from gradnet.formulas.gates import *
from gradnet.formulas.primitives import *
from gradnet.formulas.rows import Formula as Formula
from gradnet.formulas.rows import Row as Row
from gradnet.formulas.rows import Update as Update
from gradnet.formulas.special import *
from gradnet.formulas.updates import *

_ROOMS = (_primitives, _arithmetic, _elementary, _special, _activations, _gates)

FORMULAS: dict[str, Formula] = {
    name: value
    for room in _ROOMS
    for name, value in vars(room).items()
    if getattr(value, "__module__", None) == room.__name__
}

ROWS: tuple[Row, ...] = (*ARITHMETIC, *ELEMENTARY, *SPECIAL, *ACTIVATIONS, *GATES)

_rows: dict[str, Row] = {}


def register(row: Row) -> None:
    """Add a row to the catalogue. Raises ValueError when a name or alias of it is taken."""
    for name in (row.name, *row.aliases):
        if name in _rows:
            raise ValueError(
                f"cannot register {row!r}: {name!r} is already {_rows[name]!r}; choose another name"
            )
    _rows.update(dict.fromkeys((row.name, *row.aliases), row))


def unregister(name: str) -> None:
    """Take the row of that name, and its aliases, out of the catalogue."""
    gone = row(name)
    for key in (gone.name, *gone.aliases):
        del _rows[key]


def has(name: str) -> bool:
    """Whether there is a row of that name or alias."""
    return name in _rows


def row(name: str) -> Row:
    """The row of a name or alias. Raises KeyError that lists the close names."""
    found = _rows.get(name)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, _rows)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(_rows)}"
        raise KeyError(f"no formula is called {name!r}: {hint}")
    return found


def rows() -> tuple[Row, ...]:
    """All rows, the registered ones last."""
    return tuple(dict.fromkeys(_rows.values()))


def activations() -> tuple[str, ...]:
    """Names of the activations, aliases left out."""
    return tuple(entry.name for entry in rows() if entry.activation)


for _row in ROWS:
    register(_row)
