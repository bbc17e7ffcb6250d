"""scikit-learn estimators, trained by `gradnet.training`, for pipelines and searches.

    from gradnet.estimators import MLPClassifier, TabularMLPClassifier

    MLPClassifier((64, 64), early_stopping=True, dropout=0.1).fit(X, y).predict(X)
    TabularMLPClassifier().fit(frame, y).predict_proba(frame)

- `MLPClassifier` and `MLPRegressor` have scikit-learn's parameters, defaults and attributes. From
  one `random_state` the first weights are scikit-learn's, and so are the rows held out of two
  classes and of a regression; a fit by full batches goes the same way, but for rounding.
- Beyond those: any activation, optimizer and schedule of gradnet; any metric to stop early by, on
  rows held out or given as X_val, y_val; weights of classes; dropout; a device; a warm start and
  a `partial_fit` that go on as if never interrupted.
- `TabularMLPClassifier` and `TabularMLPRegressor` take a data frame as it is, with categories and
  missing cells, and choose what is not set.
- `Perceptron` learns by Rosenblatt's rule.

A fitted estimator is arrays and parameters: it pickles, copies and clones as others do. Callbacks
of scikit-learn 1.9 are told of every epoch. Needs scikit-learn, of the `train` extra.
"""

from __future__ import annotations

from gradnet.estimators.classifier import MLPClassifier
from gradnet.estimators.perceptron import Perceptron
from gradnet.estimators.regressor import MLPRegressor
from gradnet.estimators.tabular import TabularMLPClassifier, TabularMLPRegressor

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "Perceptron",
    "TabularMLPClassifier",
    "TabularMLPRegressor",
]
