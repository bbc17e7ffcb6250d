"""Bad calls, each with the error and the message it gets: what was wrong, and what to do.

One table for the core's rooms. Others have theirs beside their tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.errors import (
    DeviceError,
    DTypeError,
    GradnetError,
    GraphError,
    ShapeError,
)

pytestmark = pytest.mark.usefixtures("backend")


def ones(*shape: int) -> gn.Tensor:
    return gn.ones(shape)


def leaf(*shape: int) -> gn.Tensor:
    return gn.ones(shape).requires_grad_()


def twice(x: gn.Tensor) -> None:
    y = (x * x).sum()
    y.backward()
    y.backward()


def changed(x: gn.Tensor) -> None:
    w = ones(*x.shape)
    y = (x * w).sum()
    w += 1
    y.backward()


def added_to_leaf(x: gn.Tensor) -> None:
    x += 1


def hooked(x: gn.Tensor) -> None:
    y = x * 2
    y.register_hook(lambda g: g.sum())
    y.sum().backward()


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    # Shapes
    "add of shapes": (
        lambda: ones(2, 3) + ones(4),
        ShapeError,
        r"add got shapes \(2, 3\) and \(4,\), which do not broadcast: .* equal or 1",
    ),
    "where of shapes": (
        lambda: gn.where(ones(2) > 0, ones(3), 0.0),
        ShapeError,
        r"where got shapes \(2,\) and \(3,\)",
    ),
    "matmul of shapes": (
        lambda: ones(2, 3) @ ones(2, 3),
        ShapeError,
        r"matmul got shapes \(2, 3\) and \(2, 3\); expected .* equal k",
    ),
    "matmul of batches": (
        lambda: ones(2, 3, 4) @ ones(3, 4, 5),
        ShapeError,
        r"matmul got shapes \(2,\) and \(3,\), which do not broadcast",
    ),
    "matmul of scalars": (lambda: ones() @ ones(2), ShapeError, r"matmul got shapes \(\) and"),
    "linear": (
        lambda: gn.ops.linear(ones(2, 3), ones(4, 5)),
        ShapeError,
        r"x of shape \(2, 3\) and a weight of shape \(4, 5\); expected .* equal k",
    ),
    "bias": (
        lambda: gn.ops.linear(ones(2, 3), ones(3, 5), ones(4)),
        ShapeError,
        r"linear got a bias of shape \(4,\) .*; expected \(5,\)",
    ),
    "linear of integers": (
        lambda: gn.ops.linear(gn.arange(3), gn.zeros((3, 2), dtype=gn.int64)),
        DTypeError,
        "linear needs floating tensors, got int64",
    ),
    "an operand of an activation": (
        lambda: gn.ops.linear(ones(2, 3), ones(3, 2), activation="relu", alpha=1.0),
        TypeError,
        "relu takes no alpha; it takes no further operands",
    ),
    "an unknown activation": (
        lambda: gn.ops.linear(ones(2, 3), ones(3, 2), activation="rellu"),
        KeyError,
        "no formula is called 'rellu': did you mean relu or",
    ),
    "reshape": (
        lambda: ones(2, 3).reshape(4, 2),
        ShapeError,
        r"reshape cannot give \(2, 3\), 6 elements, shape \(4, 2\)",
    ),
    "reshape with two unknowns": (lambda: ones(6).reshape(-1, -1), ShapeError, "reshape cannot"),
    "permute_dims": (
        lambda: gn.permute_dims(ones(2, 3), (0,)),
        ShapeError,
        r"permute_dims needs all 2 axes of \(2, 3\), got \(0,\)",
    ),
    "permute_dims with an axis twice": (
        lambda: gn.permute_dims(ones(2, 3), (0, 0)),
        ShapeError,
        r"permute_dims got an axis twice in \(0, 0\)",
    ),
    "squeeze": (
        lambda: gn.squeeze(ones(2, 1), axis=0),
        ShapeError,
        r"squeeze got axis 0 of length 2 in shape \(2, 1\)",
    ),
    "broadcast_to": (
        lambda: gn.broadcast_to(ones(3), (2, 4)),
        ShapeError,
        r"broadcast_to cannot give \(3,\) the shape \(2, 4\)",
    ),
    "concat of shapes": (
        lambda: gn.concat([ones(2, 3), ones(2, 4)]),
        ShapeError,
        r"concat along axis 0 got shapes \(2, 3\), \(2, 4\)",
    ),
    "concat of nothing": (lambda: gn.concat([]), ShapeError, "concat got no arrays"),
    "stack of shapes": (
        lambda: gn.stack([ones(2), ones(3)]),
        ShapeError,
        "stack needs arrays of one shape",
    ),
    "split": (
        lambda: gn.ops.split(ones(5), 2),
        ShapeError,
        "split cannot cut 5 rows into 2 equal sections",
    ),
    "repeat": (
        lambda: gn.repeat(ones(3), -1),
        ShapeError,
        "repeat got a count of -1; expected one that is not negative",
    ),
    "an axis out of range": (
        lambda: ones(2, 3).sum(axis=2),
        ShapeError,
        r"sum got axis 2 for a tensor of 2 dimension\(s\); expected -2 to 1",
    ),
    "an axis that is no integer": (
        lambda: ones(2, 3).sum(axis=0.5),
        DTypeError,
        "sum got the axis 0.5; an axis is an integer",
    ),
    "max of nothing": (lambda: ones(0).max(), ShapeError, r"max of no values: shape \(0,\)"),
    "einsum of lengths": (
        lambda: gn.ops.einsum("ij,jk->ik", ones(2, 3), ones(4, 5)),
        ShapeError,
        r"einsum 'ij,jk->ik' got lengths 3 and 4 for 'j', in shapes \(2, 3\), \(4, 5\)",
    ),
    "einsum of operands": (
        lambda: gn.ops.einsum("ij,jk->ik", ones(2, 3)),
        ShapeError,
        "has 2 operands, but got 1 tensors",
    ),
    "einsum of letters": (
        lambda: gn.ops.einsum("ij->ik", ones(2, 3)),
        ShapeError,
        "the output needs distinct letters of the inputs",
    ),
    "einsum of axes": (
        lambda: gn.ops.einsum("ijk->i", ones(2, 3)),
        ShapeError,
        r"'ijk' names 3 axes of a tensor of shape \(2, 3\)",
    ),
    "tensordot": (
        lambda: gn.tensordot(ones(2, 3), ones(2, 3), axes=1),
        ShapeError,
        r"tensordot got shapes \(2, 3\) and \(2, 3\) with axes",
    ),
    "diagonal": (lambda: gn.ops.diagonal(ones(2)), ShapeError, r"two axes, got shape \(2,\)"),
    "mT": (lambda: ones(2).mT, ShapeError, r"matrix_transpose needs at least two axes"),
    "vecdot": (
        lambda: gn.ops.vecdot(ones(2, 3), ones(2, 4)),
        ShapeError,
        r"vecdot got shapes \(2, 3\) and \(2, 4\), whose lengths along axis -1 differ",
    ),
    "moveaxis": (
        lambda: gn.moveaxis(ones(2, 3), (0, 1), 0),
        ShapeError,
        "moveaxis got 2 source and 1 target axes",
    ),
    "T": (lambda: ones(2, 3, 4).T, ShapeError, "T is for matrices.*use mT or permute_dims"),
    "zeros": (lambda: gn.zeros((2, -1)), ShapeError, r"not negative, got the shape \(2, -1\)"),
    "zeros of a float": (lambda: gn.zeros(2.0), DTypeError, "a shape is an integer or several"),
    # Dtypes
    "text": (lambda: gn.asarray(["a"]), DTypeError, "encode text and dates as numbers first"),
    "a ragged list": (lambda: gn.asarray([[1], [1, 2]]), ShapeError, "rows differ in length"),
    "an unknown dtype": (lambda: ones(2).astype("float31"), DTypeError, "'float31' is not a dtype"),
    "bits of floats": (
        lambda: ones(2) & ones(2),
        DTypeError,
        "bitwise_and takes bool or integers, got float32",
    ),
    "minus of bool": (
        lambda: -gn.asarray([True]),
        DTypeError,
        "negative takes numbers, got bool; cast it with astype, or use a logical op",
    ),
    "a scalar too large": (
        lambda: gn.asarray([1], dtype=gn.int8) + 128,
        DTypeError,
        r"the Python integer 128 does not fit int8 \(-128 to 127\); cast the array",
    ),
    "a gradient of integers": (
        lambda: gn.asarray([1], requires_grad=True),
        DTypeError,
        "only floating and complex tensors have gradients, this one has dtype int64; cast",
    ),
    "an index of floats": (
        lambda: ones(3)[ones(2)],
        DTypeError,
        "index of dtype float32; indices are integers, booleans, slices, None or Ellipsis",
    ),
    "an index out of range": (
        lambda: ones(3)[3],
        IndexError,
        r"getitem on a tensor of shape \(3,\): index 3 is out of bounds",
    ),
    "too many indices": (lambda: ones(3)[0, 0], IndexError, "getitem got 2 indices"),
    "floats into integers": (
        lambda: gn.arange(3).__setitem__(0, 0.5),
        DTypeError,
        "setitem cannot store float32 values in a int64 tensor; cast one of them",
    ),
    "a missing operand": (lambda: gn.add(ones(2)), TypeError, "add misses its operand 'b'"),
    "a spare operand": (lambda: gn.exp(ones(2), 3), TypeError, r"exp takes \(x\)"),
    "an unknown operand": (
        lambda: gn.leaky_relu(ones(2), beta=1),
        TypeError,
        r"leaky_relu takes \(x, alpha\), not beta",
    ),
    # Values
    "truth of several": (lambda: bool(ones(2) > 0), ShapeError, r"use \.any\(\) or \.all\(\)"),
    "item of several": (lambda: ones(2).item(), ShapeError, r"item\(\) is for one element"),
    "len of a scalar": (lambda: len(ones()), TypeError, "a 0-d tensor has no length"),
    "no such device": (
        lambda: gn.ones((2,), device="tpu"),
        DeviceError,
        "there is no device 'tpu'; use 'cpu', 'cuda', 'cuda:N' or 'auto'",
    ),
    "no such backend": (
        lambda: gn.backends.get("jax"),
        DeviceError,
        "there is no backend 'jax'; there are numpy, numba, cuda",
    ),
    # Gradients
    "backward of several": (
        lambda: (leaf(2) * 2).backward(),
        GraphError,
        r"backward needs a cotangent for the output of multiply, shape \(2,\), .*sum\(\)",
    ),
    "backward without a graph": (lambda: ones().backward(), GraphError, "without a graph"),
    "a cotangent of another shape": (
        lambda: (leaf(2) * 2).backward(ones(3)),
        ShapeError,
        r"cotangent of shape \(3,\) for an output of shape \(2,\)",
    ),
    "backward twice": (
        lambda: twice(leaf(2)),
        GraphError,
        "the graph of sum was freed by an earlier backward; pass retain_graph=True",
    ),
    "a changed operand": (
        lambda: changed(leaf(2)),
        GraphError,
        r"an operand of multiply, shape \(2,\), was changed in place .*change a copy instead",
    ),
    "a changed leaf": (
        lambda: added_to_leaf(leaf(2)),
        GraphError,
        r"a leaf that requires a gradient, shape \(2,\), cannot be changed .*under no_grad\(\)",
    ),
    "a hook": (
        lambda: hooked(leaf(2)),
        ShapeError,
        r"a hook on the output of multiply returned shape \(\) for a gradient of shape \(2,\)",
    ),
    "NumPy of a graph": (
        lambda: np.asarray(leaf(2)),
        GraphError,
        r"NumPy cannot carry the gradient of this tensor; use x\.detach\(\)\.numpy\(\)",
    ),
    "a gradient of another shape": (
        lambda: setattr(leaf(2), "grad", ones(3)),
        ShapeError,
        r"the gradient has shape \(3,\) .* the tensor \(2,\)",
    ),
    "grad of several": (
        lambda: gn.grad(lambda x: x)(ones(2)),
        GraphError,
        r"grad needs a function with a scalar value, this one returned shape \(2,\)",
    ),
    "grad of a number": (
        lambda: gn.grad(lambda x: 1.0)(ones(2)),
        GraphError,
        "got a function that returned float; expected a Tensor",
    ),
    "grad in integers": (
        lambda: gn.grad(lambda x: x.sum())(gn.arange(2)),
        DTypeError,
        r"differentiates floating tensors, got dtype int64; cast it with astype",
    ),
    "argnums": (
        lambda: gn.grad(lambda x: x, argnums=1)(ones()),
        ShapeError,
        "argnums 1 for a function called with 1 arguments",
    ),
    "a tangent of another shape": (
        lambda: gn.jvp(lambda x: x, ones(2), ones(3)),
        ShapeError,
        r"jvp got a tangent of shape \(3,\) for shape \(2,\)",
    ),
    # Random numbers
    "a negative seed": (lambda: gn.random.seed(-1), ValueError, "a seed is in 0"),
    "a probability": (
        lambda: gn.random.bernoulli(2.0, (3,)),
        ValueError,
        r"bernoulli needs a probability in 0 \.\.\. 1, got 2.0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls(name: str) -> None:
    call, error, message = BAD[name]
    with pytest.raises(error, match=message) as raised:
        call()
    # An error is one of gradnet's own, or the built-in one that its manner asks for.
    assert isinstance(raised.value, GradnetError) or type(raised.value) in (
        IndexError,
        KeyError,
        TypeError,
        ValueError,
    )


def test_the_errors_are_the_built_in_ones_too() -> None:
    for ours, theirs in (
        (ShapeError, ValueError),
        (DTypeError, TypeError),
        (DeviceError, RuntimeError),
        (GraphError, RuntimeError),
    ):
        assert issubclass(ours, theirs)
        assert issubclass(ours, GradnetError)
