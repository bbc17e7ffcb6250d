"""model.summary(): shapes, parameters and multiply-adds, as data and as a table."""

from __future__ import annotations

from typing import Any

import gradnet as gn
from gradnet import nn

TABLE = """\
layer                                          output shape  parameters  multiply-adds
--------------------------------------------------------------------------------------
layers.0  Linear(784, 128, activation='relu')  (n, 128)         100,480        100,352
layers.1  Dropout(0.2)                         (n, 128)
layers.2  Linear(128, 10)                      (n, 10)            1,290          1,280
--------------------------------------------------------------------------------------
total                                                           101,770        101,632
"""


def test_a_table_of_the_contracts_model() -> None:
    summary = nn.MLP((784, 128, 10), dropout=0.2, output="softmax").summary()
    assert str(summary) + "\n" == TABLE
    assert repr(summary) == str(summary)
    assert (summary.parameters, summary.multiply_adds) == (101_770, 101_632)
    assert [row.output_shape for row in summary.rows] == [(128,), (128,), (10,)]


def test_shapes_from_an_input_shape_and_without_one() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.ReLU())
    assert [row.output_shape for row in model.summary((3, 4)).rows] == [(12,), (2,), (2,)]
    alone = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    unknown = alone.summary()
    assert [row.output_shape for row in unknown.rows] == [None, None]
    assert unknown.multiply_adds is None
    assert "?" in str(unknown)
    assert alone.summary(7).rows[0].output_shape == (7,)


def test_a_layer_alone_and_layers_used_twice() -> None:
    layer = nn.Linear(3, 3)
    assert [row.name for row in layer.summary().rows] == ["Linear"]
    twice = nn.Sequential(layer, layer).summary()
    assert twice.parameters == 12
    assert twice.multiply_adds == 18
    assert len(twice.rows) == 1


def test_embeddings_norms_and_skips_are_counted(backend: Any) -> None:
    model = nn.MLP((3, 4, 4, 1), norm="batch", residual=True, embeddings=[(2, 6, 5)])
    summary = model.summary()
    assert summary.multiply_adds == 7 * 4 + 16 + 4
    assert summary.parameters == sum(p.size for p in model.parameters())
    assert summary.rows[0].layer == "Embedding(6, 5)"
    assert nn.Embedding(5, 2).summary().rows[0].output_shape == (2,)


def test_a_summary_leaves_the_model_as_it_was() -> None:
    model = nn.MLP((2, 3, 1), norm="batch", dropout=0.5)
    model.layers[1].eval()
    state = gn.random.default_generator().get_state()
    before = model.layers[1].running_mean.tolist()
    model.summary()
    assert [m.training for m in model.layers] == [True, False, True, True, True]
    assert model.layers[1].running_mean.tolist() == before
    assert gn.random.default_generator().get_state() == state
    assert not any(m._hooks for m in model.modules())


def test_frozen_parameters_are_told() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    summary = model.summary()
    assert (summary.parameters, summary.trainable) == (9, 3)
    assert "of the parameters 3 are trained" in str(summary)


def test_norms_alone_know_their_width() -> None:
    for layer in (nn.LayerNorm(3), nn.LayerNorm(3, affine=False), nn.BatchNorm1d(3)):
        assert layer.summary().rows[0].output_shape == (3,)
    assert nn.LayerNorm(3, affine=False).summary().parameters == 0
