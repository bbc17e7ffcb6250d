"""Deck 5: training multilayer perceptrons: the loop, the units, regularisation, the optimizers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from gradnet import ops, optim, random
from gradnet.autodiff import grad, jvp
from gradnet.lectures.examples import Figure, example, lecture, real, worked
from gradnet.nn import Dropout, Linear
from gradnet.nn.regularization import penalty
from gradnet.ops.fused import LINEAR
from gradnet.ops.multilinear import MATMUL
from gradnet.tensor import Tensor
from gradnet.training import fit

N, D_IN, H, D_OUT = 64, 1000, 100, 10
STEPS, RATE = 2000, 1e-4


@functools.cache
def loop_of_the_lecture() -> tuple[tuple[Any, ...], list[float]]:
    """The lecture's own loop, plain NumPy, its gradient written by hand: the start, the losses."""
    rng = np.random.default_rng(0)
    shapes = ((N, D_IN), (N, D_OUT), (D_IN, H), (H, D_OUT))
    x, y, w1, w2 = start = tuple(rng.standard_normal(shape) for shape in shapes)
    losses = []
    for _ in range(STEPS):
        h = 1 / (1 + np.exp(-x.dot(w1)))
        y_pred = h.dot(w2)
        losses.append(float(np.square(y_pred - y).sum()))
        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h.T.dot(grad_y_pred)
        grad_h = grad_y_pred.dot(w2.T)
        grad_w1 = x.T.dot(grad_h * h * (1 - h))
        w1 = w1 - RATE * grad_w1
        w2 = w2 - RATE * grad_w2
    return start, losses


def follow(steps: int) -> list[float]:
    """The losses of the same network by this library, from the same start."""
    (x, y, *start), _ = loop_of_the_lecture()
    w1, w2 = (real(w, requires_grad=True) for w in start)
    optimizer = optim.SGD([w1, w2], lr=RATE)
    inputs, targets, losses = real(x), real(y), []
    for _ in range(steps):
        h = ops.linear(inputs, w1, activation="sigmoid")
        loss = ((ops.linear(h, w2) - targets) ** 2).sum()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses


@example("5.1", "64 x 1000 -> 100 -> 10: 2000 steps of size 1e-4, beside the NumPy loop")
def two_layers(steps: int = STEPS) -> Iterator[Figure]:
    _, expected = loop_of_the_lecture()
    losses = follow(steps)
    relative = [ours / theirs for ours, theirs in zip(losses[:100], expected[:100], strict=True)]
    yield lecture(
        "the first 100 losses, relative to the loop's",
        [1] * 100,
        relative,
        within=1e-9,
        note="its loop, run here",
    )
    last = expected[steps - 1]
    yield lecture(
        f"the loss of step {steps}", last, losses[-1], within=1e-6 * last, note="its loop"
    )
    yield worked("2000 steps take it below a hundredth", True, expected[-1] < 1e-2 * expected[0])


@example("5.2", "The table of activations with their derivatives, in both modes")
def activations() -> Iterator[Figure]:
    ln2, ln3 = math.log(2), math.log(3)
    e = math.exp(-0.5)
    table: list[tuple[str, float, float, float]] = [
        ("identity", 2, 2, 1),
        ("heaviside", 2, 1, 0),
        ("sigmoid", 0, 0.5, 0.25),
        ("sigmoid", ln3, 0.75, 0.1875),
        ("tanh", 0, 0, 1),
        ("tanh", ln2, 0.6, 0.64),
        ("atan", 1, math.pi / 4, 0.5),
        ("softsign", 1, 0.5, 0.25),
        ("relu", -1, 0, 0),
        ("relu", 2, 2, 1),
        ("leaky_relu", -1, -0.01, 0.01),
        ("leaky_relu", 2, 2, 1),
        ("elu", -ln2, -0.5, 0.5),
        ("softplus", ln3, 2 * ln2, 0.75),
        ("swish", 0, 0, 0.5),
        ("swish", ln3, 0.75 * ln3, 0.75 + 0.1875 * ln3),
        ("gelu", 0, 0, 0.5),
        ("gelu", 1, 0.5 * (1 + math.erf(math.sqrt(0.5))),
         0.5 * (1 + math.erf(math.sqrt(0.5))) + e / math.sqrt(2 * math.pi)),
        ("hard_sigmoid", 1, 2 / 3, 1 / 6),
        ("piecewise_linear", 0.25, 0.75, 1),
        ("absolute", -2, 2, -1),
        ("log_sigmoid", 0, -ln2, 0.5),
    ]  # fmt: skip
    for name, at, value, slope in table:
        op: Callable[[Tensor], Tensor] = ops.elementwise(name)
        y, t = jvp(op, real(at), real(1.0))
        found = [float(y), float(grad(op)(real(at))), float(t)]
        yield worked(f"{name}({at:.4g}), its derivative twice", [value, slope, slope], found)
    z, g = real([0.0, ln2, ln3]), real([1.0, 0.0, 0.0])
    yield worked(
        "softmax: row 1 of its Jacobian", [5 / 36, -1 / 18, -1 / 12], jvp(ops.softmax, z, g)[1]
    )


@example("5.3", "L2 and L1: where the minimum goes, and weight decay")
def regularisation() -> Iterator[Figure]:
    def minimum(l1: float, l2: float) -> Tensor:
        w = real([3.0, 0.05], requires_grad=True)
        optimizer = optim.SGD([w], lr=0.1)
        for _ in range(300):
            loss = 0.5 * ops.sum(ops.square(w - real([3.0, 0.05])))
            (loss + penalty(w, l1=l1, l2=l2)).backward()
            optimizer.step()
            optimizer.zero_grad()
        return w

    yield worked("(w - c)^2 / 2 + w^2 / 4, c = (3, 0.05): c / 1.5", [2, 1 / 30], minimum(0, 0.25))
    sparse = minimum(0.5, 0)
    yield worked("(w - c)^2 / 2 + |w| / 2: the first is c - 1/2", 2.5, sparse[0])
    yield worked("  the second is driven to 0, within a step", 0, sparse[1], within=0.06)
    w = real(2.0, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1, weight_decay=0.5)
    for _ in range(10):
        (0.0 * w).backward()
        optimizer.step()
        optimizer.zero_grad()
    yield worked("weight decay alone, 10 steps: 2 (1 - 0.1 0.5)^10", 2 * 0.95**10, w)
    weights = real([[1.0, -2.0], [3.0, 0.0]])
    yield worked("sum |w|, sum w^2", [6, 14], [
        float(penalty(weights, l1=1)), float(penalty(weights, l2=1))
    ])  # fmt: skip


@example("5.4", "Dropout: units are dropped or doubled, and their mean is kept")
def dropout() -> Iterator[Figure]:
    x, w, p = real([1.0, 2.0, 3.0]), real([0.5, -1.0, 2.0]), 0.5
    outcomes = [ops.sum(w * x * real(mask) / (1 - p)) for mask in product((0, 1), repeat=3)]
    yield worked("mean over all 8 masks: w.x", 4.5, sum(map(float, outcomes)) / 8)
    layer = Dropout(p)
    state = random.default_generator().get_state()
    try:
        random.default_generator().seed(0)
        dropped = layer(ops.ones((4000,), dtype="float64"))
    finally:
        random.default_generator().set_state(state)
    yield worked("values are 0 or 1 / (1 - p)", 0, ops.max(ops.abs(dropped * (dropped - 2))))
    yield worked("their mean, over 4000", 1, ops.mean(dropped), within=5 / math.sqrt(4000))
    layer.eval()
    yield worked("in evaluation nothing is dropped", x.tolist(), layer(x))


@example("5.5", "Early stopping: the best epoch is kept; what it has in common with L2")
def early_stopping() -> Iterator[Figure]:
    # Training pulls w to 3 at rate 0.5; the validation set has its optimum at 2.
    model = Linear(1, 1, bias=False, dtype="float64")
    (w,) = model.parameters()
    w.assign_(real([[0.0]]))
    one = real([[1.0]])
    history = fit(
        model,
        one,
        real([[3.0]]),
        optimizer=optim.SGD(model.parameters(), lr=0.25),
        loss="mse",
        epochs=20,
        batch_size=1,
        validation=(one, real([[2.0]])),
        early_stopping=3,
        progress=False,
    )
    path = [3 * (1 - 0.5**t) for t in range(1, 6)]
    yield worked(
        "validation loss (w - 2)^2 on the way", [(v - 2) ** 2 for v in path], history["val_loss"]
    )
    yield worked("best epoch of the 5 that it ran", 2, history.best_epoch)
    yield worked("the weights are those of it", 2.25, w)
    # From 0 along curvature 1, t steps of rate r leave (1 - r)^t, as L2 of a leaves a / (1 + a).
    rate, steps = 0.1, 10
    left = (1 - rate) ** steps
    strength = left / (1 - left)
    reached = real(0.0)
    for _ in range(steps):
        reached = reached - rate * grad(lambda w: 0.5 * (w - 1) ** 2)(reached)
    slope = grad(lambda w: 0.5 * (w - 1) ** 2 + 0.5 * strength * w**2)(reached)
    yield worked("10 steps reach 1 - 0.9^10", 1 - left, reached)
    yield worked("which is the minimum with L2 of a = 0.9^10 / (1 - 0.9^10)", 0, slope)


def two_steps(optimizer: Callable[[list[Tensor]], Any]) -> list[float]:
    """The weight after each of two steps on w^2 / 2 from 1: the gradient is w."""
    w = real(1.0, requires_grad=True)
    chosen, after = optimizer([w]), []
    for _ in range(2):
        (0.5 * w**2).backward()
        chosen.step()
        chosen.zero_grad()
        after.append(float(w))
    return after


@example("5.6", "The optimizers by hand: two steps of rate 0.1 on w^2 / 2 from w = 1")
def optimizers() -> Iterator[Figure]:
    yield worked("gradient descent", [0.9, 0.81], two_steps(lambda p: optim.SGD(p, lr=0.1)))
    yield worked(
        "momentum 0.9: m = 1, then 0.9 + 0.9",
        [0.9, 0.72],
        two_steps(lambda p: optim.SGD(p, lr=0.1, momentum=0.9)),
    )
    yield worked(
        "Nesterov 0.9: steps 1.9, then 0.81 + 0.9 1.71",
        [0.81, 0.81 - 0.1 * (0.81 + 0.9 * 1.71)],
        two_steps(lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    )
    eps = 1e-8
    w1 = 1 - 0.1 / (1 + eps)
    yield worked(
        "Adagrad: v = 1, then 1.81",
        [w1, w1 - 0.1 * w1 / (math.sqrt(1 + w1 * w1) + eps)],
        two_steps(lambda p: optim.Adagrad(p, lr=0.1, eps=eps)),
    )
    v = 0.1
    w1 = 1 - 0.1 / (math.sqrt(v) + eps)
    v = 0.9 * v + 0.1 * w1 * w1
    yield worked(
        "RMSprop 0.9: v = 0.1, then 0.09 + 0.1 w^2",
        [w1, w1 - 0.1 * w1 / (math.sqrt(v) + eps)],
        two_steps(lambda p: optim.RMSprop(p, lr=0.1, alpha=0.9, eps=eps)),
    )
    w1 = 1 - 0.1 / (1 + eps)
    m = (0.09 + 0.1 * w1) / (1 - 0.9**2)
    v = (0.999 * 0.001 + 0.001 * w1 * w1) / (1 - 0.999**2)
    yield worked(
        "Adam: m and v corrected to 1, 1, then 0.18 / 0.19, ...",
        [w1, w1 - 0.1 * m / (math.sqrt(v) + eps)],
        two_steps(lambda p: optim.Adam(p, lr=0.1, eps=eps)),
    )
    yield worked(
        "AdamW with decay 0.5: first 5 % off",
        0.95 - 0.1 / (1 + eps),
        two_steps(lambda p: optim.AdamW(p, lr=0.1, eps=eps, weight_decay=0.5))[0],
    )


@example("5.7", "The cost of backprop: about twice that of the forward pass")
def cost() -> Iterator[Figure]:
    shapes = ((N, D_IN), (D_IN, H)), ((N, H), (H, D_OUT))
    forward = sum(LINEAR.cost(*pair, activation=None, scalars=())[0] for pair in shapes)
    yield worked("forward 2 n (k m + m o)", 2 * N * (D_IN * H + H * D_OUT), forward)
    dw = sum(MATMUL.cost((k, n), (n, m), itemsize=8)[0] for (n, k), (_, m) in shapes)
    yield worked("gradients of the weights: as many", forward, dw)
    dx = MATMUL.cost((N, D_OUT), (D_OUT, H), itemsize=8)[0]
    yield worked("gradient of the hidden layer, none of the input", 2 * N * H * D_OUT, dx)
    yield worked("backward / forward = 1 + 10 / 1010", 1 + 10 / 1010, (dw + dx) / forward)
    inner = (
        sum(MATMUL.cost(a, b, itemsize=8)[0] for a, b in (((N, H), (H, H)), ((H, N), (N, H))))
        / MATMUL.cost((N, H), (H, H), itemsize=8)[0]
    )
    yield worked("of a layer in the middle: 2", 2, inner)


@example("5.8", "Checking a gradient by finite differences")
def checking() -> Iterator[Figure]:
    def f(x: Tensor) -> Tensor:
        y: Tensor = x**3
        return y

    x = real(2.0)
    for h in (0.1, 0.01):
        one_sided = (f(x + h) - f(x)) / h
        shown = 12 + 6 * h + h * h
        name = f"(f(2 + h) - f(2)) / h of x^3, h = {h}: 12 + 6 h + h^2"
        yield worked(name, shown, one_sided, within=1e-11)
        both = (f(x + h) - f(x - h)) / (2 * h)
        yield worked("  (f(2 + h) - f(2 - h)) / 2 h: 12 + h^2", 12 + h * h, both, within=1e-11)
    yield worked("the derivative", 12, grad(f)(x))


@example("5.9", "Initial weights: the spread that keeps the signal's")
def initial_weights() -> Iterator[Figure]:
    state = random.default_generator().get_state()
    try:
        random.default_generator().seed(0)
        x = random.default_generator().normal((400, 300), dtype="float64")
        for gain, spread, kept in ((1.0, "1/k", 1.0), (2.0, "2/k, after relu", 1.0)):
            w = random.default_generator().normal((300, 300), dtype="float64") * math.sqrt(
                gain / 300
            )
            z = ops.linear(x, w)
            second = ops.mean(ops.square(ops.relu(z) if gain == 2 else z))
            yield worked(
                f"mean square after weights of variance {spread}", kept, second, within=0.05
            )
    finally:
        random.default_generator().set_state(state)
