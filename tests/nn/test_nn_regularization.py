"""Penalties and the max-norm constraint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.nn import regularization


def model() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    layers[0].weight.assign_([[3.0, -0.5], [-4.0, 0.0]])
    layers[2].weight.assign_([[1.0], [2.0]])
    layers[2].bias.assign_(100.0)
    return layers


def test_penalties_of_a_model_count_its_weights_alone(backend: Any) -> None:
    found = model()
    assert regularization.l1(found).item() == 10.5
    assert regularization.l2(found).item() == 9 + 0.25 + 16 + 1 + 4
    both = regularization.penalty(found, l1=0.1, l2=0.01)
    assert both.item() == pytest.approx(1.05 + 0.3025, rel=1e-6)
    assert regularization.penalty(found, l2=2.0).item() == pytest.approx(60.5)
    assert regularization.penalty(found, l1=2.0).item() == 21


def test_penalties_of_given_parameters_count_all(backend: Any) -> None:
    found = model()
    assert regularization.l1(found[2].bias).item() == 100
    assert regularization.l2([found[2].weight, found[2].bias]).item() == 10005


def test_penalties_differentiate(backend: Any) -> None:
    found = model()
    regularization.penalty(found, l1=1.0, l2=0.5).backward()
    weight = found[0].weight
    assert weight.grad.tolist() == [[1 + 3, -1 - 0.5], [-1 - 4, 0]]
    assert found[0].bias.grad is None
    w = np.random.default_rng(0).normal(size=(3, 2))
    gn.gradcheck(lambda w: regularization.penalty([w], l1=0.3, l2=0.7), w)


def test_max_norm_scales_columns_that_are_too_long_and_no_others(backend: Any) -> None:
    found = model()
    memory = found[0].weight.array
    regularization.max_norm_(found, 2.5)
    np.testing.assert_allclose(
        found[0].weight.detach().numpy(), [[1.5, -0.5], [-2.0, 0.0]], rtol=1e-6
    )
    assert found[0].weight.array is memory
    assert found[2].weight.tolist() == [[1], [2]]
    assert found[2].bias.tolist() == [100]
    assert found[0].weight.requires_grad


def test_max_norm_leaves_zeros_alone(backend: Any) -> None:
    w = nn.Parameter(gn.zeros((2, 2)))
    regularization.max_norm_(w, 1.0)
    assert w.tolist() == [[0, 0], [0, 0]]
