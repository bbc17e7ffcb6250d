"""Bad calls of nn: each with the type of its error and what the message has to say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.errors import DataError, DeviceError, DTypeError, ShapeError
from gradnet.nn import init, losses, regularization

Z = np.zeros((3, 4), np.float32)
Y = np.array([0, 3, 1])
ONES = np.ones(3, np.float32)


class Undescribed(nn.Module):
    """A module without forward and config."""


def unregistered() -> None:
    module = nn.Module()
    module.layers = [nn.Linear(1, 1)]


def untrained() -> None:
    module = nn.Module()
    module.w = gn.asarray([1.0], requires_grad=True)


def overwritten() -> None:
    nn.Linear(1, 1).weight = gn.ones((1, 1))


# Call, error, and pieces of the message.
BAD: list[tuple[Any, type[Exception], list[str]]] = [
    # Modules
    (lambda: Undescribed()(1), NotImplementedError, ["Undescribed has no forward"]),
    (lambda: Undescribed().config(), TypeError, ["Undescribed", "nn.register", "save_tensors"]),
    (unregistered, TypeError, ["Module.layers is a list", "nn.Sequential"]),
    (untrained, TypeError, ["Module.w requires a gradient", "nn.Parameter"]),
    (overwritten, TypeError, ["Linear.weight is a parameter", "assign_"]),
    (lambda: nn.Module().register_buffer("b", 1.0), TypeError, ["buffer 'b'", "float"]),
    (lambda: nn.Linear(1, 1).to(gn.int32), TypeError, ["Linear.to", "floating dtype"]),
    (lambda: nn.Linear(1, 1).to("mars"), DTypeError, ["'mars' is not a dtype"]),
    (lambda: nn.Parameter([True]), DTypeError, ["bool"]),
    (lambda: nn.from_config({"class": "Nowhere"}), DataError, ["'Nowhere'", "MLP", "register"]),
    (lambda: nn.from_config({}), DataError, ["no module class None"]),
    (
        lambda: nn.from_config({"class": "Linear", "size": 3}),
        DataError,
        ["Linear cannot be rebuilt", "size"],
    ),
    (lambda: nn.from_config({"class": "Dropout", "p": 2}), DataError, ["Dropout", "0 <= p < 1"]),
    # Layers
    (lambda: nn.Linear(0, 2), ValueError, ["Linear needs inputs of at least 1", "got 0"]),
    (lambda: nn.Linear(2, 1.5), ValueError, ["outputs", "1.5"]),
    (lambda: nn.Linear(True, 2), ValueError, ["inputs", "True"]),
    (lambda: nn.Linear(3, 4)(np.ones((2, 5))), ShapeError, ["(2, 5)", "(3, 4)"]),
    (lambda: nn.Linear(2, 2, activation="rleu"), KeyError, ["'rleu'", "did you mean", "relu"]),
    (lambda: nn.Linear(2, 2, activation="exp"), KeyError, ["no activation is called 'exp'"]),
    (lambda: nn.Linear(2, 2, operands={"alpha": 1}), TypeError, ["no activation to take them"]),
    (
        lambda: nn.Linear(2, 2, activation="elu", operands={"beta": 1}),
        TypeError,
        ["elu takes alpha", "beta"],
    ),
    (lambda: nn.Linear(2, 2, init="xavier"), KeyError, ["'xavier'", "glorot_uniform"]),
    (lambda: nn.Linear(2, 2, init="he_norml"), KeyError, ["did you mean he_normal"]),
    (lambda: nn.Dropout(1.0), ValueError, ["Dropout", "0 <= p < 1", "1.0"]),
    (lambda: nn.Dropout(math.nan), ValueError, ["Dropout", "nan"]),
    (lambda: nn.BatchNorm1d(2)(gn.ones((1, 2))), ValueError, ["at least 2 rows", "got 1"]),
    (lambda: nn.BatchNorm1d(2)(gn.ones((4, 3))), ShapeError, ["BatchNorm1d", "(n, 2)", "(4, 3)"]),
    (lambda: nn.BatchNorm1d(2)(gn.ones(2)), ShapeError, ["BatchNorm1d", "(2,)"]),
    (lambda: nn.BatchNorm1d(2, momentum=1.5), ValueError, ["momentum in 0 ... 1", "1.5"]),
    (lambda: nn.LayerNorm(2, eps=-1.0), ValueError, ["LayerNorm needs eps", "-1.0"]),
    (lambda: nn.LayerNorm(3)(gn.ones((2, 2))), ShapeError, ["LayerNorm", "(..., 3)", "(2, 2)"]),
    (lambda: nn.Embedding(3, 2)([0, 3]), IndexError, ["codes 0 to 2", "got 3 at position 1"]),
    (lambda: nn.Embedding(3, 2)([[0, -1]]), IndexError, ["got -1 at position 1", "(1, 2)"]),
    (lambda: nn.Embedding(3, 2)([0.0]), DTypeError, ["integer codes", "float32"]),
    (lambda: nn.Embedding(3, 2, padding=3), ValueError, ["codes 0 to 2", "padding=3"]),
    (lambda: nn.Flatten(3)(gn.ones((2, 2))), ShapeError, ["axis 3", "(2, 2)"]),
    (lambda: nn.Sequential(nn.ReLU), TypeError, ["Sequential takes modules", "nn.ReLU()"]),
    (
        lambda: nn.Residual(nn.Linear(2, 3))(gn.ones((1, 2))),
        ShapeError,
        ["(1, 3)", "(1, 2)", "projection"],
    ),
    # Activations
    (lambda: nn.activation("swoosh"), KeyError, ["no activation is called 'swoosh'", "swish"]),
    (lambda: nn.activation("relu", alpha=1), TypeError, ["relu takes no settings", "alpha"]),
    (lambda: nn.LeakyReLU(0.1, 0.2), TypeError, ["leaky_relu takes 1 settings", "got 2"]),
    (lambda: nn.Maxout(0), ValueError, ["at least 1 group"]),
    (lambda: nn.Maxout(2)(gn.ones((1, 3))), ShapeError, ["(1, 3)", "groups=2"]),
    (lambda: nn.PReLU(0), ValueError, ["count of at least 1"]),
    (lambda: nn.swoosh, AttributeError, ["gradnet.nn", "'swoosh'"]),
    (lambda: nn.exp, AttributeError, ["'exp'"]),
    (lambda: nn.Swoosh, AttributeError, ["'Swoosh'"]),
    # MLP
    (lambda: nn.MLP((3,)), ValueError, ["at least two", "(3,)"]),
    (lambda: nn.MLP((3, 0, 2)), ValueError, ["MLP needs sizes[1]", "got 0"]),
    (lambda: nn.MLP((3, 2), norm="group"), ValueError, ["'batch' or 'layer'", "'group'"]),
    (lambda: nn.MLP((3, 2), output="softmx"), KeyError, ["'softmx'", "did you mean softmax"]),
    (lambda: nn.MLP((3, 4, 2), "rel"), KeyError, ["'rel'"]),
    (lambda: nn.MLP((3, 4, 2), dropout=-0.1), ValueError, ["-0.1"]),
    (lambda: nn.MLP((3, 2), seed=-1), ValueError, ["seed", "-1"]),
    (
        lambda: nn.MLP((3, 2), seed=1, generator=gn.random.Generator(1)),
        ValueError,
        ["a seed or a generator"],
    ),
    (lambda: nn.MLP((3, 2), embeddings=[(3, 5)]), ValueError, ["columns 0 to 2", "column 3"]),
    (lambda: nn.TabularInput(3, [(1,)]), ValueError, ["(column, count)", "(1,)"]),
    (lambda: nn.TabularInput(3, [(1, 2), (1, 3)]), ValueError, ["twice", "[1, 1]"]),
    (lambda: nn.TabularInput(2, [(0, 3)])(gn.ones((1, 3))), ShapeError, ["(n, 2)", "(1, 3)"]),
    (
        lambda: nn.TabularInput(2, [(0, 3)])(gn.asarray([[7.0, 0.0]])),
        IndexError,
        ["codes 0 to 2", "got 7"],
    ),
    # Initialisers
    (lambda: init.he_normal((3,)), ShapeError, ["(3,)", "(in, out)"]),
    (lambda: init.normal((3,), std=-1.0), ValueError, ["at least 0", "-1.0"]),
    (lambda: init.uniform((3,), 1.0, 0.0), ValueError, ["low <= high", "1.0 and 0.0"]),
    # Losses
    (lambda: losses.get("l3"), KeyError, ["no loss is called 'l3'"]),
    (lambda: losses.get("hing"), KeyError, ["did you mean hinge"]),
    (
        lambda: nn.cross_entropy(Z, [0, 4, 1]),
        DataError,
        ["classes 0 to 3", "class 4 in row 1"],
    ),
    (lambda: nn.cross_entropy(Z, [0, 1, -2]), DataError, ["class -2 in row 2"]),
    (lambda: nn.cross_entropy(Z, [0.0, 1.0, 2.0]), DTypeError, ["integers", "float32", "astype"]),
    (lambda: nn.cross_entropy(Z, [True, False, True]), DTypeError, ["integers", "bool"]),
    (lambda: nn.cross_entropy(Z, [0, 1]), ShapeError, ["(3, 4)", "(2,)", "(3,)"]),
    (lambda: nn.cross_entropy(Z, np.ones((3, 5))), ShapeError, ["(3, 4)", "(3, 5)"]),
    (lambda: nn.cross_entropy(Z[:, :1], Y), ShapeError, ["(3, 1)", "binary_cross_entropy"]),
    (lambda: nn.cross_entropy(Z[:, 0], Y), ShapeError, ["(3,)", "binary_cross_entropy"]),
    (lambda: nn.cross_entropy(Z[:0], Y[:0]), ShapeError, ["(0, 4)", "at least one row"]),
    (lambda: nn.cross_entropy(Y[:, None], Z), DTypeError, ["int64", "exchanged"]),
    (
        lambda: nn.cross_entropy(Z, Z + 0.5),
        DataError,
        ["probabilities", "row 0", "sum 2", "divide"],
    ),
    (
        lambda: nn.cross_entropy(Z, np.array([[0, 1, 0, 0], [2, -1, 0, 0], [1, 0, 0, 0]])),
        DataError,
        ["row 1", "smallest entry -1"],
    ),
    (lambda: nn.cross_entropy(Z, Z * np.nan), DataError, ["row 0", "nan"]),
    (
        lambda: nn.cross_entropy(Z, Y, label_smoothing=1.0),
        ValueError,
        ["0 <= s < 1", "got 1.0"],
    ),
    (lambda: nn.cross_entropy(Z, Y, label_smoothing=-0.1), ValueError, ["got -0.1"]),
    (lambda: nn.cross_entropy(Z, Y, reduction="max"), ValueError, ["'mean'", "'max'"]),
    (lambda: nn.cross_entropy(Z, Y, class_weight=[1, 1]), ShapeError, ["4 of them", "(2,)"]),
    (lambda: nn.cross_entropy(Z, Y, class_weight={9: 1.0}), DataError, ["0 to 3", "for 9"]),
    (
        lambda: nn.cross_entropy(Z, Y, class_weight=[1, -1, 1, 1]),
        DataError,
        ["class_weight", "-1.0 at 1"],
    ),
    (
        lambda: nn.cross_entropy(Z, Y, sample_weight=[1.0, math.nan, 1.0]),
        DataError,
        ["sample_weight", "nan at 1"],
    ),
    (
        lambda: nn.mse(ONES, ONES, sample_weight=[1.0, math.inf, 1.0]),
        DataError,
        ["finite", "inf at 1"],
    ),
    (lambda: nn.mse(ONES, ONES, sample_weight=[0, 0, 0]), DataError, ["zero everywhere"]),
    (lambda: nn.mse(ONES, ONES, sample_weight=[1, 1]), ShapeError, ["(3,)", "(2,)"]),
    (
        lambda: nn.cross_entropy(Z, [0, 0, 0], class_weight=[0, 1, 1, 1]),
        DataError,
        ["weights of all rows are zero"],
    ),
    (
        lambda: nn.binary_cross_entropy(ONES, [0, 1, 2]),
        DataError,
        ["0 ... 1", "got 2.0 in row 2"],
    ),
    (lambda: nn.binary_cross_entropy(Z, Y), ShapeError, ["(3, 4)", "(3,)", "cross_entropy"]),
    (lambda: nn.mse(Z, ONES), ShapeError, ["mse", "(3, 4)", "(3,)"]),
    (lambda: nn.mse(ONES, [1.0, math.nan, math.nan]), DataError, ["mse", "NaN", "row 1"]),
    (lambda: nn.mae(ONES, ONES * 1j), DTypeError, ["mae", "complex64"]),
    (lambda: nn.huber(ONES, ONES, delta=0.0), ValueError, ["delta above 0"]),
    (lambda: nn.gaussian_nll(Z[:, :3], ONES), ShapeError, ["(n, 2m)", "(3, 3)"]),
    (lambda: nn.gaussian_nll(Z, ONES), ShapeError, ["(3, 2)", "(3,)"]),
    (lambda: nn.hinge(ONES, [1, -1, 5]), DataError, ["-1 and 1", "got 5.0 in row 2"]),
    (lambda: nn.hinge(ONES, [1, -1, 0]), DataError, ["mixed"]),
    (lambda: nn.hinge(Z, Y, multiclass="svm"), ValueError, ["crammer_singer", "'svm'"]),
    (lambda: nn.perceptron(Z, [0, 1, 4]), DataError, ["classes 0 to 3", "class 4 in row 2"]),
    # Output units and penalties
    (
        lambda: nn.output_unit("linear").loss(ONES, ONES, class_weight=[1.0]),
        ValueError,
        ["'linear'", "class_weight", "sample_weight"],
    ),
    (
        lambda: nn.output_unit("gaussian").loss(Z, Z, label_smoothing=0.1),
        ValueError,
        ["'gaussian'", "label_smoothing"],
    ),
    (lambda: nn.output_unit("logistic"), KeyError, ["'logistic'", "softmax, sigmoid"]),
    (lambda: nn.OutputUnit().loss(Z, Y), NotImplementedError, []),
    (lambda: nn.OutputUnit().predict(Z), NotImplementedError, []),
    (lambda: regularization.l2(nn.ReLU()), ValueError, ["needs weights"]),
    (lambda: regularization.penalty(nn.Linear(1, 1)), ValueError, ["0.0 and 0.0"]),
    (lambda: regularization.penalty(nn.Linear(1, 1), l1=-1.0), ValueError, ["-1.0"]),
    (lambda: regularization.max_norm_(nn.Linear(1, 1), 0.0), ValueError, ["limit above 0"]),
    (lambda: regularization.max_norm_([gn.ones(2)], 1.0), ShapeError, ["(in, out)", "(2,)"]),
]


@pytest.mark.parametrize(("call", "error", "pieces"), BAD)
def test_a_bad_call_says_what_is_wrong(
    call: Any, error: type[Exception], pieces: list[str]
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    for piece in pieces:
        assert piece in str(caught.value)


def test_tensors_of_two_backends_are_not_mixed() -> None:
    if len(gn.backends.available()) < 2:
        pytest.skip("one backend alone cannot be mixed")
    with gn.backends.use("numpy"):
        y = gn.asarray([0, 1, 1])
    with gn.backends.use(gn.backends.available()[1]):
        z = gn.asarray(Z)
    with pytest.raises(DeviceError, match="on different devices"):
        nn.cross_entropy(z, y)
