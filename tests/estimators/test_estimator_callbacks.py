"""scikit-learn's callbacks see what an estimator does."""

from __future__ import annotations

from typing import Any

import pytest
import sklearn

from gradnet.estimators import MLPClassifier

Arrays = tuple[Any, Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="callbacks came with 1.9"
)
@pytest.mark.parametrize("partial", [True, False])
def test_callbacks_see_every_epoch(classes: Arrays, partial: bool) -> None:
    X, y = classes

    class Watch:
        """Notes what it is told, and asks for the end after the fourth epoch."""

        def __init__(self) -> None:
            self.scores: list[float] = []
            self.turns: list[str] = []

        def setup(self, estimator: Any, context: Any) -> None:
            self.turns.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            self.turns.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            self.turns.append(f"{context.task_name} begins")

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, y: Any, fitted_estimator: Any
        ) -> bool:
            self.turns.append(f"{context.task_name} ends")
            if context.task_name == "epoch":
                self.scores.append(fitted_estimator.score(X, y))
            return len(self.scores) == 4

    watch = Watch()
    model = MLPClassifier(5, max_iter=30, learning_rate_init=0.05, random_state=0)
    model.set_callbacks(watch)
    if partial:
        model.partial_fit(X, y, classes=["a", "b", "c"])
    else:
        model.fit(X, y)
    count = 1 if partial else 4
    assert model.n_iter_ == count
    assert watch.scores[-1] == model.score(X, y)
    assert watch.turns == [
        *("setup", "fit begins"),
        *["epoch begins", "epoch ends"] * count,
        *("fit ends", "teardown"),
    ]
