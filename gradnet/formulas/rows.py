"""The catalogue's two kinds of entry: an elementwise function, and an optimizer's update."""

from collections.abc import Callable
from typing import Any

Formula = Callable[..., Any]

INFINITY = float("inf")
KINDS = ("float", "numeric", "compare", "logical", "bitwise")


def arguments(formula: Formula) -> tuple[str, ...]:
    """Names of a formula's arguments, in order."""
    code = formula.__code__
    return tuple(code.co_varnames[: code.co_argcount])


class Row:
    """One elementwise function: its formula, its derivatives and what is known about it.

    name, aliases   what users call it
    formula         plain scalar function: unary in `x`, binary in `a, b`, operands by name
    derivatives     one per argument: a formula over the arguments' names, where `y` stands for
                    the output; None where the function is not differentiable or flat
    kind            "float" (integers become the default float first), "numeric" (dtype kept),
                    "compare" and "logical" (result bool), "bitwise"
    defaults        values of trailing operands, such as {"alpha": 0.01}
    activation      offered by name as an activation
    domain          (lo, hi) of each argument: where the sweep of the tests runs
    kinks           values of `x` where the derivative jumps; of `a - b` for two arguments
    ulp             measured bound of the float32 error over the whole domain, in units in the
                    last place of max(|exact|, scale): the largest on NumPy with and without
                    AVX2 and AVX512, whose exp and log are off by 2.4 and 3.5, and on Numba
    derivative_ulp  the same for the derivatives with derivative_scale, for |x| <= 15
    flops           rough cost per element
    source          paper or table
    Raises ValueError for an unknown kind, or derivatives that do not fit the arguments.
    """

    __slots__ = (
        "activation",
        "aliases",
        "defaults",
        "derivative_scale",
        "derivative_ulp",
        "derivatives",
        "domain",
        "flops",
        "formula",
        "kind",
        "kinks",
        "name",
        "scale",
        "source",
        "ulp",
    )

    def __init__(
        self,
        name: str,
        formula: Formula,
        derivatives: tuple[Formula | None, ...] | None = None,
        *,
        kind: str = "float",
        defaults: dict[str, float] | None = None,
        activation: bool = False,
        aliases: tuple[str, ...] = (),
        domain: tuple[float, float] = (-INFINITY, INFINITY),
        kinks: tuple[float, ...] = (),
        ulp: float = 0.5,
        scale: float = 0.0,
        derivative_ulp: float = 0.5,
        derivative_scale: float = 0.0,
        flops: int = 1,
        source: str = "",
    ) -> None:
        names = arguments(formula)
        self.name = name
        self.formula = formula
        self.derivatives = (None,) * len(names) if derivatives is None else derivatives
        self.kind = kind
        self.defaults = {} if defaults is None else defaults
        self.activation = activation
        self.aliases = aliases
        self.domain = domain
        self.kinks = kinks
        self.ulp = ulp
        self.scale = scale
        self.derivative_ulp = derivative_ulp
        self.derivative_scale = derivative_scale
        self.flops = flops
        self.source = source
        if kind not in KINDS:
            raise ValueError(f"row {name!r}: kind {kind!r} is none of {', '.join(KINDS)}")
        if len(self.derivatives) != len(names):
            raise ValueError(
                f"row {name!r}: {len(self.derivatives)} derivatives for {len(names)} arguments "
                f"({', '.join(names)}); give one per argument, None where there is none"
            )
        for derivative in self.derivatives:
            if derivative is not None and (odd := set(arguments(derivative)) - {*names, "y"}):
                raise ValueError(
                    f"row {name!r}: derivative {derivative.__name__} takes {', '.join(sorted(odd))}"
                    f"; it may take {', '.join(names)} and y, the output"
                )
        if tuple(self.defaults) != names[len(names) - len(self.defaults) :]:
            raise ValueError(
                f"row {name!r}: defaults for {', '.join(self.defaults)}, which are not the last "
                f"of its arguments ({', '.join(names)})"
            )

    def __repr__(self) -> str:
        return f"Row({self.name!r}, {', '.join(arguments(self.formula))})"


class Update:
    """One optimizer's step over an element: (p, g, *state, *scalars) -> (p, *state), new values.

    name      what the optimizer is called
    formula   plain scalar function returning a tuple
    state     names of the moments, in order; all start at zero
    scalars   names of the numbers that a step supplies, in order; the formula's docstring
              says how each comes from the hyperparameters and the step count t = 1, 2, ...
    flops     rough cost per element
    source    paper
    """

    __slots__ = ("flops", "formula", "name", "scalars", "source", "state")

    def __init__(
        self, name: str, formula: Formula, state: tuple[str, ...], *, flops: int, source: str
    ) -> None:
        names = arguments(formula)
        if names[: 2 + len(state)] != ("p", "g", *state):
            raise ValueError(
                f"update {name!r}: arguments ({', '.join(names)}) must begin with p, g"
                + "".join(f", {moment}" for moment in state)
            )
        self.name = name
        self.formula = formula
        self.state = state
        self.scalars = names[2 + len(state) :]
        self.flops = flops
        self.source = source

    def __repr__(self) -> str:
        return f"Update({self.name!r}, {', '.join(arguments(self.formula))})"
