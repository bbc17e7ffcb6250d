"""Losses: values and gradients against PyTorch and formulas, weights, reductions, gradcheck."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import nn
from gradnet.nn import likelihoods, losses

RNG = np.random.default_rng(11)
N, K = 6, 4
LOGITS = RNG.normal(size=(N, K)) * 2
CLASSES = np.array([0, 3, 1, 1, 2, 0])
SOFT = RNG.dirichlet(np.ones(K), size=N)
COLUMN = RNG.normal(size=N) * 2
NUMBERS = RNG.normal(size=(N, 2))
BITS = np.array([0, 1, 1, 0, 1, 0])
SIGNS = 2 * BITS - 1
MIXED = RNG.normal(size=(N, 12))
COUNTS = RNG.poisson(2.0, size=(N, 2))
WEIGHTS = np.array([0.5, 2.0, 1.0, 0.0, 3.0, 1.5])

# A call of every loss: name, outputs, targets, settings.
CASES: list[tuple[str, Any, Any, dict[str, Any]]] = [
    ("cross_entropy", LOGITS, CLASSES, {}),
    ("cross_entropy", LOGITS, CLASSES, {"label_smoothing": 0.1}),
    ("cross_entropy", LOGITS, SOFT, {}),
    ("cross_entropy", LOGITS, SOFT, {"label_smoothing": 0.2}),
    ("binary_cross_entropy", COLUMN, BITS, {}),
    ("binary_cross_entropy", COLUMN, BITS / 1.5, {}),
    ("binary_cross_entropy", COLUMN, BITS, {"label_smoothing": 0.1}),
    ("binary_cross_entropy", NUMBERS, NUMBERS > 0, {}),
    ("mse", NUMBERS, NUMBERS[::-1], {}),
    ("mae", NUMBERS, NUMBERS[::-1], {}),
    ("huber", NUMBERS, NUMBERS[::-1], {"delta": 0.7}),
    ("quantile", NUMBERS, NUMBERS[::-1], {"q": 0.2}),
    ("quantile", LOGITS, NUMBERS[::-1], {"q": (0.1, 0.7)}),
    ("quantile", LOGITS, COLUMN, {"q": (0.1, 0.2, 0.7, 0.9)}),
    ("gaussian_nll", LOGITS, NUMBERS, {}),
    ("mixture_nll", MIXED, COLUMN, {}),
    ("mixture_nll", MIXED[:, :10], NUMBERS, {}),
    ("poisson_nll", NUMBERS, COUNTS, {}),
    ("hinge", COLUMN, SIGNS, {}),
    ("hinge", LOGITS, CLASSES, {}),
    ("hinge", LOGITS, CLASSES, {"multiclass": "weston_watkins"}),
    ("perceptron", COLUMN, SIGNS, {}),
    ("perceptron", LOGITS, CLASSES, {}),
]
IDS = [f"{name}-{i}" for i, (name, *_) in enumerate(CASES)]
SMOOTH = {
    *("cross_entropy", "binary_cross_entropy", "mse"),
    *("gaussian_nll", "mixture_nll", "poisson_nll"),
}


def test_every_loss_is_among_the_cases() -> None:
    assert {name for name, *_ in CASES} == set(losses.names())
    assert losses.get("mse") is nn.mse
    assert losses.get(nn.mae) is nn.mae


@pytest.mark.parametrize(("name", "z", "y", "settings"), CASES, ids=IDS)
def test_derivatives(name: str, z: Any, y: Any, settings: Any, backend: Any) -> None:
    f = losses.get(name)
    order = 2 if name in SMOOTH else 1
    for given in ({}, {"sample_weight": WEIGHTS}, {"reduction": "none"}):
        call = functools.partial(f, y=y, **given, **settings)
        gn.gradcheck(call, z, order=order)


@pytest.mark.parametrize(("name", "z", "y", "settings"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_one_change_no_bit(
    name: str, z: Any, y: Any, settings: Any, dtype: str, backend: Any
) -> None:
    f = losses.get(name)
    results = []
    for weights in (None, np.ones(N)):
        x = gn.asarray(z, dtype=dtype, requires_grad=True)
        value = f(x, y, sample_weight=weights, **settings)
        assert value.dtype.name == dtype
        value.backward()
        assert x.grad is not None
        results.append((value.item(), x.grad.tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize(("name", "z", "y", "settings"), CASES, ids=IDS)
def test_an_integer_weight_repeats_the_row(name: str, z: Any, y: Any, settings: Any) -> None:
    f = losses.get(name)
    counts = np.array([1, 3, 0, 2, 1, 4])
    weighted = f(z, y, sample_weight=counts, **settings).item()
    repeated = f(np.repeat(z, counts, 0), np.repeat(y, counts, 0), **settings).item()
    assert weighted == pytest.approx(repeated, rel=1e-12)


@pytest.mark.parametrize(("name", "z", "y", "settings"), CASES, ids=IDS)
def test_reductions_agree(name: str, z: Any, y: Any, settings: Any, backend: Any) -> None:
    f = losses.get(name)
    rows = f(z, y, reduction="none", **settings).numpy()
    assert len(rows) == N
    assert f(z, y, reduction="sum", **settings).item() == pytest.approx(rows.sum(), rel=1e-12)
    assert f(z, y, **settings).item() == pytest.approx(rows.mean(), rel=1e-12)
    weighted = f(z, y, sample_weight=WEIGHTS, reduction="none", **settings).numpy()
    by_row = WEIGHTS.reshape(-1, *[1] * (rows.ndim - 1))
    np.testing.assert_allclose(weighted, rows * by_row, rtol=1e-12)
    mean = f(z, y, sample_weight=WEIGHTS, **settings).item()
    assert mean == pytest.approx((rows * by_row).sum() / (by_row + 0 * rows).sum(), rel=1e-12)
    total = f(z, y, sample_weight=WEIGHTS, reduction="sum", **settings).item()
    assert total == pytest.approx(weighted.sum(), rel=1e-12)


@pytest.mark.parametrize(("name", "z", "y", "settings"), CASES, ids=IDS)
def test_16_bit_outputs_are_computed_in_float32(
    name: str, z: Any, y: Any, settings: Any, backend: Any
) -> None:
    half = gn.asarray(z, dtype="bfloat16")
    f = losses.get(name)
    value = f(half, y, **settings)
    assert value.dtype == gn.float32
    assert value.item() == f(half.astype(gn.float32), y, **settings).item()


# Against PyTorch


def torch_pairs() -> list[tuple[str, Any, Any, str, dict[str, Any], dict[str, Any]]]:
    weight = np.array([0.5, 2.0, 1.0, 0.1])
    return [
        ("cross_entropy", LOGITS, CLASSES, "cross_entropy", {}, {}),
        ("cross_entropy", LOGITS, SOFT, "cross_entropy", {}, {}),
        ("cross_entropy", LOGITS * 100, CLASSES, "cross_entropy", {}, {}),
        *(
            (
                "cross_entropy",
                LOGITS,
                y,
                "cross_entropy",
                {"label_smoothing": 0.3},
                {"label_smoothing": 0.3},
            )
            for y in (CLASSES, SOFT)
        ),
        (
            "cross_entropy",
            LOGITS,
            CLASSES,
            "cross_entropy",
            {"class_weight": weight},
            {"weight": weight},
        ),
        (
            "binary_cross_entropy",
            COLUMN * 30,
            BITS.astype(float),
            "binary_cross_entropy_with_logits",
            {},
            {},
        ),
        (
            "binary_cross_entropy",
            NUMBERS,
            RNG.uniform(size=NUMBERS.shape),
            "binary_cross_entropy_with_logits",
            {},
            {},
        ),
        ("mse", NUMBERS, NUMBERS[::-1].copy(), "mse_loss", {}, {}),
        ("mae", NUMBERS, NUMBERS[::-1].copy(), "l1_loss", {}, {}),
        ("huber", NUMBERS, NUMBERS[::-1].copy(), "huber_loss", {"delta": 0.4}, {"delta": 0.4}),
        ("poisson_nll", NUMBERS, COUNTS, "poisson_nll_loss", {}, {}),
    ]


@pytest.mark.parametrize(("name", "z", "y", "theirs", "ours_with", "theirs_with"), torch_pairs())
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_values_and_gradients_agree_with_pytorch(
    name: str,
    z: Any,
    y: Any,
    theirs: str,
    ours_with: Any,
    theirs_with: Any,
    reduction: str,
    backend: Any,
) -> None:
    torch = pytest.importorskip("torch")
    a = gn.asarray(z, requires_grad=True)
    b = torch.from_numpy(z).requires_grad_()
    settings = {
        key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for key, value in theirs_with.items()
    }
    ours = losses.get(name)(a, y, reduction=reduction, **ours_with)
    expected = getattr(torch.nn.functional, theirs)(
        b, torch.from_numpy(np.asarray(y)), reduction=reduction, **settings
    )
    np.testing.assert_allclose(
        ours.detach().numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12
    )
    gn.sum(ours).backward()
    expected.sum().backward()
    assert a.grad is not None
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_gaussian_nll_agrees_with_pytorch(backend: Any) -> None:
    torch = pytest.importorskip("torch")
    mean, variance = likelihoods.gaussian_parameters(LOGITS)
    reference = torch.nn.GaussianNLLLoss(full=True)(
        torch.from_numpy(mean.numpy()),
        torch.from_numpy(NUMBERS),
        torch.from_numpy(variance.numpy()),
    )
    assert nn.gaussian_nll(LOGITS, NUMBERS).item() == pytest.approx(reference.item(), rel=1e-12)
    assert (likelihoods.gaussian_parameters(LOGITS * 1e3)[1].numpy() > 0).all()


def test_mixture_nll_agrees_with_scipy(backend: Any) -> None:
    stats = pytest.importorskip("scipy.stats")
    weights, means, variances = (p.numpy() for p in likelihoods.mixture_parameters(MIXED, 1))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    normals = stats.norm(means[..., 0], np.sqrt(variances[..., 0])).pdf(COLUMN[:, None])
    rows = nn.mixture_nll(MIXED, COLUMN, reduction="none")
    np.testing.assert_allclose(rows.numpy(), -np.log((weights * normals).sum(axis=1)), rtol=1e-12)


def test_a_mixture_of_one_component_is_a_gaussian(backend: Any) -> None:
    z = np.concatenate([COLUMN[:, None], LOGITS], axis=1)
    rows = nn.gaussian_nll(LOGITS, NUMBERS, reduction="none").numpy().sum(axis=1)
    np.testing.assert_allclose(nn.mixture_nll(z, NUMBERS, reduction="none").numpy(), rows)


def test_a_mixture_far_from_its_target_keeps_a_finite_loss(backend: Any) -> None:
    z = gn.asarray(MIXED[:, :6], dtype=gn.float32, requires_grad=True)
    value = nn.mixture_nll(z, np.full(N, 1e6))
    value.backward()
    assert math.isfinite(value.item())
    assert np.isfinite(z.grad.numpy()).all()


def test_the_quantile_loss_is_least_at_the_quantile() -> None:
    y = RNG.exponential(size=2001)
    for q in (0.1, 0.5, 0.9):
        best = np.quantile(y, q)
        at = [nn.quantile(np.full(y.shape, best + d), y, q=q).item() for d in (-0.05, 0, 0.05)]
        assert at[1] < min(at[0], at[2])
    by_hand = nn.quantile(gn.asarray([1.0, 1.0]), [3.0, 0.0], q=0.25, reduction="none")
    assert by_hand.tolist() == [0.5, 0.75]


def test_multiclass_hinge_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    reference = torch.nn.functional.multi_margin_loss(
        torch.from_numpy(LOGITS), torch.from_numpy(CLASSES)
    )
    ours = nn.hinge(LOGITS, CLASSES, multiclass="weston_watkins")
    assert ours.item() == pytest.approx(reference.item() * K, rel=1e-12)


# By hand


def test_cross_entropy_of_a_known_row(backend: Any) -> None:
    z = gn.asarray([[0.0, math.log(3.0)]], dtype=gn.float64)
    assert nn.cross_entropy(z, [1]).item() == pytest.approx(math.log(4 / 3))
    assert nn.cross_entropy(z, [[0.5, 0.5]]).item() == pytest.approx(
        0.5 * (math.log(4) + math.log(4 / 3))
    )


def test_one_hot_integers_are_soft_targets(backend: Any) -> None:
    one_hot = np.eye(K, dtype=np.int64)[CLASSES]
    assert nn.cross_entropy(LOGITS, one_hot).item() == nn.cross_entropy(LOGITS, CLASSES).item()
    weight = [1.0, 2.0, 0.0, 5.0]
    assert nn.cross_entropy(LOGITS, one_hot, class_weight=weight).item() == pytest.approx(
        nn.cross_entropy(LOGITS, CLASSES, class_weight=weight).item(), rel=1e-14
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_classes_of_any_integer_dtype_and_a_column_of_them(dtype: Any, backend: Any) -> None:
    expected = nn.cross_entropy(LOGITS, CLASSES).item()
    assert nn.cross_entropy(LOGITS, CLASSES.astype(dtype)).item() == expected
    assert nn.cross_entropy(LOGITS, CLASSES.astype(dtype)[:, None]).item() == expected


def test_class_weights_by_name_and_with_sample_weights(backend: Any) -> None:
    weight = {1: 4.0, 3: 0.5}
    full = np.array([1.0, 4.0, 1.0, 0.5])
    combined = nn.cross_entropy(LOGITS, CLASSES, class_weight=weight, sample_weight=WEIGHTS)
    rows = nn.cross_entropy(LOGITS, CLASSES, reduction="none").numpy()
    w = full[CLASSES] * WEIGHTS
    assert combined.item() == pytest.approx((rows * w).sum() / w.sum(), rel=1e-12)


def test_class_weights_of_two_classes(backend: Any) -> None:
    rows = nn.binary_cross_entropy(COLUMN, BITS, reduction="none").numpy()
    w = np.where(BITS, 3.0, 0.5)
    ours = nn.binary_cross_entropy(COLUMN, BITS, class_weight=[0.5, 3.0])
    assert ours.item() == pytest.approx((rows * w).sum() / w.sum(), rel=1e-12)
    both = nn.binary_cross_entropy(
        COLUMN[:, None], BITS, class_weight={1: 3.0}, sample_weight=WEIGHTS
    )
    w = np.where(BITS, 3.0, 1.0) * WEIGHTS
    assert both.item() == pytest.approx((rows * w).sum() / w.sum(), rel=1e-12)


def test_binary_cross_entropy_in_the_tails(backend: Any) -> None:
    z = gn.asarray([300.0, -300.0, 300.0, -300.0, 0.0], requires_grad=True)
    for y in (gn.asarray([0, 1, 1, 0, 1]), gn.asarray([0.0, 1.0, 1.0, 0.0, 1.0])):
        z.grad = None
        rows = nn.binary_cross_entropy(z, y, reduction="none")
        np.testing.assert_allclose(
            rows.detach().numpy(), [300, 300, 0, 0, math.log(2)], rtol=1e-6, atol=1e-30
        )
        rows.sum().backward()
        assert z.grad is not None
        np.testing.assert_allclose(z.grad.numpy(), [1, -1, 0, 0, -0.5], rtol=1e-6, atol=1e-30)


def test_binary_cross_entropy_keeps_small_losses(backend: Any) -> None:
    z = gn.asarray([50.0], dtype=gn.float32)
    for y in ([1], [1.0]):
        assert nn.binary_cross_entropy(z, y).item() == pytest.approx(math.exp(-50), rel=1e-5)


def test_two_sigmoid_classes_are_two_softmax_classes(backend: Any) -> None:
    two = np.stack([np.zeros(N), COLUMN], axis=1)
    assert nn.binary_cross_entropy(COLUMN, BITS).item() == pytest.approx(
        nn.cross_entropy(two, BITS).item(), rel=1e-12
    )
    assert nn.binary_cross_entropy(COLUMN, BITS, label_smoothing=0.2).item() == pytest.approx(
        nn.cross_entropy(two, BITS, label_smoothing=0.2).item(), rel=1e-12
    )


def test_margins_by_hand(backend: Any) -> None:
    z = gn.asarray([0.3, -2.0, 0.0, 1.5])
    for y in ([1, 1, -1, -1], [1, 1, 0, 0], [1.0, 1.0, -1.0, -1.0]):
        np.testing.assert_allclose(
            nn.hinge(z, y, reduction="none").numpy(), [0.7, 3, 1, 2.5], rtol=1e-6
        )
        assert nn.perceptron(z, y, reduction="none").tolist() == [0, 2, 0, 1.5]
    several = gn.asarray([[1.0, 2.0, 0.0], [4.0, 0.0, 1.0]])
    assert nn.hinge(several, [0, 0], reduction="none").tolist() == [2, 0]
    wide = nn.hinge(several, [0, 0], multiclass="weston_watkins", reduction="none")
    assert wide.tolist() == [2, 0]
    assert nn.perceptron(several, [0, 0], reduction="none").tolist() == [1, 0]
    assert nn.hinge(z[:, None], [[1], [1], [0], [0]], reduction="none").shape == (4, 1)


def test_a_perceptron_starts_from_zero(backend: Any) -> None:
    layer = nn.Linear(2, 1, init="zeros")
    nn.perceptron(layer(gn.asarray([[1.0, 2.0]])), [1]).backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.numpy().max() < 0


@pytest.mark.parametrize("f", [nn.mse, nn.mae, nn.huber])
def test_a_last_axis_of_one_may_be_left_out(f: Any, backend: Any) -> None:
    z, y = NUMBERS[:, :1], NUMBERS[:, 1]
    expected = f(z, y[:, None]).item()
    assert f(z, y).item() == expected
    assert f(z[:, 0], y[:, None]).item() == expected
    assert f(z, y.astype(np.float32), reduction="none").shape == (N,)


def test_huber_is_squared_near_and_straight_far() -> None:
    rows = nn.huber(gn.asarray([0.5, 3.0, -3.0]), gn.zeros(3), delta=2.0, reduction="none")
    assert rows.tolist() == [0.125, 4, 4]


def test_unread_targets_are_not_checked() -> None:
    y = gn.asarray([math.nan, 1.0])
    assert math.isnan(nn.mse(gn.ones(2), y, check=False).item())
    weights = gn.asarray([-1.0, 2.0])
    assert nn.mse(gn.ones(2), gn.zeros(2), sample_weight=weights, check=False).item() == 1.0


def test_only_weights_that_count_are_averaged(backend: Any) -> None:
    z = gn.asarray([[1.0, 2.0], [3.0, 9.0]], requires_grad=True)
    value = nn.cross_entropy(z, [0, 1], class_weight=[1.0, 0.0])
    assert value.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    value.backward()
    assert z.grad is not None
    assert z.grad[1].tolist() == [0, 0]
