"""Captured programs whose stacks of layers are given to the fused MLP.

The CUDA backend's own methods for it run on NumPy's arrays, with the kernels in NumPy too; what
the kernels themselves compute is tested in test_fused_mlp.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fakes import fused
from gradnet.kernels import fused_mlp
from gradnet.kernels.cuda_fused import BACKWARD, FORWARD, fused_stacks
from gradnet.kernels.cuda_mlp import FullyFused
from gradnet.kernels.fused_mlp import Network

import gradnet as gn
from gradnet import backends, ops, precision
from gradnet.numpy_backend import NumpyBackend
from gradnet.program import Program
from gradnet.program.replay import Interpreted


class Fusing(NumpyBackend):
    """NumPy's backend, whose captured programs use the fused MLP where `fuses`."""

    _fused_mlp_forward = FullyFused._fused_mlp_forward
    _fused_mlp_backward = FullyFused._fused_mlp_backward

    def __init__(self) -> None:
        memory = SimpleNamespace(OutOfMemoryError=MemoryError)
        self._device: Any = SimpleNamespace(
            several=False,
            shared=fused_mlp.SHARED,
            cupy=SimpleNamespace(cuda=SimpleNamespace(memory=memory)),
            launch=lambda program, blocks, *arguments: fused.run(program, arguments),
        )
        self.fuses = True
        self.programs: list[list[str]] = []

    def compile(self, program: Program) -> Interpreted:
        if self.fuses:
            program = fused_stacks(program)
        self.programs.append([call.method for call in program.calls])
        return Interpreted(self, program)


@pytest.fixture
def backend() -> Iterator[Fusing]:
    made = Fusing()
    with backends.use(made):
        yield made


Step = Callable[[Any, Any, Any], Any]


def plain(model: Any, x: Any, name: str = "bfloat16") -> Any:
    with precision.use(name):
        return model(x)


def in_halves(model: Any, x: Any) -> Any:
    """Layer by layer with everything in bfloat16 but the parameters and the result."""
    y = ops.astype(x, gn.bfloat16)
    for layer in model.layers:
        weight, bias = (ops.astype(p, gn.bfloat16) for p in (layer.weight, layer.bias))
        y = ops.linear(y, weight, bias, activation=layer.activation)
    return ops.astype(y, gn.float32)


def trained(
    forward: Callable[[Any, Any], Any] = plain,
    sizes: tuple[int, ...] = (5, 16, 16, 3),
    steps: int = 3,
    each: int = 1,
    n: int = 7,
    optimizer: str = "adam",
    **options: Any,
) -> tuple[list[float], list[Any]]:
    """Losses of captured steps, and the parameters in the end."""
    gn.random.default_generator().seed(1)
    model = gn.nn.MLP(sizes, output="softmax", **options)
    optimize = gn.optim.create(optimizer, model.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        for _ in range(each):
            loss = gn.nn.cross_entropy(forward(model, x), y)
            loss.backward()
            optimize.step()
            optimize.zero_grad()
        return loss

    captured = gn.capture(step)
    rng = np.random.default_rng(0)
    x = gn.asarray(rng.normal(size=(n, sizes[0])).astype(np.float32))
    y = gn.asarray(np.arange(n) % sizes[-1])
    losses = [captured(x, y).item() for _ in range(steps)]
    return losses, [p.numpy() for p in model.parameters()]


def same(backend: Fusing, bound: float = 2e-2, **options: Any) -> list[str]:
    """Train with and without the fused MLP: the same within rounding. The fused program's calls."""
    losses, parameters = trained(**options)
    calls = backend.programs[-1]
    backend.fuses = False
    expected, right = trained(**options)
    assert not any(name in backend.programs[-1] for name in (FORWARD, BACKWARD))
    assert losses[-1] < losses[0]
    assert np.allclose(losses, expected, rtol=bound, atol=bound / 10)
    for found, one in zip(parameters, right, strict=True):
        assert np.linalg.norm(found - one) <= bound * np.linalg.norm(one) + 1e-3
    return calls


@pytest.mark.parametrize(
    "activation", ["relu", "tanh", "gelu", "softplus", "sigmoid", "leaky_relu", "absolute"]
)
def test_a_step_is_two_calls_of_the_fused_mlp(backend: Fusing, activation: str) -> None:
    calls = same(backend, activation=activation)
    assert calls == [FORWARD, "check", "softmax_cross_entropy", "reduce", BACKWARD, "update"]


@pytest.mark.parametrize("sizes", [(5, 16, 3), (40, 32, 32, 32, 1 + 32), (3, *(16,) * 8, 2)])
@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_sizes(backend: Fusing, sizes: tuple[int, ...], name: str) -> None:
    def forward(model: Any, x: Any) -> Any:
        return plain(model, x, name)

    calls = same(backend, forward=forward, sizes=sizes, activation="tanh", n=33, optimizer="sgd")
    assert calls[0] == FORWARD
    assert BACKWARD in calls
    assert len(calls) == 6


@pytest.mark.parametrize("n", [1, 16])
def test_rows(backend: Fusing, n: int) -> None:
    calls = same(backend, n=n, sizes=(1, 16, 2))
    assert [calls.count(name) for name in (FORWARD, BACKWARD, "matmul")] == [1, 1, 0]


def test_layers_that_keep_16_bits_between_them(backend: Fusing) -> None:
    calls = same(backend, bound=5e-2, forward=in_halves, activation="relu")
    assert calls == [FORWARD, "check", "softmax_cross_entropy", "reduce", BACKWARD, "update"]


def test_several_steps_in_one_program(backend: Fusing) -> None:
    calls = same(backend, each=3, optimizer="sgd")
    assert [calls.count(name) for name in (FORWARD, BACKWARD, "matmul")] == [3, 3, 0]


def test_the_widest_stack_begins_after_another_width(backend: Fusing) -> None:
    calls = same(backend, sizes=(5, 24, 16, 16, 3))
    # What comes before goes on as it was, with the gradient of the stack's input.
    assert [calls.count(name) for name in (FORWARD, BACKWARD, "matmul")] == [1, 1, 2]


def test_gradients_that_are_asked_for_elsewhere(backend: Fusing) -> None:
    """The norm of all gradients before the update, and parameters apart from one another."""

    def run() -> tuple[list[Any], list[Any]]:
        gn.random.default_generator().seed(1)
        model = gn.nn.MLP((5, 16, 16, 3), output="softmax")
        parameters = list(model.parameters())

        def gradients(x: Any, y: Any) -> Any:
            loss = gn.nn.cross_entropy(plain(model, x), y)
            loss.backward()
            found = [p.grad for p in parameters]
            for p in parameters:
                p.grad = None
            return [2 * g for g in found], [x.sum()]

        rng = np.random.default_rng(0)
        x = gn.asarray(rng.normal(size=(7, 10)).astype(np.float32))[:, ::2]
        (found, _) = gn.capture(gradients)(x, gn.asarray(np.arange(7) % 3))
        return [g.numpy() for g in found], backend.programs[-1]

    found, calls = run()
    backend.fuses = False
    right, _ = run()
    assert calls.count(FORWARD) == calls.count(BACKWARD) == 1
    assert "matmul" not in calls
    for one, other in zip(found, right, strict=True):
        assert np.linalg.norm(one - other) <= 2e-2 * np.linalg.norm(other)


def test_prediction_is_one_call(backend: Fusing) -> None:
    model = gn.nn.MLP((5, 16, 16, 3), output="softmax")
    gn.optim.SGD(model.parameters(), lr=0.1)  # parameters side by side
    x = gn.asarray(np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32))

    def predict(x: Any) -> Any:
        with gn.no_grad():
            return plain(model, x)

    found = gn.capture(predict)(x).numpy()
    assert backend.programs[-1] == [FORWARD]
    assert np.allclose(found, predict(x).numpy(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_fit_chooses_it_by_itself(backend: Fusing, name: str) -> None:
    """Also where the loss is scaled, and gradients are looked at before they are used."""
    x = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    model = gn.nn.MLP((5, 16, 2), output="softmax", seed=0)
    gn.fit(model, x, x[:, 0] > 0, epochs=1, batch_size=8, precision=name, capture=True)
    calls = backend.programs[0]
    assert [calls.count(method) for method in (FORWARD, BACKWARD, "matmul")] == [1, 1, 0]


# What is left alone


def unfused(backend: Fusing, **options: Any) -> None:
    trained(steps=1, **options)
    assert not any(name in backend.programs[-1] for name in (FORWARD, BACKWARD))


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": (5, 48, 3)},
        {"sizes": (5, 32, 16, 24, 3)},
        {"dropout": 0.5},
        {"bias": False},
        {"norm": "layer"},
        {"residual": True},
        {"activation": "leaky_relu", "activation_operands": {"alpha": 0.3}},
        {"forward": lambda model, x: plain(model, x, "tf32")},
        {"forward": lambda model, x: plain(model, x, "float32")},
    ],
    ids=" ".join,
)
def test_what_it_cannot_compute(backend: Fusing, options: dict[str, Any]) -> None:
    unfused(backend, **options)


def test_activations_that_are_used_elsewhere_too(backend: Fusing) -> None:
    def forward(model: Any, x: Any) -> Any:
        first, second, last = model.layers
        with precision.use("bfloat16"):
            h = first(x)
            return last(second(h)) * h.mean()

    calls = same(backend, forward=forward)
    assert [calls.count(name) for name in (FORWARD, BACKWARD, "matmul")] == [1, 1, 2]


def test_layers_that_are_used_twice(backend: Fusing) -> None:
    calls = same(backend, forward=lambda model, x: plain(model, x) * plain(model, -x))
    assert [calls.count(name) for name in (FORWARD, BACKWARD, "matmul")] == [2, 2, 0]


def test_frozen_layers(backend: Fusing) -> None:
    def forward(model: Any, x: Any) -> Any:
        first, second, last = model.layers
        with precision.use("bfloat16"):
            return last(second(first(x).detach()))

    calls = same(backend, forward=forward)
    # The first layer stays; what is trained is a stack of its own.
    assert [calls.count(name) for name in (FORWARD, BACKWARD, "matmul")] == [1, 1, 1]


def test_parameters_that_change_within_a_step(backend: Fusing) -> None:
    def forward(model: Any, x: Any) -> Any:
        with precision.use("bfloat16"), gn.no_grad():
            first, last = model.layers
            h = first(x)
            first.weight.assign_(first.weight * 0.5)
        with precision.use("bfloat16"):
            return last(h)

    unfused(backend, forward=forward, sizes=(5, 16, 3))


def test_the_switch(backend: Fusing, monkeypatch: pytest.MonkeyPatch) -> None:
    network, rows = Network(784, 128, 10, 1), fused_mlp.ONE_ROUND
    assert fused_mlp.worthwhile(network, rows)
    assert not fused_mlp.worthwhile(network, rows + 1)
    assert fused_mlp.worthwhile(network._replace(inputs=64), 1 << 20)
    monkeypatch.setenv(fused_mlp.SWITCH, "1")
    assert fused_mlp.worthwhile(network, rows + 1)
    monkeypatch.setenv(fused_mlp.SWITCH, "0")
    assert not fused_mlp.worthwhile(network, 1)
    unfused(backend)


def test_the_fake_kernels_round_as_ml_dtypes_does() -> None:
    assert fused.half(Network(1, 16, 1, 1)) is ml_dtypes.bfloat16
    assert fused.half(Network(1, 16, 1, 1, dtype="float16")) is np.float16
