"""scikit-learn's own checks of estimators: all of them, none expected to fail."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.base import is_classifier
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from gradnet.estimators import (
    MLPClassifier,
    MLPRegressor,
    Perceptron,
    TabularMLPClassifier,
    TabularMLPRegressor,
)

SMALL: dict[str, Any] = {"hidden_layer_sizes": 10, "max_iter": 20, "learning_rate_init": 0.03}
ESTIMATORS = [
    (MLPClassifier(**SMALL), 67),
    (MLPRegressor(**SMALL), 60),
    (TabularMLPClassifier(**SMALL, batch_size=64), 60),
    (TabularMLPRegressor(**SMALL, batch_size=64), 57),
    (Perceptron(max_iter=3), 55),
]
# Checks that are for what an estimator does not have, or for another environment.
SKIPPED = {
    "check_array_api_input",
    "check_classifiers_multilabel_output_format_decision_function",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "count"), ESTIMATORS, ids=lambda x: type(x).__name__)
def test_all_checks_pass(estimator: Any, count: int) -> None:
    results = check_estimator(estimator, on_skip=None)
    failed = [r["check_name"] for r in results if r["status"] not in ("passed", "skipped")]
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= SKIPPED
    assert len(results) >= count


@pytest.mark.parametrize("estimator", [e for e, _ in ESTIMATORS], ids=lambda e: type(e).__name__)
def test_tags_say_what_they_are(estimator: Any) -> None:
    tags = get_tags(estimator)
    assert is_classifier(estimator) is ("Classifier" in type(estimator).__name__) or isinstance(
        estimator, Perceptron
    )
    assert tags.input_tags.allow_nan is ("Tabular" in type(estimator).__name__)
    assert tags.target_tags.required
