"""`gradnet explain`: an expression computed and differentiated step by step."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping

from gradnet.cli.parser import BadCall, unwritten
from gradnet.explainer import Expression, explain
from gradnet.explainer.expression import assignments
from gradnet.explainer.figures import shown
from gradnet.explainer.report import WIDTH


def _check(expression: Expression, at: str | None, given: Mapping[str, object]) -> None:
    """Raise BadCall for values without a variable, or variables without a value."""
    known = expression.variables
    if unused := [name for name in given if name not in known]:
        has = f"which has {', '.join(known)}" if known else "which has no variable"
        raise BadCall(f"{', '.join(unused)} of --at is not in {expression.text!r}, {has}")
    if missing := [name for name in known if name not in given]:
        values = ",".join([*([at] if at else []), *(f"{name}=1" for name in missing)])
        raise BadCall(f"there is no value for {', '.join(missing)}; write --at {values}")


def run(options: argparse.Namespace, started: float) -> int:
    """Print the tables and the circuit; with --out also save them. 2 where a value is not finite.

    Raises BadCall for variables without a value, or values without a variable.
    """
    expression = Expression(options.expression)
    given = assignments(options.at) if options.at is not None else {}
    _check(expression, options.at, given)
    if options.out is not None:
        unwritten("--out", options.out)
    found = explain(expression, *(given[name] for name in expression.variables))
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else WIDTH
    sys.stdout.write(found.text(color=terminal, width=width))
    if options.out is not None:
        path = found.save(options.out, theme=options.theme, engine=options.engine)
        print(f"\nsaved {path}")
    bad = found.first_not_finite
    if bad is not None:
        how = f" = {bad.expression}" if bad.expression else ""
        sys.stdout.flush()
        print(
            f"gradnet: error: {found.output.name} is {shown(found.value)}: {bad.name}{how} is "
            f"{shown(bad.value)}, the first value that is not finite",
            file=sys.stderr,
        )
        return 2
    return 0
