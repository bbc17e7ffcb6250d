"""Deck 1: activation functions, perceptrons, and logistic regression from scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from gradnet import ops
from gradnet.autodiff import grad, value_and_grad
from gradnet.learners import (
    AveragedPerceptron,
    FeatureMap,
    LinearRegression,
    LogisticRegression,
    MulticlassPerceptron,
    Perceptron,
    SoftmaxRegression,
    mistake_bound,
)
from gradnet.lectures.examples import Figure, example, real, worked
from gradnet.nn import binary_cross_entropy, cross_entropy
from gradnet.tensor import Tensor

LN2, LN3 = math.log(2), math.log(3)


@example("1.1", "Activation functions at points where they are known exactly")
def activations() -> Iterator[Figure]:
    known: dict[str, list[tuple[float, float]]] = {
        "identity": [(-1.5, -1.5)],
        "heaviside": [(-2, 0), (0, 0.5), (2, 1)],
        "sign": [(-2, -1), (0, 0), (2, 1)],
        "hard_threshold": [(-0.1, 0), (0, 1), (0.1, 1)],
        "piecewise_linear": [(-1, 0), (0.2, 0.7), (1, 1)],
        "sigmoid": [(0, 0.5), (LN3, 0.75), (-LN3, 0.25)],
        "tanh": [(0, 0), (LN2, 0.6), (-LN2, -0.6)],
        "relu": [(-2, 0), (3, 3)],
        "leaky_relu": [(-2, -0.02), (3, 3)],
        "absolute": [(-2, 2)],
        "elu": [(-LN2, -0.5), (3, 3)],
        "softplus": [(0, LN2), (LN3, 2 * LN2)],
        "softsign": [(1, 0.5), (-3, -0.75)],
        "swish": [(LN3, 0.75 * LN3)],
        "hard_sigmoid": [(-3, 0), (0, 0.5), (3, 1)],
        "relu6": [(7, 6)],
        "log_sigmoid": [(0, -LN2)],
    }
    for name, points in known.items():
        x = real([point for point, _ in points])
        listed = ", ".join(f"{point:.4g}" for point, _ in points)
        shown = [value for _, value in points]
        yield worked(f"{name}({listed})", shown, ops.elementwise(name)(x))
    x = real([-2, -0.3, 0.7, 5])
    yield worked("sigmoid(x) + sigmoid(-x)", [1] * 4, ops.sigmoid(x) + ops.sigmoid(-x))
    yield worked(
        "tanh(x) - (2 sigmoid(2x) - 1)", [0] * 4, ops.tanh(x) - (2 * ops.sigmoid(2 * x) - 1)
    )
    yield worked("softplus(x) - softplus(-x) - x", [0] * 4, ops.softplus(x) - ops.softplus(-x) - x)


# OR of two inputs, a 1 for the bias before them, classes -1 and 1.
OR_ROWS = ((1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1))
OR_LABELS = (-1, 1, 1, 1)
XOR_LABELS = (-1, 1, 1, -1)


def perceptron(
    rows: Sequence[Sequence[float]], labels: Sequence[int], passes: int
) -> tuple[list[Tensor], list[int]]:
    """The weights after each row, and the mistakes of each pass, which end with one of none.

    w = w + y x wherever y (w.x) <= 0.
    """
    w, after, mistakes = real([0.0] * len(rows[0])), [], []
    for _ in range(passes):
        wrong = 0
        for row, label in zip(rows, labels, strict=True):
            if label * float(w @ real(row)) <= 0:
                w, wrong = w + label * real(row), wrong + 1
            after.append(w)
        mistakes.append(wrong)
        if not wrong:
            break
    return after, mistakes


@example("1.2", "Binary perceptron: OR learned, and the bound k / delta^2 on its mistakes")
def binary_perceptron() -> Iterator[Figure]:
    after, mistakes = perceptron(OR_ROWS, OR_LABELS, passes=20)
    yield worked("weights after the first pass", [1, 1, 1], after[3])
    yield worked("mistakes in each pass", [3, 1, 2, 2, 1, 0], mistakes)
    yield worked("weights at the end (bias, x1, x2)", [-1, 2, 2], after[-1])
    scores = real(OR_ROWS) @ after[-1]
    yield worked("scores of the four rows", [-1, 1, 1, 3], scores)
    unit = after[-1] / ops.vector_norm(after[-1])
    margin = ops.min(real(OR_LABELS) * (real(OR_ROWS) @ unit))
    yield worked("margin delta of the unit weights", 1 / 3, margin)
    bound = len(OR_ROWS[0]) / float(margin) ** 2
    yield worked("bound k / delta^2 with k = 3 features", 27, bound)
    yield worked("9 mistakes are within the bound", True, sum(mistakes) == 9 and bound >= 9)
    learner = Perceptron(20, bias=False).fit(real(OR_ROWS), OR_LABELS)
    yield worked("the learner: its weights", [-1, 2, 2], learner.fitted())
    yield worked("  its mistakes in each pass", [3, 1, 2, 2, 1, 0], learner.trace)
    found = mistake_bound(real(OR_ROWS), OR_LABELS, bias=False)
    yield worked(
        "  k / delta^2 of the widest margin found", 27, found.mistakes_by_features, within=0.2
    )


@example("1.3", "Thrashing: XOR is not separable, and no pass is without a mistake")
def thrashing() -> Iterator[Figure]:
    after, mistakes = perceptron(OR_ROWS, XOR_LABELS, passes=50)
    yield worked("passes", 50, len(mistakes))
    yield worked("passes without a mistake", 0, mistakes.count(0))
    ends = [tuple(w.tolist()) for w in after[3::4]]
    yield worked("the weights come back to where they were", True, len(set(ends)) < len(ends))
    moves = [float(ops.sum(ops.abs(b - a))) for a, b in pairwise(after[-5:])]
    yield worked("and still move in the last pass", True, max(moves) > 0)
    learner = Perceptron(50, bias=False).fit(real(OR_ROWS), XOR_LABELS)
    yield worked("the learner makes the same mistakes", mistakes, learner.trace)


# Features: bias, win, game, vote, the. Classes: sports, politics, tech.
SENTENCES = (
    ("win the vote", (1, 1, 0, 1, 1), 1),
    ("win the election", (1, 1, 0, 0, 1), 1),
    ("win the game", (1, 1, 1, 0, 1), 0),
)


@example("1.4", "Multiclass perceptron: three sentences, three classes, by hand")
def multiclass_perceptron() -> Iterator[Figure]:
    w = real([[1, 0, 0, 0, 0], [0] * 5, [0] * 5])
    expected = (
        ([1, 0, 0], 0, [[0, -1, 0, -1, -1], [1, 1, 0, 1, 1], [0] * 5]),
        ([-2, 3, 0], 1, [[0, -1, 0, -1, -1], [1, 1, 0, 1, 1], [0] * 5]),
        ([-2, 3, 0], 1, [[1, 0, 1, -1, 0], [0, 0, -1, 1, 0], [0] * 5]),
    )
    for (text, row, label), (scores, guess, weights) in zip(SENTENCES, expected, strict=True):
        x = real(row)
        found = w @ x
        yield worked(f"scores of {text!r}", scores, found)
        predicted = int(ops.argmax(found))
        yield worked("  predicted class", guess, predicted)
        if predicted != label:
            right = ops.one_hot(ops.asarray(label), 3, dtype="float64")
            wrong = ops.one_hot(ops.asarray(predicted), 3, dtype="float64")
            w = w + ops.outer(right - wrong, x)
        yield worked("  weights after it", weights, w)
    rows, labels = real([row for _, row, _ in SENTENCES]), [label for *_, label in SENTENCES]
    learner = MulticlassPerceptron(20, bias=False).fit(rows, labels)
    yield worked("the learner, from zero, tells them apart", labels, learner.predict(rows))
    yield worked(
        "  and its weights sum to 0 over the classes", [0] * 5, learner.fitted().sum(axis=1)
    )


@example("1.5", "Averaged perceptron: the mean of the weights after every row")
def averaged_perceptron() -> Iterator[Figure]:
    after, _ = perceptron(OR_ROWS, OR_LABELS, passes=20)
    mean = ops.mean(ops.stack(after), axis=0)
    yield worked("rows seen", 24, len(after))
    yield worked("mean weights on OR", [-5 / 12, 4 / 3, 19 / 12], mean)
    scores = real(OR_ROWS) @ mean
    yield worked("their scores", [-5 / 12, 7 / 6, 11 / 12, 2.5], scores)
    yield worked("which are right", OR_LABELS, ops.sign(scores))
    learner = AveragedPerceptron(20, bias=False).fit(real(OR_ROWS), OR_LABELS)
    yield worked("the learner: its weights", [-5 / 12, 4 / 3, 19 / 12], learner.fitted())


@example("1.6", "From scores to probabilities: sigmoid of one, softmax of several")
def probabilities() -> Iterator[Figure]:
    w, f = real([LN3, -LN3, 2 * LN3]), real([1, 2, 1])
    score = w @ f
    yield worked("score w.f = ln 3 - 2 ln 3 + 2 ln 3", LN3, score)
    yield worked("probability of the class 1", 3 / 4, ops.sigmoid(score))
    yield worked("of the class 0", 1 / 4, ops.sigmoid(-score))
    for sharpness in (1, 2, 4):
        power = 3.0**sharpness
        yield worked(
            f"sigmoid({sharpness} w.f): steeper",
            power / (1 + power),
            ops.sigmoid(sharpness * score),
        )
    scores = real([0, LN2, LN3])
    yield worked("softmax(ln 1, ln 2, ln 3)", [1 / 6, 1 / 3, 1 / 2], ops.softmax(scores))
    yield worked("the same after 1000 is added", [1 / 6, 1 / 3, 1 / 2], ops.softmax(scores + 1000))
    two = ops.softmax(real([LN3, 0]))
    yield worked("softmax of two scores is sigmoid of their difference", [3 / 4, 1 / 4], two)


@example("1.7", "Likelihood of a tiny data set, and its gradient")
def likelihood() -> Iterator[Figure]:
    x, y = real([1, -1, 0]), real([1, 0, 1])

    def log_likelihood(w: Tensor) -> Tensor:
        return ops.sum(ops.log_sigmoid((2 * y - 1) * w * x))

    value, slope = value_and_grad(log_likelihood)(real(LN3))
    yield worked("likelihood at w = ln 3: 3/4 3/4 1/2", 9 / 32, ops.exp(value))
    yield worked("its logarithm", math.log(9 / 32), value)
    yield worked("d/dw = sum (y - sigmoid(w x)) x", 1 / 2, slope)
    loss = binary_cross_entropy(real(LN3) * x, y, reduction="sum")
    yield worked("as a loss: binary cross-entropy", -math.log(9 / 32), loss)
    higher = [log_likelihood(real(w)) for w in (0.0, LN3, 10.0)]
    yield worked(
        "the larger w, the larger: 1/8, 9/32, towards 1/2",
        [1 / 8, 9 / 32, 0.5 / (1 + math.exp(-10)) ** 2],
        [math.exp(float(v)) for v in higher],
    )


@example("1.8", "Softmax regression: likelihood of several classes")
def softmax_likelihood() -> Iterator[Figure]:
    z = real([[0, LN2, LN3], [0, LN2, LN3]])
    y = ops.asarray([2, 0])
    yield worked("likelihood 1/2 1/6", 1 / 12, ops.exp(-cross_entropy(z, y, reduction="sum")))
    slope = grad(lambda z: cross_entropy(z, y, reduction="sum"))(z)
    shown = [[1 / 6, 1 / 3, -1 / 2], [-5 / 6, 1 / 3, 1 / 2]]
    yield worked("gradient: probabilities less the one of the class", shown, slope)


@example("1.9", "XOR by a feature: with x1 x2 beside x1 and x2 it is linear")
def features() -> Iterator[Figure]:
    rows = real([row[1:] for row in OR_ROWS])
    fitted = FeatureMap(LinearRegression()).fit(rows, real([0, 1, 1, 0]))
    yield worked(
        "least squares: x1 + x2 - 2 x1 x2", [1, 1, -2], fitted.learner.fitted(), within=1e-12
    )
    yield worked("  and no bias", 0, fitted.learner.bias, within=1e-12)
    yield worked("  its outputs", [0, 1, 1, 0], fitted.predict(rows), within=1e-12)
    learner = FeatureMap(Perceptron(100)).fit(rows, XOR_LABELS)
    yield worked("a perceptron on these features is right", XOR_LABELS, learner.predict(rows))
    yield worked("  and comes to rest", 0, learner.learner.trace[-1])


@example("1.10", "Logistic and softmax regression: where the likelihood is largest")
def regression() -> Iterator[Figure]:
    # Three of four are 1 where x = 1, one of four where x = -1: sigmoid(w) = 3/4, w = ln 3.
    x, y = real([[1.0]] * 4 + [[-1.0]] * 4), [1, 1, 1, 0, 0, 0, 0, 1]
    binary = LogisticRegression().fit(x, y)
    yield worked("logistic: w = ln 3", [LN3], binary.fitted().reshape(-1), within=1e-6)
    yield worked("  score at x = 0", 0, binary.model(real([[0.0]])), within=1e-6)
    # Classes 0, 1, 2 come 1, 2 and 3 times: without features the bias tells their shares.
    classes = SoftmaxRegression().fit(real([[0.0]] * 6), [0, 1, 1, 2, 2, 2])
    chances = ops.softmax(classes.model(real([[0.0]])))
    yield worked("softmax: shares of the classes", [[1 / 6, 1 / 3, 1 / 2]], chances, within=1e-6)
