"""TabularMLPClassifier and TabularMLPRegressor: frames of any library, with gaps and categories."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score

from gradnet.estimators import TabularMLPClassifier, TabularMLPRegressor

pd = pytest.importorskip("pandas")
SMALL: dict[str, Any] = {"hidden_layer_sizes": 8, "max_iter": 12, "random_state": 0}


@pytest.fixture(scope="module")
def table() -> Any:
    """Numbers, text, booleans and categories, all with gaps."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=200),
            "colour": rng.choice(["red", "green", "blue"], 200),
            "old": rng.random(200) > 0.5,
            "grade": pd.Categorical(rng.choice(["low", "high"], 200)),
            "count": rng.integers(0, 9, 200),
        }
    )
    for column in ("size", "colour", "grade"):
        frame.loc[rng.choice(200, 20, replace=False), column] = None
    return frame


@pytest.fixture(scope="module")
def target(table: Any) -> Any:
    return np.where((table["colour"] == "red") ^ table["old"], "yes", "no")


def test_a_frame_as_it_is(table: Any, target: Any) -> None:
    model = TabularMLPClassifier(16, max_iter=60, learning_rate_init=0.02, random_state=0)
    model.fit(table, target)
    assert model.score(table, target) > 0.9
    assert list(model.feature_names_in_) == list(table.columns)
    assert list(model.classes_) == ["no", "yes"]
    np.testing.assert_allclose(model.predict_proba(table).sum(axis=1), 1.0)
    assert "val_loss" not in model.history_  # few rows are all trained on
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))
    assert b"gradnet.nn" not in pickle.dumps(model)


def test_the_library_makes_no_difference(table: Any, target: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    shuffled = table.set_index(np.arange(200)[::-1])
    frames = [table, shuffled]
    expected = TabularMLPClassifier(**SMALL).fit(table, target).predict_proba(table)
    for frame in frames:
        model = TabularMLPClassifier(**SMALL).fit(frame, target)
        np.testing.assert_array_equal(model.predict_proba(frame), expected)
    np.testing.assert_array_equal(
        TabularMLPClassifier(**SMALL).fit(arrow, target).predict_proba(arrow), expected
    )


def test_polars(table: Any, target: Any) -> None:
    pl = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    frame = pl.from_arrow(pa.Table.from_pandas(table, preserve_index=False))
    expected = TabularMLPClassifier(**SMALL).fit(table, target).predict_proba(table)
    found = TabularMLPClassifier(**SMALL).fit(frame, target).predict_proba(frame)
    np.testing.assert_array_equal(found, expected)


def test_arrays_of_objects(table: Any, target: Any) -> None:
    X = table.to_numpy(dtype=object)
    model = TabularMLPClassifier(**SMALL).fit(X, target)
    assert {type(e).__name__ for e in model.preprocessing_.inputs} == {"Standard", "OneHot"}
    assert model.predict(X).shape == (200,)
    with pytest.raises(TypeError, match="string or a number"):
        TabularMLPClassifier(**SMALL).fit(np.array([[{}], [{}]] * 100, dtype=object), target)


def test_what_training_had_not(table: Any, target: Any) -> None:
    model = TabularMLPClassifier(**SMALL).fit(table, target)
    other = table.head(3).assign(colour=["violet", None, "red"], size=[None, None, 1.0])
    assert model.predict(other).shape == (3,)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table.drop(columns="old"))
    with pytest.raises(ValueError, match="dates"):
        TabularMLPClassifier(**SMALL).fit(table.assign(day=pd.Timestamp("2020-01-01")), target)
    with pytest.raises(ValueError, match="more than one type"):
        TabularMLPClassifier(**SMALL).fit(table.assign(odd=[1, "a"] * 100), target)
    with pytest.raises(ValueError, match="only one class"):
        TabularMLPClassifier(**SMALL).fit(table, np.ones(200))


def test_numbers_are_predicted_in_their_units(table: Any) -> None:
    y = 1000.0 + 50 * table["count"].to_numpy() + np.where(table["old"], 200, 0)
    model = TabularMLPRegressor(16, max_iter=80, learning_rate_init=0.02, random_state=0)
    model.fit(table, y)
    assert model.score(table, y) > 0.9
    assert model.predict(table).dtype == np.float64
    assert abs(model.predict(table).mean() - y.mean()) < 50


def test_few_rows_weigh_as_their_repetitions(table: Any) -> None:
    few = table.head(40)
    y = few["count"].to_numpy() * 1.0
    weight = np.arange(40) % 2
    a = TabularMLPRegressor(**SMALL).fit(few, y, weight)
    b = TabularMLPRegressor(**SMALL).fit(few[weight == 1], y[weight == 1])
    np.testing.assert_allclose(a.predict(few), b.predict(few), rtol=1e-9)


def test_rows_that_are_given_decide_when_to_stop(table: Any, target: Any) -> None:
    model = TabularMLPClassifier(8, n_iter_no_change=2, learning_rate_init=0.1, random_state=0)
    model.fit(table[:150], target[:150], X_val=table[150:], y_val=target[150:])
    assert model.n_iter_ < model.settings_.epochs
    assert model.history_["val_loss"][model.best_iter_ - 1] == min(model.history_["val_loss"])
    with pytest.raises(ValueError, match="go together"):
        model.fit(table, target, X_val=table)
    with pytest.raises(ValueError, match="y has not"):
        model.fit(table, target, X_val=table[:2], y_val=["maybe", "no"])


def test_classes_that_weigh_more(table: Any, target: Any) -> None:
    heavy = TabularMLPClassifier(**SMALL, class_weight={"yes": 100.0}).fit(table, target)
    assert (heavy.predict(table) == "yes").mean() > 0.9
    TabularMLPClassifier(**SMALL, class_weight="balanced").fit(table, target)
    with pytest.raises(ValueError, match="which y has not"):
        TabularMLPClassifier(**SMALL, class_weight={"maybe": 1.0}).fit(table, target)


def test_no_configuration_does_well() -> None:
    X, y = load_wine(return_X_y=True, as_frame=True)
    scores = cross_val_score(TabularMLPClassifier(random_state=0), X, y, cv=3)
    assert scores.mean() > 0.94


def test_parameters_are_kept_and_checked(table: Any, target: Any) -> None:
    model = TabularMLPClassifier(dropout=0.4, solver="sgd")
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(ValueError, match="solver"):
        TabularMLPClassifier(solver="lbfgs").fit(table, target)
    with pytest.raises(ValueError, match="validation_fraction"):
        TabularMLPClassifier(validation_fraction=2.0).fit(table, target)
    with pytest.raises(ValueError, match="activation must be one of"):
        TabularMLPClassifier(activation="nothing").fit(table, target)
    with pytest.raises(ValueError, match="only one class, 3: there"):
        TabularMLPClassifier().fit(table, np.full(200, 3))


def test_the_na_of_pandas_is_a_missing_cell(table: Any, target: Any) -> None:
    X = table.to_numpy(dtype=object)
    marked = np.array([[pd.NA if pd.isna(c) else c for c in row] for row in X], dtype=object)
    marked[::7, 0] = pd.NA
    X[::7, 0] = None
    models = [TabularMLPClassifier(**SMALL).fit(x, target) for x in (X, marked)]
    given, read = models[0].predict_proba(X), models[1].predict_proba(marked)
    np.testing.assert_array_equal(given, read)
