"""scikit-learn: MLPClassifier or MLPRegressor, one call of fit; or with its own defaults."""

from __future__ import annotations

from typing import Any

from sklearn.metrics import root_mean_squared_error
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks.fitting.clock import Job


def main() -> None:
    job = Job()
    arrays = job.arrays()
    X, y, X_test, y_test = (arrays[name] for name in ("X", "y", "X_test", "y_test"))
    settings: dict[str, Any] = {"random_state": job.seed}
    if job.mode != "defaults":
        settings |= {
            "hidden_layer_sizes": job.sizes[1:-1],
            "batch_size": job.batch,
            "learning_rate_init": job.lr,
            "max_iter": job.epochs,
            "n_iter_no_change": job.epochs,
            "alpha": 0.0,
        }
    if job.classification:
        model = MLPClassifier(**settings).fit(X, y)
        score = model.score(X_test, y_test)
    else:
        model = MLPRegressor(**settings).fit(X, y.ravel())
        score = -root_mean_squared_error(y_test.ravel(), model.predict(X_test))
    job.tell(model.n_iter_, score)


main()
