"""Rows by name: what there is, and how to add to it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from gradnet import formulas
from gradnet.formulas import Row

DESIGNED = (
    "identity heaviside sign hard_threshold piecewise_linear sigmoid tanh relu leaky_relu absolute"
    " elu selu softplus swish gelu mish hard_sigmoid relu6 softsign log_sigmoid"
)


def test_activations_by_name() -> None:
    assert set(DESIGNED.split()) <= set(formulas.activations())
    assert formulas.row("silu") is formulas.row("swish")
    assert formulas.row("linear").name == "identity"
    assert len(formulas.activations()) == len(set(formulas.activations()))


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(KeyError, match="no formula is called 'sigmod': did you mean sigmoid"):
        formulas.row("sigmod")
    with pytest.raises(KeyError, match="there are add, subtract"):
        formulas.row("zzzzzz")


def squareplus(x: Any, b: Any) -> Any:
    return 0.5 * (x + sqrt(x * x + b))  # type: ignore[name-defined] # noqa: F821


def squareplus_dx(x: Any, b: Any) -> Any:
    return 0.5 + 0.5 * x / sqrt(x * x + b)  # type: ignore[name-defined] # noqa: F821


def test_register_and_unregister() -> None:
    row = Row(
        "squareplus",
        squareplus,
        (squareplus_dx, None),
        defaults={"b": 4.0},
        activation=True,
        aliases=("sqplus",),
    )
    formulas.register(row)
    try:
        assert formulas.row("sqplus") is row
        assert "squareplus" in formulas.activations()
        assert formulas.rows()[-1] is row
        with pytest.raises(ValueError, match="'squareplus' is already Row"):
            formulas.register(Row("squareplus", squareplus))
    finally:
        formulas.unregister("squareplus")
    assert "squareplus" not in formulas.activations()
    with pytest.raises(KeyError):
        formulas.row("sqplus")


def test_a_refused_row_leaves_no_alias_behind() -> None:
    with pytest.raises(ValueError, match="'tanh' is already"):
        formulas.register(Row("squareplus", squareplus, aliases=("tanh",)))
    with pytest.raises(KeyError):
        formulas.row("squareplus")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "complex"}, "kind 'complex' is none of float, numeric"),
        ({"derivatives": (squareplus_dx,)}, r"1 derivatives for 2 arguments \(x, b\)"),
        ({"derivatives": (formulas.multiply_da, formulas.leaky_relu_dx)}, "takes alpha; it may"),
        ({"defaults": {"x": 1.0}}, r"defaults for x, which are not the last of its arguments"),
    ],
)
def test_rows_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Row("squareplus", squareplus, **arguments)


def test_rows_and_updates_show_their_arguments() -> None:
    assert repr(formulas.row("leaky_relu")) == "Row('leaky_relu', x, alpha)"
    assert repr(formulas.UPDATES["lion"]) == "Update('lion', p, g, m, lr, rate1, rate2, decay)"


def test_updates_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\(x, b\) must begin with p, g, m"):
        formulas.Update("mine", squareplus, ("m",), flops=1, source="")


def test_formulas_import_nothing_else() -> None:
    room = Path(formulas.__file__).parent
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                raise AssertionError(f"{path.name} imports {node.names[0].name}")
            if isinstance(node, ast.ImportFrom):
                allowed = {"collections.abc", "typing", "difflib"}
                assert node.module in allowed or str(node.module).startswith("gradnet.formulas")
