"""What kernels of a captured step make on their way: fewer launches, and the bits of all calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes.cupy_over_numpy import THREADS
from fakes.steps import CLASSES, FEATURES, batch, bits, replay_of, training
from gradnet.kernels import fusion
from gradnet.kernels.cuda_backend import CudaBackend
from gradnet.kernels.cuda_computed import Made
from gradnet.kernels.cuda_rows import sums_losses
from gradnet.kernels.cuda_templates.computed import agree

import gradnet as gn
from gradnet import binding, formulas, nn, optim
from gradnet.program.calls import Call


def calls(captured: Any) -> list[Call]:
    found: list[Call] = replay_of(captured)._program.calls
    return found


def names(captured: Any) -> list[str]:
    return [call.method for call in calls(captured)]


def same(function: Callable[..., Any], *arguments: gn.Tensor) -> Any:
    """The captured function, which gives the bits that the function gives."""

    def run(wrapped: Callable[..., Any]) -> list[bytes]:
        found: list[bytes] = []
        for _ in range(2):
            results = wrapped(*arguments)
            results = results if isinstance(results, tuple) else (results,)
            found += [x.numpy().tobytes() for x in results]
        return found

    captured = gn.capture(function)
    assert run(captured) == run(function)
    return captured


def table(*shape: int, dtype: Any = gn.float32) -> gn.Tensor:
    x = np.random.default_rng(7).standard_normal(shape)
    return gn.astype(gn.asarray(x.astype(np.float32)), dtype)


# Steps of training

STEPS: tuple[dict[str, Any], ...] = (
    {"dropout": 0.3},
    {"dropout": 0.3, "precision": "bfloat16"},
    {"dropout": 0.3, "norm": "batch", "precision": "float16"},
    {"norm": "batch"},
    {"norm": "batch", "activation": "gelu"},
    {"norm": "batch", "activation": "leaky_relu"},
    {"norm": "layer", "activation": "tanh", "precision": "bfloat16"},
    {"norm": "layer", "activation": "prelu", "dropout": 0.3},
    {"activation": "sigmoid", "clip": 0.1},
    {"norm": "layer", "activation": "elu", "clip": 0.1, "optimizer": "sgd"},
)


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_steps(graphs: CudaBackend, number: int) -> None:
    given, rows = STEPS[number], (2, 7, 40)[number % 3]
    model, _, step = training(**given)
    expected = bits(model, [step(*batch(i, rows)) for i in range(2)])
    model, _, recorded = training(**given)
    captured = gn.capture(recorded)
    assert bits(model, [captured(*batch(i, rows)) for i in range(2)]) == expected
    left = names(captured)
    assert "random" not in left
    assert left.count("drawn") == bool(given.get("dropout"))
    # An activation is its norm's, and its gradient's slope the gradient's of that.
    if "norm" in given and given.get("activation") != "prelu":
        (forward,) = (call for call in calls(captured) if call.method == "normalize")
        (backward,) = (call for call in calls(captured) if call.method == "normalize_backward")
        assert forward.kwargs["following"].formula.__name__ == given.get("activation", "relu")
        assert isinstance(backward.args[0], Made)


@pytest.mark.parametrize("rows", [1, 30])
def test_scaled_losses(graphs: CudaBackend, rows: int) -> None:
    """The scale, the rounding, the sum of the losses and the bias's gradient, by one kernel."""

    def run(wrap: Callable[[Any], Any]) -> tuple[list[bytes], Any]:
        model = nn.MLP((FEATURES, 6, CLASSES), output="softmax", precision="float16", seed=0)
        scale = optim.LossScale(made := optim.Adam(model.parameters(), lr=0.05))

        def step(x: gn.Tensor, y: gn.Tensor) -> gn.Tensor:
            loss = nn.cross_entropy(model(x), y, label_smoothing=0.1)
            scale(loss).backward()
            scale.step()
            made.zero_grad()
            return loss

        taken = wrap(step)
        return bits(model, [taken(*batch(i, rows)) for i in range(2)]), taken

    found, captured = run(gn.capture)
    assert found == run(lambda step: step)[0]
    (losses,) = (call for call in calls(captured) if call.method == "softmax_cross_entropy")
    assert losses.kwargs.keys() == {"times", "rounded", "total", "columns"}
    # What is left sums the hidden layer's gradients.
    sums = [call.outs[0].shape for call in calls(captured) if call.method == "reduce"]
    assert sums == [(6,)]


def test_losses_of_many_rows_are_added_by_launches_of_their_own(graphs: CudaBackend) -> None:
    logits = table(9, 3)
    for rows, joins in ((9, True), (THREADS * 8, False)):
        y = gn.asarray(np.arange(rows) % 3)
        x = gn.concat([logits] * THREADS)[:rows]
        captured = same(lambda x, y: nn.cross_entropy(x, y), x, y)
        assert sums_losses(rows, 3) is joins
        assert ("reduce" in names(captured)) is not joins


def test_losses_that_are_looked_at_between(graphs: CudaBackend) -> None:
    x, y = table(9, 3), gn.asarray(np.arange(9) % 3)

    def function(x: gn.Tensor, y: gn.Tensor) -> Any:
        each = nn.cross_entropy(x, y, reduction="none")
        return gn.sum(each), each, gn.sum(each * 2.0)

    captured = same(function, x, y)
    # They are added up where they are made; the second sum computes its terms.
    assert names(captured) == ["softmax_cross_entropy", "reduce"]


# Sums of what is computed


@pytest.mark.parametrize("dtype", [gn.float32, gn.float16])
@pytest.mark.parametrize("axis", [None, 0, 1], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (70, 9), (0, 4)], ids=str)
def test_sums_of_maps(graphs: CudaBackend, shape: Any, axis: Any, dtype: Any) -> None:
    x = table(*shape, dtype=dtype)
    captured = same(lambda x: gn.sum(gn.square(x), axis=axis), x)
    assert names(captured) == ["reduce"] or not x.size
    if dtype != gn.float16:  # whose chains round once
        captured = same(lambda x: gn.sum(gn.where(x > 0.5, x * x, 2.0), axis=axis), x)
        assert names(captured) == ["reduce"] or not x.size


def test_maps_that_are_no_operands(graphs: CudaBackend) -> None:
    x, row = table(6, 4), table(4)
    whole = ["map", "reduce"]
    # Asked for, of another layout, of one element, made by functions, of a number that changes.
    assert names(same(lambda x: (gn.sum(y := gn.exp(x)), y), x)) == whole
    assert names(same(lambda x, row: gn.sum(gn.exp(x + row)), x, row)) == whole
    assert names(same(lambda x: gn.sum(gn.exp(x[:, ::2])), x)) == whole
    assert "map" in names(same(lambda x: gn.sum(gn.exp(x) // 2.0), x))
    assert names(same(lambda x: gn.max(gn.exp(x)), x)) == whole
    assert names(same(lambda x: gn.sum(gn.permute_dims(gn.exp(x), (1, 0)), axis=0), x)) == whole
    assert names(same(lambda x: gn.sum(gn.exp(x)), x)) == ["reduce"]


def test_an_operand_that_is_overwritten_between(graphs: CudaBackend) -> None:
    kept = table(6, 4)

    def function(x: gn.Tensor) -> gn.Tensor:
        y = gn.exp(kept * 1.5)
        kept.assign_(x * 0.5)
        return gn.sum(y * 1.0)

    captured = gn.capture(function)
    found = [captured(table(6, 4)).item() for _ in range(2)]
    kept.assign_(table(6, 4))
    assert found == [function(table(6, 4)).item() for _ in range(2)]
    assert found[0] != found[1]


def test_short_formulas_are_computed_again(graphs: CudaBackend) -> None:
    x, y, kept = table(6, 4), table(4, 6).mT, table(6, 4)

    def squared(x: gn.Tensor, y: gn.Tensor) -> Any:
        between = x - y
        return gn.sum(gn.square(between)), 2.0 * between

    def scaled(x: gn.Tensor) -> gn.Tensor:
        return x * (1.0 / (gn.sqrt(gn.sum(x * x)) + 1e-6))

    def overwritten(x: gn.Tensor) -> Any:
        between = x - kept
        first = gn.exp(between) * 1.5
        kept.assign_(x * 0.5)
        return first, gn.tanh(between) * 2.0

    def long(x: gn.Tensor) -> Any:
        between = gn.exp(x)
        return gn.square(between), between * 2.0

    assert sorted(names(same(squared, x, y + 0.0))) == ["map", "reduce"]
    assert names(same(scaled, x)) == ["reduce", "map"]
    assert names(same(long, x)) == ["map"] * 3
    captured = gn.capture(overwritten)
    found = [z.numpy().tobytes() for _ in range(2) for z in captured(x)]
    kept.assign_(table(6, 4))
    assert found == [z.numpy().tobytes() for _ in range(2) for z in overwritten(x)]
    # By a number that the result's own memory holds.
    within = table(6, 4)

    def first(x: gn.Tensor) -> gn.Tensor:
        within.assign_(x * (1.0 / (within[:1, :1] + 3.0)))
        return within + 0.0

    captured = gn.capture(first)
    found = [captured(x).numpy().tobytes() for _ in range(2)]
    within.assign_(table(6, 4))
    assert found == [first(x).numpy().tobytes() for _ in range(2)]


# Masks


def test_masks(graphs: CudaBackend) -> None:
    x = table(5, 9)

    def run(wrap: Callable[[Any], Any], function: Callable[..., Any]) -> tuple[list[bytes], Any]:
        gn.random.seed(2)
        taken = wrap(function)
        return [z.numpy().tobytes() for _ in range(3) for z in taken(x)], taken

    def masked(x: gn.Tensor) -> Any:
        mask = gn.random.uniform(x.shape) < 0.5
        return gn.where(mask, x * 2.0, 0.0), gn.sum(gn.where(mask, x, 1.0))

    def looked_at(x: gn.Tensor) -> Any:
        drawn = gn.random.uniform(x.shape)
        return gn.where(drawn < 0.5, x, 0.0), drawn

    def by_rows(x: gn.Tensor) -> Any:
        return (gn.where(gn.random.uniform((9,)) < 0.5, x, 0.0),)

    def compared(x: gn.Tensor) -> Any:
        return (gn.where(gn.random.uniform(x.shape) < x, 1.0, x),)

    for function, found in (
        (masked, ["drawn", "reduce"]),
        (looked_at, ["random", "map"]),
        (by_rows, ["drawn", "map"]),
        (compared, ["random", "map"]),
    ):
        made, captured = run(gn.capture, function)
        assert made == run(lambda function: function, function)[0], function
        left = [name for name in names(captured) if name != "cast"]
        assert left[: len(found)] == found, function


# Formulas


def test_what_a_formula_looks_at() -> None:
    assert fusion.looks_at(formulas.multiply_da) == (True,)
    assert fusion.looks_at(binding.vjp(formulas.FORMULAS["where_da"])) == (True, True, False)
    assert fusion.looks_at(formulas.FORMULAS["where"]) == (True, True, True)
    assert fusion.looks_at(formulas.FORMULAS["ones_like"]) == (False,)


def test_formulas_that_share_a_name() -> None:
    first = binding.source(binding.vjp(formulas.FORMULAS["tanh_dx"]))
    second = binding.source(binding.vjp(formulas.FORMULAS["relu_dx"]))
    other = second._replace(text=second.text.replace("a * b", "b * a"))
    assert agree(first, second, first)
    assert not agree(first, other)
