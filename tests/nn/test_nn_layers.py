"""Linear, Dropout, norms, Embedding, containers: values, gradients, PyTorch as a second oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import formulas, nn, random

RNG = np.random.default_rng(3)


def smooth(name: str) -> bool:
    row = formulas.row(name)
    return not row.kinks and row.derivatives[0] is not None


def values(*shape: int, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(dtype)


def close(ours: Any, theirs: Any, tolerance: float = 1e-10) -> None:
    host = ours.detach().numpy()
    other = theirs if isinstance(theirs, np.ndarray) else theirs.detach().numpy()
    np.testing.assert_allclose(host, other, rtol=tolerance, atol=tolerance)


# Linear


@pytest.mark.parametrize("shape", [(5, 3), (3,), (2, 4, 3), (0, 3)])
def test_linear_is_a_product_and_a_shift(shape: tuple[int, ...], backend: Any) -> None:
    layer = nn.Linear(3, 2, dtype=gn.float64)
    layer.load_state_dict({"weight": values(3, 2), "bias": values(2)})
    x = values(*shape)
    close(layer(gn.asarray(x)), x @ layer.weight.detach().numpy() + layer.bias.detach().numpy())


@pytest.mark.parametrize("name", formulas.activations())
def test_linear_fuses_every_activation(name: str, backend: Any) -> None:
    layer = nn.Linear(4, 3, activation=name, dtype=gn.float64)
    plain = nn.Linear(4, 3, dtype=gn.float64)
    plain.load_state_dict(layer.state_dict())
    x = gn.asarray(values(6, 4))
    close(layer(x), getattr(nn, name)(plain(x)), 1e-14)
    weight, bias = layer.weight.detach(), gn.asarray(values(3))

    def run(x: Any, weight: Any, bias: Any) -> Any:
        return gn.ops.linear(x, weight, bias, activation=name, **layer.operands)

    gn.gradcheck(run, x, weight, bias, order=2 if smooth(name) else 1)


def test_linear_without_bias_and_with_settings(backend: Any) -> None:
    layer = nn.Linear(2, 3, bias=False, activation="leaky_relu", operands={"alpha": 0.5})
    layer.weight.assign_(-1.0)
    assert layer.bias is None
    assert layer(gn.ones((1, 2))).tolist() == [[-1, -1, -1]]
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_sequential_fuses_with_the_same_results(backend: Any) -> None:
    x = gn.asarray(values(5, 4, dtype=np.float32))
    for name in ("relu", "sigmoid", "gelu", "leaky_relu", "absolute"):
        linear = nn.Linear(4, 3)
        act = nn.activation(name)
        model = nn.Sequential(linear, act)
        fused = model(x)
        apart = act(linear(x))
        assert fused.tolist() == apart.tolist()
        gradients = []
        for y in (fused, apart):
            linear.zero_grad()
            y.sum().backward()
            gradients.append([p.grad.numpy().copy() for p in linear.parameters()])
        for ours, theirs in zip(*gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_sequential_does_not_fuse_what_is_watched() -> None:
    linear, act = nn.Linear(2, 2), nn.ReLU()
    model = nn.Sequential(linear, act)
    seen: list[Any] = []
    remove = linear.register_forward_hook(lambda m, inputs, y: seen.append(y))
    x = gn.ones((1, 2))
    watched = model(x)
    assert seen[0].tolist() == linear(x).tolist()
    remove()
    assert model(x).tolist() == watched.tolist()
    assert len(seen) == 2


def test_sequential_is_a_sequence() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3
    assert isinstance(model[1], nn.ReLU)
    assert model[-1].outputs == 1
    head = model[:2]
    assert isinstance(head, nn.Sequential)
    assert head[0] is model[0]
    model.append(nn.Tanh())
    assert [type(layer).__name__ for layer in model] == ["Linear", "ReLU", "Linear", "Tanh"]
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


# Dropout


def test_dropout_drops_and_keeps_the_mean(backend: Any) -> None:
    random.seed(0)
    layer = nn.Dropout(0.25)
    y = layer(gn.ones((200, 200))).numpy()
    kept = y != 0
    np.testing.assert_allclose(y[kept], np.float32(1 / 0.75))
    # Five standard deviations of a mean of 40,000 draws.
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / y.size)
    assert abs(y.mean() - 1) < 0.02


def test_dropout_masks_are_the_same_for_a_seed_whatever_the_backend_and_dtype(
    backend: Any,
) -> None:
    random.seed(5)
    mask = nn.Dropout(0.5)(gn.ones((4, 6))).numpy() != 0
    with gn.backends.use("numpy"):
        random.seed(5)
        other = nn.Dropout(0.5)(gn.ones((4, 6), dtype=gn.float64)).numpy() != 0
    np.testing.assert_array_equal(mask, other)


def test_dropout_passes_the_gradient_of_what_it_kept(backend: Any) -> None:
    random.seed(1)
    x = gn.asarray(np.ones((3, 8)), requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == y.tolist()
    assert 0 < np.count_nonzero(y.detach().numpy()) < 24


def test_dropout_hides_what_it_drops(backend: Any) -> None:
    random.seed(2)
    x = gn.asarray([np.inf] * 50, requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.backward(gn.ones(50))
    assert not np.isnan(y.detach().numpy()).any()
    assert x.grad is not None
    assert set(x.grad.tolist()) == {0.0, 2.0}


def test_dropout_rests_in_evaluation_and_at_zero() -> None:
    x = gn.ones(4)
    state = random.default_generator().get_state()
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert random.default_generator().get_state() == state


# Norms


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_agrees_with_pytorch(affine: bool, backend: Any) -> None:
    torch = pytest.importorskip("torch")
    ours = nn.BatchNorm1d(3, momentum=0.3, affine=affine, dtype=gn.float64)
    theirs = torch.nn.BatchNorm1d(3, momentum=0.3, affine=affine).double()
    if affine:
        weight, bias = values(3), values(3)
        ours.load_state_dict({"weight": weight, "bias": bias}, strict=False)
        theirs.weight.data, theirs.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    for _ in range(3):
        x = values(6, 3) * 4 + 2
        a = gn.asarray(x, requires_grad=True)
        b = torch.from_numpy(x).requires_grad_()
        close(ours(a), theirs(b))
        g = values(6, 3)
        ours(a).backward(gn.asarray(g))
        theirs(b).backward(torch.from_numpy(g))
        close(a.grad, b.grad.numpy())
    close(ours.running_mean, theirs.running_mean)
    close(ours.running_var, theirs.running_var)
    ours.eval()
    theirs.eval()
    close(ours(gn.asarray(x)), theirs(torch.from_numpy(x)))


@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 3), (3,)])
def test_layer_norm_agrees_with_pytorch(shape: tuple[int, ...], backend: Any) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = nn.LayerNorm(3, eps=1e-3, dtype=gn.float64), torch.nn.LayerNorm(3, eps=1e-3)
    theirs = theirs.double()
    weight, bias = values(3), values(3)
    ours.load_state_dict({"weight": weight, "bias": bias})
    theirs.weight.data, theirs.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    x, g = values(*shape), values(*shape)
    a, b = gn.asarray(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    y = ours(a)
    close(y, theirs(b))
    y.backward(gn.asarray(g))
    theirs(b).backward(torch.from_numpy(g))
    close(a.grad, b.grad.numpy())
    close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm])
def test_norms_differentiate_twice(kind: Any, backend: Any) -> None:
    layer = kind(3, dtype=gn.float64)
    gn.gradcheck(layer, values(5, 3), order=2)
    gn.gradcheck(layer.eval(), values(5, 3), order=2)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm])
def test_norms_sum_16_bit_floats_in_float32(kind: Any, backend: Any) -> None:
    x = gn.asarray(values(500, 4) + 30, dtype=gn.float16)
    y = kind(4, dtype=gn.float16)(x)
    assert y.dtype == gn.float16
    full = kind(4)(x.astype(gn.float32))
    np.testing.assert_allclose(y.detach().numpy(), full.detach().numpy(), atol=2e-3)


def test_integers_are_normalised_in_the_default_float() -> None:
    assert nn.LayerNorm(2, affine=False)(gn.asarray([[1, 3]])).dtype == gn.float32


# Embedding


def test_embedding_gathers_and_adds_up_gradients(backend: Any) -> None:
    layer = nn.Embedding(4, 2, dtype=gn.float64)
    table = values(4, 2)
    layer.load_state_dict({"weight": table})
    codes = np.array([[1, 3, 1], [0, 1, 3]])
    y = layer(codes)
    close(y, table[codes])
    g = values(2, 3, 2)
    y.backward(gn.asarray(g))
    expected = np.zeros((4, 2))
    np.add.at(expected, codes, g)
    close(layer.weight.grad, expected)


def test_embedding_of_no_codes() -> None:
    assert nn.Embedding(3, 2)(gn.zeros((0, 4), dtype=gn.int64)).shape == (0, 4, 2)


def test_a_padding_row_is_zero_and_stays(backend: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = nn.Embedding(3, 2, padding=2, dtype=gn.float64)
    assert layer.weight[2].tolist() == [0, 0]
    reference = torch.nn.Embedding(3, 2, padding_idx=2).double()
    reference.weight.data = torch.from_numpy(layer.weight.detach().numpy().copy())
    codes = np.array([2, 0, 2, 1])
    (layer(codes) * 3).sum().backward()
    (reference(torch.from_numpy(codes)) * 3).sum().backward()
    close(layer.weight.grad, reference.weight.grad)


def test_tabular_input_replaces_codes_by_vectors(backend: Any) -> None:
    front = nn.TabularInput(4, [(2, 5, 2), (0, 3)])
    assert front.width == 2 + 2 + 3
    x = gn.asarray([[1.0, 0.5, 4.0, -2.0], [2.0, 1.5, 0.0, 3.0]])
    y = front(x).detach().numpy()
    first, second = (embedding.weight.detach().numpy() for embedding in front.vectors)
    expected = [[0.5, -2, *first[4], *second[1]], [1.5, 3, *first[0], *second[2]]]
    np.testing.assert_array_equal(y, np.array(expected, np.float32))
    front(x).sum().backward()
    assert front.vectors[1].weight.grad.tolist() == [[0] * 3, [1] * 3, [1] * 3]


def test_tabular_input_of_codes_alone() -> None:
    assert nn.TabularInput(1, [(0, 4, 3)])(gn.asarray([[0.0], [3.0]])).shape == (2, 3)


# Shapes and containers


def test_flatten(backend: Any) -> None:
    x = gn.ones((2, 3, 4))
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0)(x).shape == (24,)
    assert nn.Flatten(2)(gn.ones((2, 3))).shape == (2, 3, 1)


def test_residual_adds_its_input_or_a_projection(backend: Any) -> None:
    block = nn.Linear(3, 3)
    x = gn.asarray(values(2, 3, dtype=np.float32))
    close(nn.Residual(block)(x), x.numpy() + block(x).detach().numpy(), 1e-6)
    wide, projection = nn.Linear(3, 5), nn.Linear(3, 5, bias=False)
    y = nn.Residual(wide, projection)(x)
    close(y, wide(x).detach().numpy() + projection(x).detach().numpy(), 1e-6)
