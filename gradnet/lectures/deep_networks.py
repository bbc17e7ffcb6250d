"""Deck 4: deep feedforward networks, after Goodfellow, Bengio and Courville 2016, chapter 6."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gradnet import ops
from gradnet.autodiff import grad, value_and_grad
from gradnet.learners import LinearRegression, collapse
from gradnet.learners.approximation import construct
from gradnet.lectures.examples import Figure, example, lecture, real, worked
from gradnet.linalg import solve
from gradnet.nn import (
    MLP,
    Linear,
    Maxout,
    Sequential,
    binary_cross_entropy,
    cross_entropy,
    gaussian_nll,
    mixture_nll,
    mse,
)
from gradnet.optim import SGD
from gradnet.tensor import Tensor

XOR = ((0, 0), (0, 1), (1, 0), (1, 1))
TRUTH = (0, 1, 1, 0)
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


@example("4.1", "XOR by a linear model: the best fit is w = 0, b = 0.5")
def linear_fit() -> Iterator[Figure]:
    x, y = real(XOR), real(TRUTH)
    w, b = real([0.3, -0.7], requires_grad=True), real(0.2, requires_grad=True)
    optimizer = SGD([w, b], lr=0.5)
    for _ in range(400):
        ((x @ w + b - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    yield lecture("w by gradient descent", [0, 0], w, within=1e-12)
    yield lecture("b", 0.5, b, within=1e-12)
    a = ops.concat([x, ops.ones((4, 1), dtype="float64")], axis=1)
    solution = solve(a.T @ a, a.T @ y)
    yield lecture("w, b by the normal equations", [0, 0, 0.5], solution, within=1e-12)
    learner = LinearRegression().fit(x, y)
    found = [*learner.fitted().tolist(), float(learner.predict(real([[0, 0]]))[0])]
    yield lecture("by the learner", [0, 0, 0.5], found, within=1e-12)
    yield worked("its outputs", [0.5] * 4, a @ solution)
    yield worked("its mean squared error", 0.25, ((a @ solution - y) ** 2).mean())


def network(activation: str, w: Any, c: Any, v: Any, b: float) -> MLP:
    """A network of one hidden layer with these weights."""
    model = MLP((2, len(c), 1), activation=activation, dtype="float64")
    values = (w, c, [[x] for x in v], [b])
    for p, value in zip(model.parameters(), values, strict=True):
        p.assign_(real(value))
    return model


@example("4.2", "XOR by a network of rectified linear units")
def relu_xor() -> Iterator[Figure]:
    w, c = [[1, 1], [1, 1]], [0, -1]
    hidden = ops.relu(real(XOR) @ real(w) + real(c))
    yield worked("hidden layer max(0, X W + c)", [[0, 0], [1, 0], [1, 0], [2, 1]], hidden)
    model = network("relu", w, c, [1, -2], 0)
    yield lecture("outputs", TRUTH, model(real(XOR))[:, 0])
    yield worked("squared error", 0, mse(model(real(XOR)), real([[t] for t in TRUTH])))


@example("4.3", "XOR by hard thresholds: OR and not AND")
def threshold_xor() -> Iterator[Figure]:
    model = network("hard_threshold", [[1, 1], [1, 1]], [-0.5, -1.5], [1, -1], -0.5)
    either = ops.hard_threshold(real(XOR).sum(axis=1) - 0.5)
    both = ops.hard_threshold(real(XOR).sum(axis=1) - 1.5)
    yield worked("unit 1: x1 + x2 >= 0.5, OR", [0, 1, 1, 1], either)
    yield worked("unit 2: x1 + x2 >= 1.5, AND", [0, 0, 0, 1], both)
    yield lecture("outputs", TRUTH, ops.hard_threshold(model(real(XOR)))[:, 0])


def raw_variance(v: float) -> float:
    """The raw output whose softplus is the variance v, less the floor of 1e-6."""
    return math.log(math.expm1(v - 1e-6))


@example("4.4", "Linear output units: a normal distribution of variance 1, and squared error")
def linear_gaussian() -> Iterator[Figure]:
    z = real([[3.0, raw_variance(1.0)]])
    nll = gaussian_nll(z, real([[5.0]]))
    yield worked("-log N(5; 3, 1) = 2^2 / 2 + log(2 pi) / 2", 2 + HALF_LOG_2_PI, nll)
    error = mse(z[:, :1], real([[5.0]]))
    yield worked("mean squared error 2^2", 4, error)
    yield worked("they differ by a factor and a constant", 0, nll - 0.5 * error - HALF_LOG_2_PI)
    slope = grad(lambda m: gaussian_nll(ops.concat([m, z[:, 1:]], axis=1), real([[5.0]])))
    yield worked("slope in the mean: mean - y", [[-2]], slope(z[:, :1]))
    y = real([1.0, 2.0, 6.0])
    yield worked("the mean minimises it", 0, grad(lambda m: ((y - m) ** 2).mean())(real(3.0)))
    median = grad(lambda m: ops.abs(y - m).sum())
    yield worked("the median the absolute error: slopes beside 2", [-1, 1], [
        float(median(real(1.9))),
        float(median(real(2.1))),
    ])  # fmt: skip


@example("4.5", "Sigmoid output units: Bernoulli, with the loss softplus((1 - 2y) z)")
def sigmoid_bernoulli() -> Iterator[Figure]:
    z = real([math.log(3)] * 2)
    y = real([1, 0])
    yield worked("P(y = 1), P(y = 0) at z = ln 3", [3 / 4, 1 / 4], ops.sigmoid((2 * y - 1) * z))
    losses = binary_cross_entropy(z, y, reduction="none")
    yield worked("-log of them", [math.log(4 / 3), math.log(4)], losses)
    yield worked(
        "softplus((1 - 2y) z)", [math.log(4 / 3), math.log(4)], ops.softplus((1 - 2 * y) * z)
    )
    slope = grad(lambda z: binary_cross_entropy(z, y, reduction="sum"))(z)
    yield worked("slope in z: sigmoid(z) - y", [-1 / 4, 3 / 4], slope)


@example("4.6", "Softmax output units: multinoulli, and the log-sum-exp of the loss")
def softmax_multinoulli() -> Iterator[Figure]:
    scores = [0.0, math.log(2), math.log(3)]
    z = real([scores])
    yield worked("softmax(ln 1, ln 2, ln 3)", [[1 / 6, 1 / 3, 1 / 2]], ops.softmax(z))
    yield worked("log sum exp z", math.log(6), ops.logsumexp(z))
    value, slope = value_and_grad(lambda z: cross_entropy(z, ops.asarray([2])))(z)
    yield worked("loss of class 3: log 6 - log 3", math.log(2), value)
    yield worked("slope: softmax less one-hot", [[1 / 6, 1 / 3, -1 / 2]], slope)
    far = cross_entropy(real([[1000.0, 0.0, 0.0]]), ops.asarray([1]))
    yield worked("a sure and wrong answer costs what its score is ahead", 1000, far)


@example("4.7", "Saturation: which losses still have a slope where the unit is wrong")
def saturation() -> Iterator[Figure]:
    z = real([-30.0])
    s = 1 / (1 + math.exp(30))
    yield worked("sigmoid(-30), when 1 is right", s, ops.sigmoid(z), within=1e-25)
    squared = grad(lambda z: ((ops.sigmoid(z) - 1) ** 2).sum())(z)
    yield worked(
        "slope of the squared error: it has died", 2 * (s - 1) * s * (1 - s), squared, within=1e-24
    )
    entropy = grad(lambda z: binary_cross_entropy(z, real([1.0])))(z)
    yield worked("slope of the cross-entropy: nearly -1", s - 1, entropy)
    yield worked("where the answer is right it dies too", s, grad(
        lambda z: binary_cross_entropy(z, real([1.0])))(-z) * -1, within=1e-24)  # fmt: skip
    at = real([0.0, 2.0, 5.0, 10.0])
    slopes = [math.exp(-v) / (1 + math.exp(-v)) ** 2 for v in (0.0, 2.0, 5.0, 10.0)]
    yield worked("sigmoid' at 0, 2, 5, 10", slopes, grad(lambda x: ops.sigmoid(x).sum())(at))
    yield worked("relu' there", [0, 1, 1, 1], grad(lambda x: ops.relu(x).sum())(at))
    deep = real(0.0)

    def chain(x: Tensor) -> Tensor:
        for _ in range(10):
            x = ops.sigmoid(x) - 0.5
        return x

    yield worked("slope of 10 sigmoids, one after the other: 4^-10", 4.0**-10, grad(chain)(deep))


@example("4.8", "Heteroscedastic output: a variance that is learned as well")
def heteroscedastic() -> Iterator[Figure]:
    y = real([[5.0]])

    def loss(z: Any) -> Any:
        return gaussian_nll(z, y)

    best = real([[3.0, raw_variance(4.0)]])
    yield worked(
        "-log N(5; 3, 4) = 1/2 + log 2 + log(2 pi) / 2",
        0.5 + math.log(2) + HALF_LOG_2_PI,
        loss(best),
    )
    slope = grad(loss)(best)
    yield worked("slopes at variance (y - mean)^2: (mean - y) / v, 0", [[-0.5, 0]], slope)
    for v in (3.0, 5.0):
        worse = loss(real([[3.0, raw_variance(v)]])) - loss(best)
        exact = 0.5 * (math.log(v / 4) + 4 / v - 1)
        yield worked(f"variance {v:g} costs more by", exact, worse)


@example("4.9", "Mixture density output: two components, responsibilities, their slopes")
def mixture() -> Iterator[Figure]:
    unit = raw_variance(1.0)

    def outputs(*logits: float) -> Tensor:
        return real([[*logits, -1.0, 1.0, unit, unit]])

    middle = mixture_nll(outputs(0, 0), real([[0.0]]))
    yield worked("means -1, 1, weights 1/2, at 0: -log N(1; 0, 1)", 0.5 + HALF_LOG_2_PI, middle)
    value, slope = value_and_grad(lambda z: mixture_nll(z, real([[1.0]])))(outputs(0, 0))
    r = 1 / (1 + math.exp(-2))  # responsibility of the second at y = 1
    density = 0.5 * (1 + math.exp(-2)) / math.sqrt(2 * math.pi)
    yield worked("at 1: -log of (N(0) + N(2)) / 2", -math.log(density), value)
    yield worked("slopes in logits: weight less responsibility", [r - 0.5, 0.5 - r], slope[0, :2])
    yield worked("slopes in means: responsibility (mean - y) / v", [-2 * (1 - r), 0], slope[0, 2:4])
    uneven = mixture_nll(outputs(math.log(3), 0), real([[0.0]]))
    yield worked("weights 3/4, 1/4: the same in the middle", 0.5 + HALF_LOG_2_PI, uneven)
    far = mixture_nll(outputs(0, 0), real([[101.0]]))
    expected = 5000 + HALF_LOG_2_PI + math.log(2)
    yield worked("far away the loss is finite: 100^2 / 2 + ...", expected, far, within=1e-8)


@example("4.10", "Maxout: the largest of several linear pieces")
def maxout() -> Iterator[Figure]:
    x = real([[-2.0], [-0.5], [0.0], [3.0]])
    layer = Maxout(2)
    yield worked("of x and -x: |x|", [2, 0.5, 0, 3], layer(ops.concat([x, -x], axis=1))[:, 0])
    yield worked("of x and 0: relu", [0, 0, 0, 3], layer(ops.concat([x, 0 * x], axis=1))[:, 0])
    parabola = [2 * c * x - c * c for c in (-2, -1, 0, 1, 2, 3)]
    hull = Maxout(6)(ops.concat(parabola, axis=1))[:, 0]
    yield worked("of six tangents of x^2", [4, 0, 0, 9], hull)
    z = real([[1.0, 5.0, 2.0, 7.0, 7.0, 0.0]])
    slope = grad(lambda z: Maxout(3)(z).sum())(z)
    yield worked("its slope goes to the largest; a tie is shared", [[0, 1, 0, 0.5, 0.5, 0]], slope)


@example("4.11", "Deep linear networks collapse to one layer")
def deep_linear() -> Iterator[Figure]:
    weights = ([[1, 2], [0, 1]], [[1, -1], [2, 1]], [[2], [1]])
    biases = ([1, -1], [0, 3], [-2])
    layers = []
    for w, b in zip(weights, biases, strict=True):
        layer = Linear(len(w), len(b), dtype="float64")
        for p, value in zip(layer.parameters(), (w, b), strict=True):
            p.assign_(real(value))
        layers.append(layer)
    deep = Sequential(*layers)
    product = real(weights[0]) @ real(weights[1]) @ real(weights[2])
    yield worked("W1 W2 W3", [[11], [5]], product)
    shift = deep(real([[0.0, 0.0]]))
    yield worked("b1 W2 W3 + b2 W3 + b3", [[-3]], shift)
    x = real([[1, 0], [0, 1], [2, -3], [0.5, 0.25]])
    shown = [[8], [2], [4], [3.75]]
    yield worked("three layers on four points", shown, deep(x))
    yield worked("one layer on them", shown, x @ product + shift)
    one = collapse(deep)
    yield worked("the learner's one layer: weight, bias", [11, 5, -3], [
        *one.weight[:, 0].tolist(), *(one.bias if one.bias is not None else real([])).tolist()
    ])  # fmt: skip


@example("4.12", "Depth folds: the number of linear pieces")
def regions() -> Iterator[Figure]:
    def tent(x: Any) -> Any:
        return 2 * ops.relu(x) - 4 * ops.relu(x - 0.5)

    grid = ops.linspace(0.0, 1.0, 65, dtype="float64")
    x = grid
    for depth in range(1, 6):
        x = tent(x)
        slopes = (x[1:] - x[:-1]) * 64
        bends = ops.sum(ops.abs(slopes[1:] - slopes[:-1]) > 1e-9)
        yield worked(f"pieces of {depth} layers of 2 units: 2^{depth}", 2**depth, int(bends) + 1)
    for n, d, deep in ((2, 1, 5), (4, 2, 3), (8, 2, 4)):
        shown = math.comb(n, d) ** (d * (deep - 1)) * n**d
        yield worked(
            f"order of regions, n = {n}, d = {d}, l = {deep}: C(n, d)^(d (l - 1)) n^d",
            shown,
            order_of_regions(n, d, deep),
        )


def order_of_regions(width: int, inputs: int, depth: int) -> float:
    """C(n, d)^(d (l - 1)) n^d for width n, d inputs, depth l. Montufar et al. 2014."""
    n, d = real(width), real(inputs)
    choose = ops.prod(
        (n - ops.arange(inputs, dtype="float64")) / (1 + ops.arange(inputs, dtype="float64"))
    )
    return float(choose ** (d * (depth - 1)) * n**d)


@example("4.13", "Universal approximation: x^2 by one hidden layer, error against width")
def approximation() -> Iterator[Figure]:
    grid = ops.linspace(0.0, 1.0, 641, dtype="float64")
    for n in (1, 2, 4, 8, 16):
        corners = ops.arange(n, dtype="float64") / n
        hidden = ops.relu(ops.expand_dims(grid, 1) - corners)
        bends = real([1 / n, *[2 / n] * (n - 1)])
        error = ops.max(ops.abs(hidden @ bends - grid**2))
        yield worked(f"{n} rectified units: largest error 1 / (4 n^2)", 0.25 / n**2, error)
        model = construct(ops.square, n)
        error = ops.max(ops.abs(model(ops.expand_dims(grid, 1))[:, 0] - grid**2))
        yield worked("  the learner's network", 0.25 / n**2, error)
