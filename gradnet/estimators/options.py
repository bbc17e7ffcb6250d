"""What users pass to the estimators' constructors, checked when they fit, as scikit-learn does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from gradnet import nn, optim, training
from gradnet.estimators.network import ALIASES, Array

SEARCHES = ("lbfgs", "conjugate_gradient")
"""Solvers that search along lines, with all rows in every step."""
STOCHASTIC = tuple(name for name in optim.names() if name not in SEARCHES)
"""Solvers that take batches."""
COUPLED = ("sgd", "adam", "nadam", "rmsprop", "adagrad")
"""Solvers whose weight decay is the gradient of the L2 penalty."""
RATES = ("constant", "invscaling", "adaptive")
"""scikit-learn's schedules: the last two are for the solver "sgd" alone."""


def hidden_sizes(given: Any) -> tuple[int, ...]:
    """Widths of hidden layers from a number or a sequence. Raises ValueError and TypeError."""
    sizes = list(given) if hasattr(given, "__iter__") else [given]
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, Integral):
            raise TypeError(f"hidden_layer_sizes must be integers, got {size!r}")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return tuple(int(size) for size in sizes)


def real(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise TypeError or ValueError for what is no number in a range."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    x = float(value)
    below = x <= low if open_low else x < low
    above = x >= high if open_high else x > high
    if below or above or math.isnan(x):
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        raise ValueError(f"{name} must be in {left}{low:g}, {high:g}{right}, got {value!r}")


def whole(name: str, value: Any, low: int = 1) -> None:
    """Raise TypeError or ValueError for what is no integer of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise ValueError for what is not among known names."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def several(classes: Any) -> None:
    """Raise ValueError for an array of fewer than two classes."""
    if len(classes) < 2:
        only = "".join(f", {c!r}" for c in classes.tolist())
        raise ValueError(f"y has only one class{only}: there is nothing to learn")


def check(estimator: Any) -> None:
    """Raise TypeError or ValueError for parameters that cannot be used, naming them."""
    e = estimator
    hidden_sizes(e.hidden_layer_sizes)
    one_of("activation", e.activation, (*nn.activations.names(), *ALIASES))
    one_of("solver", e.solver, optim.names())
    one_of("learning_rate", e.learning_rate, (*RATES, *optim.schedule_names()))
    if e.batch_size != "auto":
        whole("batch_size", e.batch_size)
    for name in ("max_iter", "max_fun"):
        whole(name, getattr(e, name))
    for name in ("alpha", "power_t", "tol"):
        real(name, getattr(e, name))
    real("learning_rate_init", e.learning_rate_init, open_low=True)
    real("epsilon", e.epsilon, open_low=True)
    real("momentum", e.momentum, 0.0, 1.0)
    for name in ("validation_fraction", "beta_1", "beta_2", "dropout"):
        real(name, getattr(e, name), 0.0, 1.0, open_high=True)
    if e.n_iter_no_change != math.inf:
        whole("n_iter_no_change", e.n_iter_no_change)
    if e.monitor is not None and e.monitor != "loss":
        training.metric(e.monitor)


def solver(estimator: Any, model: nn.Module, decay: float) -> optim.Optimizer:
    """The optimizer that an estimator's parameters ask for; `decay` is the weight decay."""
    e, name = estimator, estimator.solver
    if name in SEARCHES:
        limits = {
            "max_iterations": e.max_iter,
            "max_evaluations": e.max_fun,
            "tolerance_grad": e.tol,
        }
        return optim.create(name, model.parameters(), **limits)
    settings: dict[str, Any] = {"lr": e.learning_rate_init}
    if name == "sgd" and e.momentum:
        settings |= {"momentum": e.momentum, "nesterov": bool(e.nesterovs_momentum)}
    if name in ("adam", "adamw", "nadam"):
        settings |= {"betas": (e.beta_1, e.beta_2), "eps": e.epsilon}
    if not decay or name not in COUPLED:
        return optim.create(name, model.parameters(), **settings)
    # Biases are left alone.
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1]},
    ]
    return optim.create(name, groups, **settings)


def weights_of_classes(
    given: Any, classes: Array, codes: Array, weight: Array | None
) -> Array | None:
    """Weights of rows times those of their classes, (n,), or None for neither.

    `given` is None, a mapping of classes to weights, where others have 1, or "balanced":
    rows / (classes present * rows of the class). Raises ValueError for anything else.
    """
    if given is None:
        return weight
    if isinstance(given, Mapping):
        each = listed_weights(given, classes)
    elif given == "balanced":
        rows = np.bincount(codes, minlength=len(classes))
        each = len(codes) / (np.count_nonzero(rows) * np.maximum(rows, 1))
    else:
        raise ValueError(f"class_weight must be 'balanced' or a mapping, got {given!r}")
    by_class: Array = each[codes]
    return by_class if weight is None else weight * by_class


def listed_weights(given: Mapping[Any, float], classes: Array) -> Array:
    """The weight of each class, 1 where the mapping has none. Raises ValueError for others."""
    unknown = [c for c in given if c not in classes]
    if unknown:
        raise ValueError(f"class_weight has the class {unknown[0]!r}, which y has not")
    return np.array([float(given.get(c, 1.0)) for c in classes.tolist()])


def keep(estimator: Any, given: dict[str, Any]) -> None:
    """Set the parameters of an `__init__`, its `locals()`, as scikit-learn asks: as they are."""
    for name, value in given.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)
