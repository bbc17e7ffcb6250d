"""Networks as scikit-learn holds them, lists of arrays, and as the Modules that compute."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradnet import nn, ops
from gradnet.nn import losses, regularization
from gradnet.nn.init import blank
from gradnet.optim import Optimizer
from gradnet.tensor import Tensor
from gradnet.training import build, evaluation

Array = NDArray[Any]

ALIASES = {"logistic": "sigmoid"}
"""Activations that scikit-learn calls by another name."""
SKLEARN = ("identity", "logistic", "tanh", "relu")
"""Activations that scikit-learn has, whose weights are drawn as it draws them."""


def dense(X: Any) -> Array:
    """An array of X, which may be sparse."""
    found: Array = X.toarray() if hasattr(X, "toarray") else X
    return found


OUTPUTS = {"softmax": "softmax", "logistic": "sigmoid", "identity": "linear", "exp": "poisson"}
"""The output unit of each `out_activation_`."""


def _averaged(each: Tensor, sample_weight: Any, factor: float) -> Any:
    """Losses (n, m) times `factor`, summed over columns, averaged over rows."""
    if sample_weight is None:
        return ops.sum(each * (factor / each.shape[0]))
    scale = ops.reshape(sample_weight, (-1, 1)) * (factor / ops.sum(sample_weight))
    return ops.sum(each * scale)


def half_squared_error(
    z: Tensor, y: Tensor, *, sample_weight: Any = None, check: bool = True
) -> Any:
    """sum_j (z_j - y_j)^2 / 2 over columns, averaged over rows: z and y (n, m)."""
    return _averaged(ops.square(z - y), sample_weight, 0.5)


def half_deviance(z: Tensor, y: Tensor, *, sample_weight: Any = None, check: bool = True) -> Any:
    """sum_j exp(z_j) - y_j + y_j (log y_j - z_j) over columns, averaged over rows: counts y (n, m).

    The Poisson distribution's -log p(y) less the smallest that it can be.
    """
    # Of a count of 0 the logarithm does not matter.
    return _averaged(ops.exp(z) - y + y * (ops.log(ops.maximum(y, 1e-30)) - z), sample_weight, 1.0)


def log_loss(z: Tensor, y: Tensor, *, sample_weight: Any = None, check: bool = True) -> Any:
    """-log p(y), summed over labels, averaged over rows."""
    loss = losses.binary_cross_entropy(z, y, sample_weight=sample_weight, check=check)
    return loss if z.shape[1] == 1 else loss * float(z.shape[1])


LOSSES = {"logistic": log_loss, "identity": half_squared_error, "exp": half_deviance}
"""The losses that differ from the output units' own, which average over columns."""


def network(
    sizes: Sequence[int],
    *,
    activation: str,
    dropout: float,
    out_activation: str,
    dtype: Any,
    device: str | None,
    seed: int | None = None,
) -> nn.MLP:
    """A network with weights drawn from a seed; without one, they are for `put` to give."""
    with contextlib.nullcontext() if seed is not None else blank():
        return nn.MLP(
            sizes,
            ALIASES.get(activation, activation),
            dropout,
            OUTPUTS[out_activation],
            seed=seed,
            dtype=np.dtype(dtype).name,
            device=device,
        )


def drawn(
    sizes: Sequence[int], activation: str, dtype: Any, random: np.random.RandomState
) -> tuple[list[Array], list[Array]]:
    """Weights and biases uniform in ±sqrt(6 / (in + out)), or sqrt(2 / ...) for "logistic".

    They are scikit-learn's from the same `random`, to the bit. Glorot and Bengio 2010.
    """
    factor = 2.0 if activation == "logistic" else 6.0
    coefs, intercepts = [], []
    for n, m in pairwise(sizes):
        bound = np.sqrt(factor / (n + m))
        coefs.append(random.uniform(-bound, bound, (n, m)).astype(dtype))
        intercepts.append(random.uniform(-bound, bound, m).astype(dtype))
    return coefs, intercepts


def _layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]


def arrays(model: nn.Module) -> tuple[list[Array], list[Array], dict[str, Array]]:
    """Copies of the weights of all layers, of their biases, and of what else is learned."""
    coefs, intercepts, named = [], [], set()
    for name, layer in _layers(model):
        assert layer.bias is not None
        coefs.append(np.array(layer.weight.detach().numpy()))
        intercepts.append(np.array(layer.bias.detach().numpy()))
        named |= {f"{name}.weight", f"{name}.bias"}
    others = {
        name: np.array(x.detach().numpy())
        for name, x in model.state_dict().items()
        if name not in named
    }
    return coefs, intercepts, others


def put(
    model: nn.Module,
    coefs: Sequence[Any],
    intercepts: Sequence[Any],
    others: Mapping[str, Any],
) -> None:
    """Give a network the weights that `arrays` gave.

    Raises ValueError for weights of another layout.
    """
    found = _layers(model)
    expected = [layer.weight.shape for _, layer in found]
    given = [np.shape(w) for w in coefs]
    if expected != given:
        raise ValueError(
            f"coefs_ have the shapes {given}, but the layers of this network are {expected}; fit "
            "anew with warm_start=False"
        )
    state = dict(others)
    for (name, _), w, b in zip(found, coefs, intercepts, strict=True):
        state[f"{name}.weight"], state[f"{name}.bias"] = w, b
    like = build.reference(model)
    model.load_state_dict(
        {n: ops.asarray(x, dtype=like.dtype, backend=like.backend) for n, x in state.items()}
    )


def predictions(model: Any, X: Array) -> Array:
    """What the output unit makes of rows: (n, features) -> (n, outputs)."""
    like = build.reference(model)
    x = ops.asarray(X, dtype=like.dtype, backend=like.backend)
    found: Array = model.output.predict(evaluation.outputs(model, x)).numpy()
    return found


def penalty(model: nn.Module, optimizer: Optimizer) -> float:
    """sum w^2 over the weights of layers; `options.solver` has put them in a group of their own."""
    if len(optimizer.groups) > 1:
        flats = optimizer.groups[0].flats
        buffers = [Tensor.wrap(flat.values, flat.backend) for flat in flats]
    else:
        buffers = [ops.reshape(w.detach(), (-1,)) for w in regularization.weights_of(model)]
    return sum(float(ops.vecdot(w, w)) for w in buffers)


# What an optimizer remembers


def memory(optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optimizer, with arrays for Tensors."""
    return {
        name: np.array(value.numpy()) if isinstance(value, Tensor) else value
        for name, value in optimizer.state_dict().items()
    }


def recall(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Go on with the moments of a `memory`, but with the settings that the optimizer has.

    Another kind of optimizer, or one of other parameters, starts with nothing to remember.
    """
    now = optimizer.state_dict()
    shapes = [group["shapes"] for group in now["groups"]]
    if state.get("kind") != now["kind"] or [g["shapes"] for g in state["groups"]] != shapes:
        return
    settings = [group.settings() for group in optimizer.groups]
    backend = optimizer.groups[0]["params"][0].backend
    optimizer.load_state_dict(
        {
            name: ops.asarray(x, backend=backend) if isinstance(x, np.ndarray) else x
            for name, x in state.items()
        }
    )
    for group, values in zip(optimizer.groups, settings, strict=True):
        for name, value in values.items():
            group[name] = value
