"""Perceptrons: binary, of many classes, averaged; and the bound on how often they can be wrong."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

from gradnet import ops
from gradnet.learners import intake
from gradnet.random import Generator
from gradnet.tensor import Tensor
from gradnet.training.checks import number, whole

# Rows that are looked at together at first: up to the next mistake the weights stay as they are.
_WINDOW = 64


class MistakeBound(NamedTuple):
    """How often a perceptron that starts at zero can be wrong on rows that a plane separates.

    margin    delta: the distance of the plane from the nearest row, reached by a plane found
    radius    R: the length of the longest row
    features  k: the columns, with one for the bias
    mistakes  (R / delta)^2, at least the mistakes of any run (Novikoff 1962); infinite where no
              separating plane was found
    """

    margin: float
    radius: float
    features: int

    @property
    def mistakes(self) -> float:
        """(R / delta)^2"""
        return (self.radius / self.margin) ** 2 if self.margin > 0 else math.inf

    @property
    def mistakes_by_features(self) -> float:
        """k / delta^2, the same bound for rows in [-1, 1]^k, which are not longer than sqrt(k)."""
        return self.features / self.margin**2 if self.margin > 0 else math.inf


def mistake_bound(
    X: Any, y: Any, *, bias: bool = True, iterations: int = 2000, tolerance: float = 1e-3
) -> MistakeBound:
    """The bound on a perceptron's mistakes on rows X (n, k) with labels y, and what it is made of.

    The plane's normal p is the shortest vector in the hull of all y x (with `bias`, x has a
    further column of ones), found by moving weight from the row with the largest p.(y x) among
    those that count to the row with the smallest (Mitchell, Demyanov and Malozemov 1974). The
    margin is one that this plane reaches: at most the largest, and within `tolerance` of it unless
    the iterations end first, so that the bound always holds.
    """
    x = _with_ones(intake.features(X), bias)
    signs, _ = intake.signs(y, x)
    rows = x * ops.expand_dims(signs, 1)
    radius = math.sqrt(float(ops.max(ops.sum(ops.square(x), axis=1))))
    share = [0.0] * rows.shape[0]
    share[0] = 1.0
    p, margin = rows[0], 0.0
    counts = ops.zeros_like(rows[:, 0])
    counts[0] = 1.0
    for _ in range(iterations):
        along = ops.matmul(rows, p)
        low = int(ops.argmin(along))
        high = int(ops.argmax(ops.where(counts > 0, along, -math.inf)))
        lowest, highest, length = float(along[low]), float(along[high]), float(ops.sum(p * p))
        margin = max(margin, lowest / math.sqrt(length) if length else 0.0)
        if highest - lowest <= tolerance * length or length <= 1e-12 * radius**2:
            break
        across = rows[low] - rows[high]
        step = min(share[high], (highest - lowest) / float(ops.sum(across * across)))
        share[low] += step
        share[high] = share[high] - step if step < share[high] else 0.0
        counts[low], counts[high] = share[low], share[high]
        p = p + step * across
    return MistakeBound(margin, radius, x.shape[1])


def _with_ones(x: Tensor, bias: bool) -> Tensor:
    return ops.concat([x, ops.ones_like(x[:, :1])], axis=1) if bias else x


class _MistakeDriven(intake.Fitted):
    """What perceptrons share: pass over the rows, and change the weights at each mistake.

    trace      mistakes of each epoch: it ends with 0 where the classes are separable and the
               epochs suffice, and goes on and on where they are not
    mistakes   all of them
    converged  whether the last epoch had none
    weights    (k,) or (k, classes); `bias` () or (classes,), zero without one
    """

    averaged = False

    def __init__(
        self,
        epochs: int = 100,
        *,
        lr: float = 1.0,
        bias: bool = True,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        self.epochs, self.lr = whole("epochs", epochs, 1), number("lr", lr, above=0.0)
        self.has_bias, self.shuffle, self.seed = bias, shuffle, whole("seed", seed, 0)
        self.trace: list[int] = []
        self.bias: Tensor | None = None

    @property
    def mistakes(self) -> int:
        """The mistakes of all epochs."""
        return sum(self.trace)

    @property
    def converged(self) -> bool:
        """Whether the last epoch had no mistake: the weights separate the rows."""
        return bool(self.trace) and self.trace[-1] == 0

    # What differs: the shape of the weights, what is a mistake, and what it changes.

    def _begin(self, x: Tensor, y: Any) -> tuple[Tensor, Tensor]:
        """Targets (n,), and weights of zero."""
        raise NotImplementedError

    def _wrong(self, scores: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def _change(self, x: Tensor, scores: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (n, k) and labels y (n,), in order, until an epoch has no mistake."""
        x = _with_ones(intake.features(X), self.has_bias)
        targets, w = self._begin(x, y)
        total = ops.zeros_like(w)
        self.trace, generator, rows = [], Generator(self.seed), x.shape[0]
        for epoch in range(self.epochs):
            if self.shuffle:
                order = generator.permutation(rows, backend=x.backend)
                x, targets = ops.take(x, order, axis=0), ops.take(targets, order, axis=0)
            mistakes, start, window = 0, 0, _WINDOW
            while start < rows:
                seen, wanted = x[start : start + window], targets[start : start + window]
                scores = ops.matmul(seen, w)
                wrong = self._wrong(scores, wanted)
                first = int(ops.argmax(ops.astype(wrong, "int8")))
                if not bool(wrong[first]):
                    start, window = start + window, 2 * window
                    continue
                change = self.lr * self._change(seen[first], scores[first], wanted[first])
                w = w + change
                # What the average of the weights after every row lacks of the last weights.
                total = total + change * (epoch * rows + start + first)
                mistakes, start, window = mistakes + 1, start + first + 1, max(8, 2 * first)
            self.trace.append(mistakes)
            if not mistakes:
                break
        if self.averaged:
            w = w - total / (len(self.trace) * rows)
        self.weights = w[:-1] if self.has_bias else w
        self.bias = w[-1] if self.has_bias else ops.zeros_like(w[0])
        return self

    def decision(self, X: Any) -> Tensor:
        """x.w + b for each row: (n, k) -> (n,) or (n, classes)."""
        weights = self.fitted()
        return ops.matmul(intake.features(X, weights.shape[0]), weights) + self.bias


class Perceptron(_MistakeDriven):
    """Two classes, -1 and 1 (or 0 and 1), told apart by the sign of w.x + b.

        w = 0, b = 0
        for each row x with label y = -1 or 1, again and again:
            if y (w.x + b) <= 0:                a mistake
                w = w + lr y x
                b = b + lr y

    On rows that a plane through the origin separates with the margin delta (b counts as the weight
    of a column of ones), it is wrong at most (R / delta)^2 times, R being the length of the longest
    row: `mistake_bound`. On others it never comes to rest. Rosenblatt 1958; Novikoff 1962.
    """

    _lower = -1

    def _begin(self, x: Tensor, y: Any) -> tuple[Tensor, Tensor]:
        targets, self._lower = intake.signs(y, x)
        return targets, ops.zeros_like(x[0])

    def _wrong(self, scores: Tensor, targets: Tensor) -> Tensor:
        wrong: Tensor = scores * targets <= 0
        return wrong

    def _change(self, x: Tensor, scores: Tensor, target: Tensor) -> Tensor:
        return x * target

    def bound(self, X: Any, y: Any) -> MistakeBound:
        """The bound on the mistakes on these rows: see `mistake_bound`."""
        return mistake_bound(X, y, bias=self.has_bias)

    def predict(self, X: Any) -> Tensor:
        """The labels of rows, as int64: (n, k) -> (n,)."""
        return intake.labels(self.decision(X), self._lower)


class AveragedPerceptron(Perceptron):
    """A perceptron that predicts by the mean of its weights after every row it has seen.

        w = 0, sum = 0
        for each row x with label y = -1 or 1, again and again:
            if y (w.x + b) <= 0:
                w = w + lr y x,  b = b + lr y
            sum = sum + w
        w = sum / rows seen

    Weights that were right for long count for more than those just changed, so that thrashing on
    classes that overlap averages out. Freund and Schapire 1999; Collins 2002.
    """

    averaged = True


class MulticlassPerceptron(_MistakeDriven):
    """Classes 0 ... k - 1: the one with the largest w_c.x + b_c.

        w_c = 0, b_c = 0 for every class c
        for each row x of class y, again and again:
            c = the class with the largest w_c.x + b_c
            if c != y:                          a mistake
                w_y = w_y + lr x,  b_y = b_y + lr
                w_c = w_c - lr x,  b_c = b_c - lr

    With `averaged` it predicts by the mean of its weights after every row.
    """

    def __init__(self, epochs: int = 100, *, averaged: bool = False, **options: Any) -> None:
        super().__init__(epochs, **options)
        self.averaged = averaged

    def _begin(self, x: Tensor, y: Any) -> tuple[Tensor, Tensor]:
        targets, self.classes = intake.classes(y, x)
        return targets, ops.zeros((x.shape[1], self.classes), dtype=x.dtype, backend=x.backend)

    def _wrong(self, scores: Tensor, targets: Tensor) -> Tensor:
        wrong: Tensor = ops.argmax(scores, axis=1) != targets
        return wrong

    def _change(self, x: Tensor, scores: Tensor, target: Tensor) -> Tensor:
        pair = ops.one_hot(ops.stack([target, ops.argmax(scores)]), self.classes, dtype=x.dtype)
        return ops.outer(x, pair[0] - pair[1])

    def predict(self, X: Any) -> Tensor:
        """The classes of rows: (n, k) -> (n,)."""
        return ops.argmax(self.decision(X), axis=1)
