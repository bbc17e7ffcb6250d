"""Sets that work offline: five from scikit-learn's wheel, two generated."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradnet.data.splits import uniforms
from gradnet.data.table import Column, Features, Images, Table, from_codes

_MEASURES = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity")
_CELLS = (*_MEASURES, "concave points", "symmetry", "fractal dimension")
_FEATURES = {
    "iris": ("sepal length", "sepal width", "petal length", "petal width"),
    "wine": (
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols"),
        *("flavanoids", "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue"),
        *("od280/od315_of_diluted_wines", "proline"),
    ),
    "breast_cancer": tuple(
        f"{kind} {cell}" for kind in ("mean", "error of", "worst") for cell in _CELLS
    ),
    "diabetes": ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
}


def digits() -> tuple[Features, Column]:
    """1,797 handwritten digits of 8×8 pixels from 0 to 16, 10 classes (Alpaydin, Kaynak 1998)."""
    data = _read("digits", ",", "digits.csv.gz")
    if data is None:
        bunch = _from_scikit_learn("digits")
        pixels, target = bunch.images, bunch.target
    else:
        pixels, target = data[:, :-1].reshape(-1, 8, 8), data[:, -1]
    return Images(pixels.astype(np.uint8)), Column("digit", target.astype(np.float64))


def iris() -> tuple[Features, Column]:
    """150 flowers, 4 measures in cm, 3 species (Fisher 1936)."""
    return _classes("iris", "iris.csv", "species", ("setosa", "versicolor", "virginica"))


def wine() -> tuple[Features, Column]:
    """178 wines, 13 chemical measures, 3 cultivars (Forina et al. 1988)."""
    return _classes("wine", "wine_data.csv", "cultivar", ("class_0", "class_1", "class_2"))


def breast_cancer() -> tuple[Features, Column]:
    """569 tumours, 30 measures of cell nuclei, malignant or benign (Street et al. 1993)."""
    return _classes("breast_cancer", "breast_cancer.csv", "diagnosis", ("malignant", "benign"))


def diabetes() -> tuple[Features, Column]:
    """442 patients, 10 measures, progression after a year (Efron et al. 2004)."""
    data = _read("diabetes", None, "diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")
    if data is None:
        bunch = _from_scikit_learn("diabetes", scaled=False)
        data = np.column_stack([bunch.data, bunch.target])
    return _table("diabetes", data), Column("progression", data[:, -1])


def xor() -> tuple[Features, Column]:
    """400 points around the corners of the unit square (deviation 0.15); y = x1 xor x2."""
    rows = 400
    corner = np.arange(rows) % 4
    corners = np.stack([corner // 2, corner % 2], axis=1)
    points = corners + 0.15 * _normals(rows, 2, seed=1)
    return _plane(points), Column("y", (corners[:, 0] != corners[:, 1]).astype(np.float64))


def spirals() -> tuple[Features, Column]:
    """900 points on three arms of a spiral (deviation 0.02 of its radius), 3 classes."""
    rows = 900
    arm = np.arange(rows) % 3
    along = uniforms(rows, seed=2, purpose="generate", part=1)
    angle = 2.0 * np.pi * (arm / 3 + 0.75 * along)
    radius = 0.1 + 0.9 * along
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _plane(points + 0.02 * _normals(rows, 2, seed=2)), Column("arm", arm.astype(np.float64))


BUILTIN: dict[str, Callable[[], tuple[Features, Column]]] = {
    "digits": digits,
    "iris": iris,
    "wine": wine,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "xor": xor,
    "spirals": spirals,
}
"""The built-in sets by name; each gives features and target."""


def _normals(rows: int, columns: int, seed: int) -> NDArray[np.float64]:
    """Standard normal numbers, shape (rows, columns), by Box and Muller (1958)."""
    count = rows * columns
    u = uniforms(2 * count, seed=seed, purpose="generate")
    normals = np.sqrt(-2.0 * np.log(u[:count])) * np.cos(2.0 * np.pi * u[count:])
    return normals.reshape(rows, columns)


def _plane(points: NDArray[np.float64]) -> Table:
    """Points as columns x1 and x2, rounded so that every platform has the same digits."""
    return Table.from_arrays({"x1": points[:, 0].round(6), "x2": points[:, 1].round(6)})


def _table(name: str, data: NDArray[np.float64]) -> Table:
    return Table.from_arrays({f: data[:, place] for place, f in enumerate(_FEATURES[name])})


def _classes(
    name: str, file: str, target: str, classes: tuple[str, ...]
) -> tuple[Features, Column]:
    data = _read(name, ",", file)
    if data is None:
        bunch = _from_scikit_learn(name)
        data = np.column_stack([bunch.data, bunch.target])
    return _table(name, data), from_codes(target, data[:, -1].astype(np.int32), classes)


def _read(name: str, delimiter: str | None, *files: str) -> NDArray[np.float64] | None:
    """The files of a set side by side, or None where scikit-learn keeps them in another way.

    They are found without importing scikit-learn, which would take seconds.
    Raises ImportError where it is not installed.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"the built-in set {name!r} comes with scikit-learn: "
            'run pip install ".[train]" in the checkout of gradnet'
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    if not all((folder / file).is_file() for file in files):
        return None
    # the plain files start with a line of counts and class names
    parts = [
        np.loadtxt(folder / f, delimiter=delimiter, skiprows=int(f.endswith(".csv")), ndmin=2)
        for f in files
    ]
    width = len(_FEATURES.get(name, ())) + 1
    data = np.column_stack([part if part.shape[0] > 1 else part.T for part in parts])
    return data if name == "digits" or data.shape[1] == width else None


def _from_scikit_learn(name: str, **options: Any) -> Any:
    datasets = importlib.import_module("sklearn.datasets")
    return getattr(datasets, f"load_{name}")(**options)
