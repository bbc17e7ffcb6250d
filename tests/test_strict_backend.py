"""Everything above the backends runs on a far device without float64: no NumPy, no silent double.

Tensors, ops, networks, losses, optimizers and the training loop, in float32, over arrays that show
their shape and dtype and nothing else.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from op_samples import SAMPLES, declared_ops, row_operands
from strict_backend import Box, Forbidden, StrictBackend

import gradnet as gn
from gradnet import formulas, nn, optim
from gradnet.backends import Backend
from gradnet.ops import elementwise


@pytest.fixture
def strict() -> Iterator[StrictBackend]:
    device = StrictBackend()
    with gn.backends.use(device):
        yield device


# The backend itself


def test_it_has_the_whole_protocol() -> None:
    assert isinstance(StrictBackend(), Backend)
    for name in vars(Backend):
        if not name.startswith("_"):
            assert hasattr(StrictBackend, name)


def test_a_box_refuses_everything(strict: StrictBackend) -> None:
    box = gn.ones((2, 3)).array
    assert isinstance(box, Box)
    assert box.shape == (2, 3)
    assert box.dtype == gn.float32
    for misuse in (
        lambda: np.asarray(box),
        lambda: np.add(box, 1),
        lambda: box + 1,
        lambda: box[0],
        lambda: len(box),
        lambda: list(box),
        lambda: bool(box),
        lambda: float(box),
        lambda: box == box,
        lambda: box.sum(),
        lambda: box.T,
        lambda: memoryview(box),
        lambda: strict.reduce("sum", box.shape, (0,), False, dtype=np.ones(1)),
        lambda: strict.cast(np.ones(2, np.float32), gn.float32),
    ):
        with pytest.raises((Forbidden, TypeError, AttributeError)):
            misuse()


def test_float64_is_refused(strict: StrictBackend) -> None:
    x = gn.ones((2,))
    for leak in (
        lambda: gn.zeros((2,), dtype=gn.float64),
        lambda: x.astype(gn.float64),
        lambda: gn.asarray(np.ones(2)),
        lambda: gn.sum(x, dtype=gn.float64),
        lambda: gn.random.uniform((2,), dtype=gn.float64),
    ):
        with pytest.raises(Forbidden, match="float64"):
            leak()
    with strict.allowing_float64():
        assert gn.zeros((2,), dtype=gn.float64).dtype == gn.float64


# The core


OPS = declared_ops()


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("MOVE", "CAST")])
def test_ops_in_both_modes(name: str, strict: StrictBackend) -> None:
    op = OPS[name]
    for sample in SAMPLES[name]():
        parameters = {
            key: gn.float32 if key == "dtype" else indexed(value) if key == "index" else value
            for key, value in sample.parameters.items()
        }
        xs = [float32(x) for x in sample.inputs]
        moving = tuple(i for i, x in enumerate(xs) if x.dtype == gn.float32)

        def run(
            *values: Any, op: Any = op, xs: Any = xs, moving: Any = moving, with_: Any = parameters
        ) -> Any:
            complete = list(xs)
            for i, value in zip(moving, values, strict=True):
                complete[i] = gn.copy(value)
            return op(*complete, **with_)

        primals = tuple(xs[i] for i in moving)
        ys, pull = gn.vjp(run, *primals)
        ys = ys if isinstance(ys, tuple) else (ys,)
        pull(*(gn.ones_like(y) for y in ys))
        gn.jvp(run, primals, primals)


def float32(x: np.ndarray[Any, Any]) -> gn.Tensor:
    return gn.asarray(x.astype(np.float32) if x.dtype == np.float64 else x)


def indexed(index: Any) -> Any:
    return tuple(gn.asarray(i).array if isinstance(i, np.ndarray) else i for i in index)


@pytest.mark.parametrize("row", formulas.rows(), ids=lambda row: row.name)
def test_formulas_in_both_modes(row: Any, strict: StrictBackend) -> None:
    op = elementwise(row.name)
    operands = [float32(x) for x in row_operands(row, ((2, 3),) * op.arity)]
    if row.kind == "bitwise":
        operands = [gn.astype(x * 4, gn.int32) for x in operands]
    y = op(*operands)
    assert y.dtype in (gn.float32, gn.bool, gn.int32)
    if any(derivative is not None for derivative in row.derivatives):
        moving = operands[1:] if row.name == "where" else operands
        fixed = operands[:1] if row.name == "where" else []

        def loss(*xs: Any) -> Any:
            return op(*fixed, *xs).sum()

        gn.grad(lambda *xs: gn.grad(loss)(*xs).sum())(*moving)
        gn.jvp(loss, tuple(moving), tuple(moving))


def test_tensors(strict: StrictBackend) -> None:
    x = gn.asarray([[3.0, 1.0], [2.0, 4.0]], requires_grad=True)
    y = x * 2.5 + np.float64(1) - [[1.0, 2.0]]
    y = y[:, [1, 0]] @ y.mT + y.mean(axis=0) / y.std() + gn.sort(y) - y.var()
    y[0] = y[1] * 3
    y = gn.where(y > 3, y, -y)
    y = gn.concat([y, gn.tril(y)], axis=1) + gn.cumulative_sum(gn.ops.top_k(x, 1)[0], axis=0)
    y = gn.ops.einsum("ij,kj->ik", y, y) + gn.repeat(x, [1, 2], axis=0).sum() + gn.tile(x, (1, 1))
    y.sum().backward(create_graph=True)
    x.grad.sum().backward()
    repr(x), str(y), f"{y.sum():.3f}", x.tolist(), y.detach().numpy()
    assert x[0, 0].item() == 3
    for made in (gn.arange(3.0), gn.linspace(0, 1, 3), gn.eye(2), gn.full((2,), 1.5)):
        assert made.dtype == gn.float32
    assert gn.hessian(lambda x: (x**3).sum())(gn.ones((2,))).tolist() == [[6, 0], [0, 6]]
    assert gn.jacobian(lambda x: x * x)(gn.ones((2,))).shape == (2, 2)
    with pytest.raises(AttributeError, match="shows its shape and dtype only"):
        np.from_dlpack(x.detach())
    assert copy.deepcopy(x).tolist() == x.tolist()
    assert pickle.loads(pickle.dumps(x)).tolist() == x.tolist()


def test_random_numbers(strict: StrictBackend) -> None:
    generator = gn.random.Generator(3)
    for draw in (
        generator.uniform((5,), -1.0, 1.0),
        generator.normal((5,), 1.0, 2.0),
        generator.integers(0, 10, (5,)),
        generator.permutation(5),
        generator.bernoulli(0.5, (5,)),
        generator.shuffle(gn.arange(5)),
    ):
        assert isinstance(draw.array, Box)
        assert draw.dtype != gn.float64


def test_checkpoints(strict: StrictBackend) -> None:
    x = gn.ones((2, 3)).requires_grad_()
    gn.checkpoint(lambda x: gn.tanh(x) * gn.random.uniform(x.shape))(x).sum().backward()
    assert x.grad is not None


# The rooms above


def batch(n: int = 12, k: int = 5) -> tuple[gn.Tensor, gn.Tensor]:
    generator = gn.random.Generator(1)
    return generator.normal((n, k)), generator.integers(0, 3, (n,))


MODELS: dict[str, Any] = {
    "plain": {},
    "dropout": {"dropout": 0.3},
    "layer norm": {"norm": "layer"},
    "batch norm": {"norm": "batch"},
    "residual": {"residual": True},
    "gelu": {"activation": "gelu"},
    "maxout": {"activation": "maxout"},
}


@pytest.mark.parametrize("name", MODELS)
def test_networks(name: str, strict: StrictBackend) -> None:
    model = nn.MLP((5, 8, 8, 3), **MODELS[name])
    x, y = batch()
    before = [p.tolist() for p in model.parameters()]
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):
        nn.cross_entropy(model(x), y).backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert [p.tolist() for p in model.parameters()] != before
    model.eval()
    assert model(x).shape == (12, 3)
    assert model.output.predict(model(x)).shape == (12, 3)
    state = model.state_dict()
    model.load_state_dict(state)
    model.summary()


@pytest.mark.parametrize("name", optim.names())
def test_optimizers(name: str, strict: StrictBackend) -> None:
    model = nn.MLP((5, 4, 3))
    optimizer = optim.create(name, model.parameters(), lr=0.05)
    x, y = batch()

    def closure() -> Any:
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(x), y)
        loss.backward()
        return loss

    first = float(closure())
    for _ in range(3):
        if optimizer.needs_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    assert float(closure()) < first
    optimizer.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("output", nn.outputs.names())
def test_output_units(output: str, strict: StrictBackend) -> None:
    x, classes = batch()
    y = {"softmax": classes, "sigmoid": (classes > 1).astype(gn.float32)}.get(output)
    y = gn.abs(x[:, :1]) if y is None else y
    y = y[:, None] if output == "sigmoid" else y
    model = nn.MLP((5, 4, 3 if output == "softmax" else 1), output=output)
    weights = gn.linspace(0.5, 1.5, 12)
    loss = model.output.loss(model(x), y, sample_weight=weights)
    loss.backward()
    assert loss.dtype == gn.float32
    model.output.predict(model(x))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, nn.LayerNorm])
def test_normalisation(layer: Any, strict: StrictBackend) -> None:
    module = layer(5)
    x, _ = batch()
    module(x).sum().backward()
    module.eval()
    assert module(x).dtype == gn.float32


def test_embeddings(strict: StrictBackend) -> None:
    module = nn.Embedding(10, 4)
    module(gn.asarray([[1, 2], [2, 9]])).sum().backward()
    assert next(iter(module.parameters())).grad.shape == (10, 4)


def test_fitting(strict: StrictBackend) -> None:
    x, y = batch(60)
    model = nn.MLP((5, 8, 3), dropout=0.1, output="softmax")
    history = gn.fit(
        model,
        x.numpy(),
        y.numpy(),
        epochs=3,
        batch_size=16,
        validation=0.2,
        early_stopping=2,
        clip_norm=1.0,
        class_weight="balanced",
        progress=False,
        seed=1,
    )
    with strict.allowing_float64():  # what was measured comes as plain arrays of the CPU
        assert len(history["loss"]) == 3
    assert strict.calls["update"] > 0
    assert strict.calls["softmax_cross_entropy"] > 0
