"""Bad calls: each has its type of error, and a message that names what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import optim
from gradnet.errors import DTypeError, GraphError


def leaf(*shape: int, dtype: Any = np.float32) -> gn.Tensor:
    return gn.asarray(np.ones(shape, dtype), requires_grad=True)


W, B = leaf(2, 3), leaf(3)


def adam(**given: Any) -> optim.Optimizer:
    return optim.Adam([leaf(2)], **given)


def set_later(name: str, value: Any) -> None:
    adam().groups[0][name] = value


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # Parameters
    (lambda: optim.SGD([]), ValueError, "SGD got no parameters"),
    (lambda: optim.SGD(W), TypeError, "got Tensor; put it in a list"),
    (lambda: optim.SGD(3), TypeError, "list of tensors or of group dicts, got int"),
    (lambda: optim.SGD({"params": [W]}), TypeError, "got dict; put it in a list"),
    (lambda: optim.SGD(["w"]), TypeError, "parameter 0 of group 0 is a str; expected a Tensor"),
    (lambda: optim.SGD([("w", W)]), TypeError, "parameter 0 of group 0 is a tuple"),
    (lambda: optim.SGD([W, {"params": [B]}]), TypeError, "not both in one list"),
    (lambda: optim.SGD([W, B, W]), ValueError, r"parameter 2 .* \(2, 3\), is in this group"),
    (
        lambda: optim.SGD([{"params": [W]}, {"params": [B, W]}]),
        ValueError,
        "parameter 1 of group 1, .* is in group 0 already",
    ),
    (lambda: optim.SGD([W * 2]), GraphError, "was computed from other tensors"),
    (lambda: optim.SGD([gn.ones((4,))]), GraphError, r"shape \(4,\), does not require a gradient"),
    (lambda: optim.SGD([leaf(2, dtype=np.complex64)]), DTypeError, "dtype complex64"),
    (lambda: optim.SGD([{"lr": 0.1}]), ValueError, "needs its parameters under 'params'"),
    (lambda: optim.SGD([{"params": []}]), ValueError, "group 0 has no parameters"),
    (lambda: optim.SGD([{"params": W}]), TypeError, "is a list of tensors, got Tensor"),
    (lambda: optim.SGD([{"params": [W], "rate": 1}]), ValueError, "no setting 'rate'"),
    (lambda: optim.SGD([{"params": [W], "momentun": 1}]), ValueError, "did you mean momentum"),
    # Settings
    (lambda: adam(lr=-0.1), ValueError, r"Adam: lr must be a number of at least 0, got -0\.1"),
    (lambda: adam(lr=float("nan")), ValueError, "lr must be .* got nan"),
    (lambda: adam(lr=float("inf")), ValueError, "lr must be .* got inf"),
    (lambda: adam(lr="fast"), ValueError, "lr must be .* got 'fast'"),
    (lambda: adam(lr=True), ValueError, "lr must be .* got True"),
    (lambda: adam(betas=(0.9, 1.0)), ValueError, r"betas must be a pair .* got \(0\.9, 1\.0\)"),
    (lambda: adam(betas=0.9), ValueError, "betas must be a pair"),
    (lambda: adam(betas=(0.9,)), ValueError, "betas must be a pair"),
    (lambda: adam(eps=-1e-8), ValueError, "eps must be"),
    (lambda: adam(weight_decay=-1), ValueError, "weight_decay must be"),
    (lambda: optim.SGD([W], momentum=1.0), ValueError, r"momentum must be a number in \[0, 1\)"),
    (lambda: optim.SGD([W], nesterov=True), ValueError, "nesterov=True needs a momentum above 0"),
    (lambda: optim.SGD([W], nesterov=1), ValueError, "nesterov must be True or False, got 1"),
    (lambda: optim.RMSprop([W], alpha=-0.1), ValueError, "alpha must be"),
    (lambda: optim.RMSprop([W], centered=True, momentum=0.5), ValueError, "choose one of them"),
    (lambda: optim.Adagrad([W], lr_decay=-1), ValueError, "lr_decay must be"),
    (lambda: optim.Nadam([W], momentum_decay=-1), ValueError, "momentum_decay must be"),
    (lambda: optim.Lion([W], betas="ab"), ValueError, "betas must be"),
    (lambda: optim.LBFGS([W], lr=0), ValueError, "lr must be a number above 0, got 0"),
    (lambda: optim.LBFGS([W], history_size=0), ValueError, "an integer of at least 1, got 0"),
    (lambda: optim.LBFGS([W], max_iterations=2.5), ValueError, r"an integer .* got 2\.5"),
    (lambda: optim.LBFGS([W], max_evaluations=0), ValueError, "at least 1, or None, got 0"),
    (
        lambda: optim.LBFGS([{"params": [W]}, {"params": [B]}]),
        ValueError,
        "takes one group, got 2",
    ),
    (
        lambda: optim.LBFGS([leaf(2), leaf(2, dtype=np.float64)]),
        DTypeError,
        "got float32 on cpu and float64 on cpu",
    ),
    (
        lambda: optim.ConjugateGradient([W], method="newton"),
        ValueError,
        "'polak-ribiere' or 'fletcher-reeves', got 'newton'",
    ),
    (lambda: optim.LBFGS([W]).step(), TypeError, "LBFGS.step needs a closure"),
    (lambda: optim.LBFGS([W]).step(lambda: None), TypeError, "closure returned None"),
    # Settings between steps
    (lambda: set_later("lr", -1), ValueError, "lr must be .* got -1"),
    (lambda: set_later("params", []), ValueError, "stay as they are; use add_group"),
    (lambda: set_later("learning_rate", 0.1), ValueError, "no setting 'learning_rate'"),
    (lambda: setattr(adam(), "lr", "x"), ValueError, "lr must be .* got 'x'"),
    (lambda: adam().add_group({"params": [1]}), TypeError, "parameter 0 of group 1 is a int"),
    # Names
    (lambda: optim.create("adan", [W]), ValueError, "no optimizer is called 'adan': did you mean"),
    (lambda: optim.create("adam", [W], momentum=1), ValueError, "has no setting 'momentum'"),
    (lambda: optim.schedule("cosin", adam()), ValueError, "no schedule is called 'cosin'"),
    (lambda: optim.schedule("step", adam(), every=3), ValueError, "has no setting 'every'"),
    # Schedules
    (lambda: optim.ConstantSchedule([W]), TypeError, "takes an Optimizer first, got list"),
    (lambda: optim.StepSchedule(adam()), ValueError, "either size or milestones"),
    (lambda: optim.StepSchedule(adam(), 3, milestones=[4]), ValueError, "either size or"),
    (lambda: optim.StepSchedule(adam(), 0), ValueError, "size must be an integer of at least 1"),
    (lambda: optim.StepSchedule(adam(), milestones=[5, 5]), ValueError, "must increase"),
    (lambda: optim.ExponentialSchedule(adam(), 0), ValueError, r"gamma must be .* \(0, 1\]"),
    (lambda: optim.CosineSchedule(adam(), 2.5), ValueError, "total_steps must be an integer"),
    (lambda: optim.CosineSchedule(adam(), 9, min_lr=-1), ValueError, "min_lr must be"),
    (lambda: optim.CosineSchedule(adam(), 9, per="day"), ValueError, "'step' or 'epoch'"),
    (lambda: optim.OneCycleSchedule(adam(), 9, rise=1), ValueError, r"rise must be .* \(0, 1\)"),
    (
        lambda: optim.OneCycleSchedule(adam(), 9, momentum=0.9),
        ValueError,
        "momentum must be a pair",
    ),
    (
        lambda: optim.OneCycleSchedule(optim.Adagrad([leaf(1)]), 9, momentum=(0.8, 0.9)),
        ValueError,
        "Adagrad has neither momentum nor betas",
    ),
    (lambda: optim.PlateauSchedule(adam(), mode="least"), ValueError, "'min' or 'max'"),
    (lambda: optim.PlateauSchedule(adam()).step(), ValueError, "needs the value to watch"),
    (lambda: optim.WarmUpSchedule(adam(), 0), ValueError, "steps must be an integer"),
    (lambda: optim.WarmUpSchedule(adam(), 5, then="cosine"), TypeError, "then must be a Schedule"),
    (
        lambda: optim.WarmUpSchedule(adam(), 5, then=optim.ConstantSchedule(adam())),
        ValueError,
        "of the same optimizer",
    ),
    # Clipping
    (lambda: optim.clip_grad_norm([W], 0), ValueError, "max_norm must be a number above 0, got 0"),
    (lambda: optim.clip_grad_norm([W], float("nan")), ValueError, "max_norm must be"),
    (lambda: optim.clip_grad_value([W], -1), ValueError, "max_value must be"),
    (lambda: optim.clip_grad_norm(W, 1), TypeError, "a list of parameters or an optimizer"),
    (lambda: optim.clip_grad_value([1], 1), TypeError, "parameter 0 is a int; expected a Tensor"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[row[2] for row in BAD])
def test_bad_calls(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_failed_group_is_not_added() -> None:
    optimizer = adam()
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.add_group({"params": [leaf(2)], "lr": -1})
    assert len(optimizer.groups) == 1


def test_a_bad_value_set_later_leaves_the_good_one() -> None:
    optimizer = adam(lr=0.5)
    with pytest.raises(ValueError, match="lr must be"):
        optimizer.groups[0]["lr"] = -2
    assert optimizer.lr == 0.5


def test_a_model_given_for_its_parameters_gets_a_hint() -> None:
    class Model:
        def parameters(self) -> list[gn.Tensor]:
            return [W]

    with pytest.raises(TypeError, match=r"got Model; pass its parameters\(\)"):
        optim.Adam(Model())  # type: ignore[arg-type]


def test_names_are_found_however_they_are_written() -> None:
    assert type(optim.create("L-BFGS", [leaf(1)])) is optim.LBFGS
    assert type(optim.create("AdamW", [leaf(1)])) is optim.AdamW
    assert type(optim.create("Conjugate Gradient", [leaf(1)])) is optim.ConjugateGradient
    assert type(optim.schedule("one-cycle", adam(), total_steps=9)) is optim.OneCycleSchedule
    assert type(optim.schedule("warmup", adam(), steps=9)) is optim.WarmUpSchedule


def test_a_new_optimizer_is_found_by_its_name() -> None:
    class Reversed(optim.SGD):
        """Gradient ascent."""

        name = "reversed"

        def scalars(self, group: Any, t: int) -> tuple[float, ...]:
            lr, *rest = super().scalars(group, t)
            return (-lr, *rest)

    assert "reversed" in optim.names()
    p = leaf(1)
    optimizer = optim.create("reversed", [p], lr=0.5)
    p.grad = gn.ones((1,))
    optimizer.step()
    assert float(p.detach()) == 1.5


@pytest.mark.parametrize("name", optim.names())
def test_every_optimizer_shows_its_update_and_its_source(name: str) -> None:
    text = type(optim.create(name, [leaf(1)])).__doc__ or ""
    assert "p = p " in text
    assert any(year in text for year in ("19", "20"))
