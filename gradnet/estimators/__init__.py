"""scikit-learn estimators: multilayer perceptrons for pipelines, searches and cross-validation.

from gradnet.estimators import MLPClassifier, TabularMLPClassifier

MLPClassifier((64, 64), early_stopping=True, dropout=0.1).fit(X, y).predict(X)
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
