"""Confusion matrix, ROC, precision and recall, calibration, and the decision boundary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from pictures import labelled, lines, panels, words
from sklearn import metrics

import gradnet as gn
from gradnet import plots
from gradnet.errors import DataError, ShapeError
from gradnet.plots.look import look


def test_confusion(probabilities: tuple[Any, Any], theme: Any) -> None:
    y, p = probabilities
    figure = plots.confusion(y, p, classes=["a", "b", "c"], theme=theme)
    (ax,) = panels(figure)
    table = metrics.confusion_matrix(y, p.argmax(axis=1))
    shown = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    numbers = {k: v for k, v in shown.items() if v.isdecimal()}
    assert numbers == {(i, j): str(table[i, j]) for i, j in np.argwhere(table > 0)}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    assert ax.get_ylabel() == "true class"
    image = np.asarray(ax.get_images()[0].get_array())
    assert image.shape == (3, 3, 4)
    surface = np.asarray(to_rgb(look(theme).surface))
    np.testing.assert_allclose(image[table == 0][:, :3], np.tile(surface, ((table == 0).sum(), 1)))
    right, wrong = (
        image[0, 0, :3],
        image[tuple(np.argwhere((table > 0) & ~np.eye(3, dtype=bool))[0])],
    )
    assert right[2] > right[0]  # blue
    assert wrong[0] > wrong[2]  # orange
    labelled(figure)


def test_confusion_of_classes_and_of_one_probability() -> None:
    (ax,) = panels(plots.confusion([0, 1, 1, 0], gn.asarray([0.2, 0.9, 0.4, 0.1]) > 0.5))
    told = [text.get_text() for text in ax.texts]
    assert sorted(told[:-1]) == ["1", "1", "2"]
    assert told[-1] == "3 of 4 rows right: accuracy 0.750"
    (ax,) = panels(plots.confusion([0, 1], gn.asarray([[0.2], [0.9]])))
    assert "2 of 2 rows right: accuracy 1.000" in [text.get_text() for text in ax.texts]


def test_bad_classes(probabilities: tuple[Any, Any]) -> None:
    y, p = probabilities
    with pytest.raises(ShapeError, match="classes names 2 classes, there are 3"):
        plots.confusion(y, p, classes=["a", "b"])
    with pytest.raises(DataError, match="y must hold classes"):
        plots.confusion([0.5, 1.0], [0, 1])
    with pytest.raises(DataError, match="add up to 1 in each row"):
        plots.roc(y, 2 * p)
    with pytest.raises(DataError, match="y has class 2, but probabilities are of 2"):
        plots.calibration(y, np.full(60, 0.5))
    with pytest.raises(DataError, match="one class only"):
        plots.roc([1, 1, 1], [0.2, 0.5, 0.7])
    with pytest.raises(ValueError, match="bins must be an integer of at least 2"):
        plots.calibration(y, p, bins=1)


def test_roc(probabilities: tuple[Any, Any], theme: Any) -> None:
    y, p = probabilities
    figure = plots.roc(y, p, theme=theme)
    (ax,) = panels(figure)
    for k in range(3):
        area = metrics.roc_auc_score(y == k, p[:, k])
        curve = lines(ax)[f"class {k}: area {area:.3f}"]
        assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(area)
    assert ax.get_xlabel().startswith("false positive rate, %")
    labelled(figure)


def test_roc_of_two_classes() -> None:
    y, p = [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]
    (ax,) = panels(plots.roc(y, p))
    assert words(ax) == ["area 0.750"]
    (ax,) = panels(plots.roc(y, np.stack([1 - np.array(p), p], axis=1), classes=["no", "yes"]))
    assert words(ax) == ["yes: area 0.750"]


def test_of_many_classes_the_worst_is_named() -> None:
    y = np.arange(80) % 8
    p = np.full((80, 8), 0.02)
    p[np.arange(80), y] = 0.86
    p[y == 5] = [*[0.14] * 5, 0.02, 0.14, 0.14]
    (ax,) = panels(plots.roc(y, p))
    assert words(ax)[0] == "7 classes"
    assert words(ax)[1].startswith("the worst, class 5: ")
    assert words(ax)[2].startswith("mean area 0.")
    assert len(ax.get_lines()) == 1 + 8 + 1


def test_precision_recall(probabilities: tuple[Any, Any], theme: Any) -> None:
    y, p = probabilities
    figure = plots.precision_recall(y, p, classes=["a", "b", "c"], theme=theme)
    (ax,) = panels(figure)
    for k, name in enumerate("abc"):
        precision, recall, _ = metrics.precision_recall_curve(y == k, p[:, k])
        area = metrics.average_precision_score(y == k, p[:, k])
        curve = lines(ax)[f"{name}: average precision {area:.3f}"]
        np.testing.assert_allclose(curve, np.stack([recall, precision], axis=1))
    labelled(figure)


def test_calibration(theme: Any) -> None:
    y = np.array([0] * 8 + [1] * 2 + [1] * 6 + [0] * 4)
    p = np.array([0.25] * 10 + [0.65] * 10)
    figure = plots.calibration(y, p, classes=["no", "yes"], theme=theme)
    upper, lower = panels(figure)
    np.testing.assert_allclose(lines(upper)["rows of a bin"], [[0.25, 0.2], [0.65, 0.6]])
    assert upper.texts[0].get_text() == "expected calibration error 5.0 %"
    assert [bar.get_height() for bar in lower.patches] == [0, 0, 10, 0, 0, 0, 10, 0, 0, 0]
    low, high = upper.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.0567, 0.5098), abs=1e-4)  # Wilson's, of 2 in 10
    assert lower.get_xlabel() == "predicted probability of yes, %"
    labelled(figure)


def test_calibration_of_several_classes(probabilities: tuple[Any, Any]) -> None:
    y, p = probabilities
    upper, lower = panels(plots.calibration(y, p))
    assert sum(bar.get_height() for bar in lower.patches) == 60
    assert lower.get_xlabel() == "predicted probability of the likeliest class, %"
    assert upper.get_ylabel() == "right, % of rows"


def halves(points: Any) -> Any:
    """Class 1 at the right of 0, for sure far away."""
    return 1 / (1 + np.exp(-8 * points[:, 0]))


def test_decision_boundary_of_two_classes(theme: Any) -> None:
    X = gn.random.Generator(0).uniform((40, 2)).numpy() * 2 - 1
    y = (X[:, 0] > 0).astype(int)
    figure = plots.decision_boundary(
        halves, X, y, classes=["left", "right"], features=("a (cm)", "b (s)"), theme=theme
    )
    (ax,) = panels(figure)
    assert words(ax) == ["left", "right"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a (cm)", "b (s)")
    image = np.asarray(ax.get_images()[0].get_array())
    assert image.shape == (240, 240, 3)
    assert image[:, 0, 2].mean() > image[:, 0, 0].mean()  # blue at the left
    assert image[:, -1, 0].mean() > image[:, -1, 2].mean()  # orange at the right
    line = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(line[:, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(ax.collections[2].get_offsets(), X[y == 1], atol=1e-6)
    assert figure.axes[1].get_ylabel() == "probability of right, %"
    labelled(figure)


def test_decision_boundary_of_a_model() -> None:
    model = gn.nn.MLP((2, 8, 3), output="softmax", seed=0)
    X = gn.random.Generator(0).normal((30, 2))
    figure = plots.decision_boundary(model, X, gn.asarray([0, 1, 2] * 10), points=30)
    (ax,) = panels(figure)
    assert words(ax) == ["class 0", "class 1", "class 2"]
    assert figure.axes[1].get_ylabel() == "probability of the likeliest class, %"
    assert panels(plots.decision_boundary(model, X, points=9))[0].get_legend() is None


def test_bad_boundaries() -> None:
    with pytest.raises(ShapeError, match="two features, X has 3"):
        plots.decision_boundary(halves, np.zeros((4, 3)))
    with pytest.raises(DataError, match="output unit of classes"):
        plots.decision_boundary(gn.nn.MLP((2, 1)), np.zeros((4, 2)))
    with pytest.raises(DataError, match="no probabilities"):
        plots.decision_boundary(lambda points: points + 2, np.eye(2))
    with pytest.raises(ShapeError, match="the model gave 3 predictions for"):
        plots.decision_boundary(lambda points: np.ones(3), np.eye(2), points=4)
