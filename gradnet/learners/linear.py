"""Linear and logistic models: least squares in closed form and by descent; sigmoid and softmax."""

from __future__ import annotations

from typing import Any, Self

from gradnet import linalg, ops
from gradnet.autodiff import value_and_grad
from gradnet.learners import intake
from gradnet.nn import MLP, losses
from gradnet.tensor import Tensor
from gradnet.training import EarlyStopping, History, Trainer
from gradnet.training.checks import number, whole


class LinearRegression(intake.Fitted):
    """y = X w + b with the least mean squared error L = 1/n sum (X w + b - y)^2.

    method="closed", where the gradient is zero:

        w = (X' X)^-1 X' y                      X and y without their means

    computed by the pseudo-inverse of X, which squares no condition number, and gives the shortest
    w where columns depend on one another. method="descent", against the gradient:

        repeat:  w = w - lr dL/dw,  b = b - lr dL/db

    with lr by default 1 over the largest curvature of L, for which no step goes up.

    weights, bias  (k,) and (), or (k, m) and (m,) for m targets
    trace          L: of the solution, or before each step of the descent and at its end
    """

    def __init__(
        self, method: str = "closed", *, lr: float | None = None, steps: int = 1000
    ) -> None:
        if method not in ("closed", "descent"):
            raise ValueError(f"LinearRegression has method 'closed' or 'descent', got {method!r}")
        self.method, self.steps = method, whole("steps", steps, 1)
        self.lr = None if lr is None else number("lr", lr, above=0.0)
        self.trace: list[float] = []
        self.bias: Tensor | None = None

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (n, k) and values y (n,) or (n, m)."""
        x = intake.features(X)
        y = intake.values(y, x)
        if self.method == "closed":
            mean, level = ops.mean(x, axis=0), ops.mean(y, axis=0)
            w = ops.matmul(linalg.pinv(x - mean), y - level)
            b = level - ops.matmul(mean, w)
            self.trace = [float(losses.mse(ops.matmul(x, w) + b, y))]
        else:
            w, b = self._descend(x, y)
        self.weights, self.bias = w, b
        return self

    def _descend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        error = value_and_grad(
            lambda w, b: losses.mse(ops.matmul(x, w) + b, y, check=False), argnums=(0, 1)
        )
        lr = self.lr
        if lr is None:
            ones = ops.concat([x, ops.ones_like(x[:, :1])], axis=1)
            curvature = linalg.eigvalsh(ops.matmul(ones.mT, ones))[-1] * (2 / y.size)
            lr = 1 / float(curvature)
        w, b = ops.zeros_like(ops.matmul(x.mT, y)), ops.zeros_like(y[0])
        self.trace = []
        for _ in range(self.steps):
            loss, (dw, db) = error(w, b)
            self.trace.append(float(loss))
            w, b = w - lr * dw, b - lr * db
        self.trace.append(float(error(w, b)[0]))
        return w, b

    def predict(self, X: Any) -> Tensor:
        """X w + b: (n, k) -> (n,) or (n, m)."""
        weights = self.fitted()
        return ops.matmul(intake.features(X, weights.shape[0]), weights) + self.bias


class _LinearClassifier(intake.Fitted):
    """A network without hidden layers, trained by `gradnet.fit`.

    weights, bias  of the one layer
    model          the network; `history` of its training, `trace` the loss of each epoch
    """

    output: str

    def __init__(
        self,
        *,
        l2: float = 0.0,
        optimizer: Any = "lbfgs",
        lr: float | None = None,
        epochs: int = 100,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        self.l2, self.optimizer, self.lr = number("l2", l2), optimizer, lr
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed
        self.trace: list[float] = []
        self.history: History | None = None
        self.bias: Tensor | None = None

    def _targets(self, y: Any, x: Tensor) -> tuple[Tensor, int]:
        """Targets, and the outputs of the network."""
        raise NotImplementedError

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows X (n, k) and labels y (n,)."""
        x = intake.features(X)
        targets, outputs = self._targets(y, x)
        self.model = MLP(
            (x.shape[1], outputs), output=self.output, init="zeros", dtype=x.dtype, device=x.device
        )
        # Where the loss no longer changes, there is nothing more to find.
        stopping = EarlyStopping(3, monitor="loss") if self.optimizer == "lbfgs" else None
        self.history = Trainer(
            self.model,
            optimizer=self.optimizer,
            lr=self.lr,
            epochs=self.epochs,
            batch_size=self.batch_size,
            l2=self.l2,
            seed=self.seed,
            early_stopping=stopping,
            progress=False,
        ).fit(x, targets)
        self.trace = self.history.to_dict()["columns"]["loss"]
        layer = self.model.layers[0]
        self.weights, self.bias = layer.weight.detach(), layer.bias.detach()
        return self

    def decision(self, X: Any) -> Tensor:
        """The raw outputs: (n, k) -> (n, outputs)."""
        weights = self.fitted()
        return ops.matmul(intake.features(X, weights.shape[0]), weights) + self.bias


class LogisticRegression(_LinearClassifier):
    """Two classes, -1 and 1 (or 0 and 1): P(1 | x) = sigmoid(w.x + b).

    Most likely weights, by gradient ascent on the log-likelihood, with labels y = 0 or 1:

        repeat:  w = w + lr 1/n sum_i (y_i - sigmoid(w.x_i + b)) x_i
                 b = b + lr 1/n sum_i (y_i - sigmoid(w.x_i + b))

    That rule is optimizer="sgd" with a batch_size of None, and with 1 the stochastic one. The
    default, L-BFGS on all rows, finds the same maximum in fewer steps. On separable rows there is
    none: w grows for ever, unless `l2` > 0 adds l2 w.w to the mean loss. Cox 1958.
    """

    output = "sigmoid"
    _lower = 0

    def _targets(self, y: Any, x: Tensor) -> tuple[Tensor, int]:
        signs, self._lower = intake.signs(y, x)
        return ops.astype(signs > 0, "int64"), 1

    def predict_proba(self, X: Any) -> Tensor:
        """The probability of either class: (n, k) -> (n, 2)."""
        one = self.model.output.predict(self.decision(X))
        return ops.concat([1 - one, one], axis=1)

    def predict(self, X: Any) -> Tensor:
        """The more probable labels: (n, k) -> (n,)."""
        return intake.labels(self.decision(X)[:, 0], self._lower)


class SoftmaxRegression(_LinearClassifier):
    """Classes 0 ... k - 1: P(c | x) = exp(w_c.x + b_c) / sum_j exp(w_j.x + b_j).

    Most likely weights, by gradient ascent on the log-likelihood:

        repeat:  w_c = w_c + lr 1/n sum_i ([y_i = c] - P(c | x_i)) x_i    for every class c

    with the optimizers, and the `l2`, of `LogisticRegression`, which it is for two classes.
    """

    output = "softmax"

    def _targets(self, y: Any, x: Tensor) -> tuple[Tensor, int]:
        return intake.classes(y, x)

    def predict_proba(self, X: Any) -> Tensor:
        """The probability of each class: (n, k) -> (n, classes)."""
        found: Tensor = self.model.output.predict(self.decision(X))
        return found

    def predict(self, X: Any) -> Tensor:
        """The most probable classes: (n, k) -> (n,)."""
        return ops.argmax(self.decision(X), axis=1)
