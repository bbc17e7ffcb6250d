"""Heart, Adult, California and MNIST, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gradnet import data


def test_heart(data_dir: Path) -> None:
    """An index column, text beside numbers, gaps in Ca and Thal, Yes and No."""
    dataset = data.load(data_dir / "heart" / "Heart.csv", target="AHD")
    assert len(dataset) == 303
    assert dataset.classes == ("No", "Yes")
    assert dataset.notes[0] == "Heart.csv: the unnamed column that numbers the rows is left out"
    assert len(dataset.notes) == 2
    parts = dataset.split(validation=0, test=0)
    assert np.bincount(parts.train.y).tolist() == [164, 139]
    names = parts.preprocessing.features
    assert len(names) == 20
    assert parts.train.X[:, names.index("Ca (missing)")].sum() == 4
    assert parts.train.X[:, names.index("Thal=(missing)")].sum() == 2
    assert {f"ChestPain={c}" for c in ("typical", "asymptomatic")} < set(names)


def test_adult(data_dir: Path) -> None:
    """Official test rows from a file of their own."""
    folder = data_dir / "adult"
    parts = data.load(folder / "adult_train.csv", target="income").split(
        test=folder / "adult_test.csv"
    )
    assert parts.test is not None
    assert len(parts.test) == 16_281
    assert len(parts.train) + len(parts.validation) == 32_561  # type: ignore[arg-type]
    assert parts.test.X.shape[1] == 108
    assert np.mean(parts.test.y) == 3846 / 16_281
    assert "occupation=(missing)" in parts.preprocessing.features
    assert np.isfinite(parts.test.X).all()
    again = data.Preprocessing.from_json(parts.preprocessing.to_json())
    assert np.array_equal(again.read(folder / "adult_test.csv").X, parts.test.X)


def test_california(data_dir: Path) -> None:
    """Skewed totals become normal scores; the target comes back in its own units."""
    path = data_dir / "california" / "california_housing.csv"
    parts = data.load(path, target="median_house_value").split(seed=1)
    assert parts.test is not None
    assert len(parts.test) == 4128
    assert parts.train.X.shape[1] == 8
    x = parts.train.X.astype(np.float64)
    assert np.abs((x**3).mean(axis=0)).max() < 0.2
    prices = parts.preprocessing.decode(parts.test.y)
    assert 14_000 < prices.min() < prices.max() < 500_100


def test_mnist(data_dir: Path) -> None:
    """Four gzipped IDX files; the test files are the test part."""
    parts = data.load(data_dir / "mnist").split(validation=0.1)
    assert parts.test is not None
    assert parts.validation is not None
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [54_000, 6_000, 10_000]
    assert parts.preprocessing.shape == (28, 28)
    assert parts.test.y[:5].tolist() == [7, 2, 1, 0, 4]  # type: ignore[index]
    assert abs(parts.preprocessing.inputs.mean - 0.1307) < 5e-4  # type: ignore[union-attr]
    assert abs(parts.preprocessing.inputs.scale - 0.3081) < 5e-4  # type: ignore[union-attr]
