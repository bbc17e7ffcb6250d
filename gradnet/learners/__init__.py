"""Learners: what the lectures teach, each a few lines on the library with its rule beside it.

    p = gn.learners.Perceptron().fit(X, y)
    p.trace, p.mistakes, p.bound(X, y).mistakes    # mistakes of each epoch, of all, and the bound

A learner has `fit` and `predict`, and a `trace` of plain numbers: mistakes or losses, epoch by
epoch. The rule it learns by stands in its docstring as the lecture writes it.

| linear                   | `Perceptron`, `AveragedPerceptron`, `MulticlassPerceptron`,           |
|                          | `mistake_bound`, `LinearRegression`, `LogisticRegression`,            |
|                          | `SoftmaxRegression`, `FeatureMap` and `with_products` for XOR         |
| searches                 | `hill_climb`, `finite_difference_ascent`, `gradient_ascent`,          |
|                          | `compare_ascents`; `descend` with all rows, some or one,              |
|                          | `compare_descents` on one `surface`; `Restarts` side by side          |
| networks                 | `collapse` of deep linear ones, `approximate` by one hidden layer     |
| distributions            | `MixtureDensityNetwork` on an `inverse_problem`, `GAN` on a `ring`    |
"""

from gradnet.learners.approximation import Approximation, approximate, construct, learn
from gradnet.learners.ascent import (
    Ascent,
    compare_ascents,
    finite_difference_ascent,
    gradient_ascent,
    hill_climb,
)
from gradnet.learners.descent import Descent, compare_descents, descend, surface
from gradnet.learners.features import FeatureMap, with_products
from gradnet.learners.gan import GAN, Coverage, coverage, ring, ring_centres
from gradnet.learners.linear import LinearRegression, LogisticRegression, SoftmaxRegression
from gradnet.learners.linear_networks import collapse
from gradnet.learners.mixture import MixtureDensityNetwork, inverse_problem
from gradnet.learners.perceptron import (
    AveragedPerceptron,
    MistakeBound,
    MulticlassPerceptron,
    Perceptron,
    mistake_bound,
)
from gradnet.learners.restarts import Restarts, Spread

__all__ = [
    "GAN",
    "Approximation",
    "Ascent",
    "AveragedPerceptron",
    "Coverage",
    "Descent",
    "FeatureMap",
    "LinearRegression",
    "LogisticRegression",
    "MistakeBound",
    "MixtureDensityNetwork",
    "MulticlassPerceptron",
    "Perceptron",
    "Restarts",
    "SoftmaxRegression",
    "Spread",
    "approximate",
    "collapse",
    "compare_ascents",
    "compare_descents",
    "construct",
    "coverage",
    "descend",
    "finite_difference_ascent",
    "gradient_ascent",
    "hill_climb",
    "inverse_problem",
    "learn",
    "mistake_bound",
    "ring",
    "ring_centres",
    "surface",
    "with_products",
]
