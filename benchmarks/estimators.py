"""Estimators without configuration against scikit-learn's, at its defaults and tuned.

    python -m benchmarks.estimators [--data digits,wine,...] [--merge] [--seeds N] [--no-tuned]
                                    [--table]

Five folds of digits, breast_cancer, wine and California housing, the official split of Adult; the
real data from the folder that GRADNET_DATA names. Every contender is given the same rows, and is
timed in turn with the others. Writes results/estimators.json after each data set, with --merge
beside the data that it has, and with --table puts the table made of that file into README.md.

scikit-learn is tuned on the training rows of each fold anew: a search by successive halving
(Jamieson and Talwalkar 2016, arXiv:1502.07943) over GRID, of which a third goes on with three times
the rows, until the last stand on all of them; the best is then fitted anew to all training rows.
Of few rows it is a whole search with three folds.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[1]
OUTCOME = ROOT / "benchmarks" / "results" / "estimators.json"
README = ROOT / "README.md"
BEGIN = "<!-- made by python -m benchmarks.estimators --table; do not edit -->"
END = "<!-- end of the table of estimators -->"

DATA = ("digits", "breast_cancer", "wine", "adult", "california")
OURS, DEFAULT, TUNED = "TabularMLP, defaults", "scikit-learn, defaults", "scikit-learn, tuned"
LARGE = 10_000
"""Rows from which on scikit-learn's tuned fits stop early, and all are repeated less."""
SMALL = 1_000
"""Rows from which on the search begins with a part of them, and compares on one split."""
GRID = {
    "hidden_layer_sizes": [(100,), (256, 256)],
    "alpha": [1e-4, 1e-1, 1.0],
    "learning_rate_init": [1e-3, 3e-3],
}
FEW = {"hidden_layer_sizes": [(100,), (100, 100)]}
"""Of fewer rows than SMALL, in place of those of GRID."""


class Problem(NamedTuple):
    """A data frame, its target, and the splits (train, test) that it is judged on."""

    frame: Any
    y: Any
    splits: list[tuple[Any, Any]]
    regression: bool


def problem(name: str, folder: Path) -> Problem:
    """The data of that name. Raises FileNotFoundError where real data are not there."""
    import pandas as pd
    from sklearn import datasets
    from sklearn.model_selection import KFold, StratifiedKFold

    if name == "adult":
        train, test = (frame(folder / "adult" / f"adult_{part}.csv") for part in ("train", "test"))
        both = pd.concat([train, test], ignore_index=True)
        rows = np.arange(len(both))
        split = (rows[: len(train)], rows[len(train) :])
        y = both.pop("income").to_numpy().astype(str)
        return Problem(both, y, [split], False)
    if name == "california":
        table = frame(folder / "california" / "california_housing.csv")
        y = table.pop("median_house_value").to_numpy(dtype=np.float64)
        splits = list(KFold(5, shuffle=True, random_state=0).split(table))
        return Problem(table, y, splits, True)
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    y = bunch.target.to_numpy()
    splits = list(StratifiedKFold(5, shuffle=True, random_state=0).split(bunch.data, y))
    return Problem(bunch.data, y, splits, False)


def frame(path: Path) -> Any:
    """A CSV file as a pandas frame, empty cells missing."""
    import pandas as pd

    with path.open(newline="") as file:
        header = next(csv.reader(file))
    return pd.read_csv(path, names=header, skiprows=1, skipinitialspace=True)


def contender(name: str, task: Problem, seed: int) -> Any:
    """An estimator for a problem, as its users write it."""
    from sklearn.compose import TransformedTargetRegressor, make_column_selector
    from sklearn.compose import make_column_transformer as columns
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, ShuffleSplit
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from gradnet.estimators import TabularMLPClassifier, TabularMLPRegressor

    if name == OURS:
        ours = TabularMLPRegressor if task.regression else TabularMLPClassifier
        return ours(random_state=seed)
    prepare = columns(
        (
            make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (
            OneHotEncoder(handle_unknown="ignore"),
            make_column_selector(dtype_exclude="number"),
        ),
    )
    kind = MLPRegressor if task.regression else MLPClassifier
    made = make_pipeline(prepare, kind(random_state=seed))
    prefix = kind.__name__.lower()
    if name == TUNED:
        rows = len(task.y)
        values = GRID | FEW if rows < SMALL else GRID
        grid = {f"{prefix}__{key}": listed for key, listed in values.items()}
        # Of few rows those held out are missed more than they are worth.
        made.set_params(**{f"{prefix}__early_stopping": rows >= LARGE})
        if rows < SMALL:
            made = GridSearchCV(made, grid, cv=3, n_jobs=-1)
        else:
            made = HalvingGridSearchCV(
                made,
                grid,
                cv=ShuffleSplit(1, test_size=0.2, random_state=seed),
                min_resources="exhaust",
                random_state=seed,
                n_jobs=-1,
            )
    if task.regression:
        made = TransformedTargetRegressor(made, transformer=StandardScaler())
    return made


def measured(task: Problem, names: tuple[str, ...], seeds: int) -> dict[str, dict[str, Any]]:
    """Scores on test rows and seconds of each fit: accuracy, or RMSE in the target's units."""
    found: dict[str, dict[str, Any]] = {name: {"scores": [], "seconds": []} for name in names}
    for seed in range(seeds):
        for train, test in task.splits:
            for name in names:
                estimator = contender(name, task, seed)
                started = time.perf_counter()
                estimator.fit(task.frame.iloc[train], task.y[train])
                found[name]["seconds"].append(time.perf_counter() - started)
                predicted = estimator.predict(task.frame.iloc[test])
                found[name]["scores"].append(score(task, task.y[test], predicted))
    return found


def score(task: Problem, y: Any, predicted: Any) -> float:
    if task.regression:
        return float(np.sqrt(np.mean((y - predicted) ** 2)))
    return float(np.mean(y == predicted))


def summary(task: Problem, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means, deviations, and ours against the others, fit by fit."""
    sign = -1.0 if task.regression else 1.0
    result: dict[str, Any] = {
        "metric": "rmse" if task.regression else "accuracy",
        "rows": len(task.y),
        "fits": len(found[OURS]["scores"]),
        "contenders": {},
    }
    for name, one in found.items():
        entry = {
            **one,
            "mean": statistics.fmean(one["scores"]),
            "deviation": statistics.pstdev(one["scores"]),
            "median_seconds": statistics.median(one["seconds"]),
        }
        if name != OURS:
            gains = [
                sign * (a - b) for a, b in zip(found[OURS]["scores"], one["scores"], strict=True)
            ]
            entry["ours_better_by"] = statistics.fmean(gains)
            entry["standard_error"] = (
                statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
            )
        result["contenders"][name] = entry
    return result


# The table


def table(report: dict[str, Any]) -> str:
    """The README's table of a report."""
    lines = [
        f"| data | rows | {OURS} | {DEFAULT} | {TUNED} | fit: ours | scikit-learn's |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in report["data"].items():
        contenders = part["contenders"]
        cells = [
            shown(contenders[who], part["metric"]) if who in contenders else "-"
            for who in (OURS, DEFAULT, TUNED)
        ]
        times = [f"{contenders[who]['median_seconds']:.2g} s" for who in (OURS, DEFAULT)]
        what = f"{name}, {'RMSE' if part['metric'] == 'rmse' else 'accuracy'}"
        lines.append(f"| {what} | {part['rows']:,} | {' | '.join(cells)} | {' | '.join(times)} |")
    return (
        "\n".join(lines) + "\n\nMeans over folds and seeds on rows not seen, ± the deviation of a "
        "fit; median seconds of a fit with its preprocessing. Tuned: the best of "
        f"{math.prod(map(len, GRID.values()))} settings, searched on the training rows of each "
        "fold\n([all figures](benchmarks/results/estimators.json)). "
        f"Measured on {machine.sentence(report['machine'])}."
    )


def shown(entry: dict[str, Any], metric: str) -> str:
    """A mean with its deviation."""
    mean, deviation = entry["mean"], entry["deviation"]
    digits = 0 if metric == "rmse" else 4
    text = f"{mean:,.{digits}f}"
    return text if len(entry["scores"]) == 1 else f"{text} ± {deviation:,.{digits}f}"


def put_table(report: dict[str, Any], readme: Path = README) -> None:
    """Put the table between its markers. Raises ValueError where they are not there."""
    text = readme.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme} has no lines\n{BEGIN}\n{END}\nto put the table between")
    readme.write_text(f"{before}{BEGIN}\n{table(report)}\n{END}{after}", "utf-8")


def runs(names: list[str], options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each data set by its name, with what was found of it; told as it is found."""
    contenders = (OURS, DEFAULT) if options.no_tuned else (OURS, DEFAULT, TUNED)
    for name in names:
        started = time.perf_counter()
        task = problem(name, options.folder)
        seeds = options.seeds or (1 if len(task.y) >= LARGE else 3)
        found = summary(task, measured(task, contenders, seeds))
        for who, entry in found["contenders"].items():
            gain = entry.get("ours_better_by")
            against = "" if gain is None else f"   ours better by {gain:.4g}"
            print(
                f"{name:14}{who:24}{entry['mean']:12.4f}{entry['median_seconds']:9.2f} s{against}"
            )
        print(f"{name:14}all of it {time.perf_counter() - started:.0f} s", flush=True)
        yield name, found


def begun(path: Path, merge: bool) -> dict[str, Any]:
    """A report without data, or with those of a file measured on the same machine and versions.

    Raises SystemExit where the file is of others: its figures would not compare.
    """
    report: dict[str, Any] = {"machine": machine.describe(), "data": {}}
    if merge and path.exists():
        before = json.loads(path.read_text("utf-8"))
        for key in ("cpu", "cores", "python", "packages", "blas"):
            if before["machine"][key] != report["machine"][key]:
                raise SystemExit(
                    f"{path} was measured with {key} {before['machine'][key]}, here it is "
                    f"{report['machine'][key]}: measure all data anew, without --merge"
                )
        report["data"] = before["data"]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=",".join(DATA), help=f"of {', '.join(DATA)}; all")
    parser.add_argument("--merge", action="store_true", help="keep the other data of the file")
    parser.add_argument("--seeds", type=int, help=f"3, of {LARGE:,} rows on 1")
    parser.add_argument("--no-tuned", action="store_true")
    parser.add_argument("--table", action="store_true", help="put the table into README.md")
    parser.add_argument("--only-table", action="store_true", help="of the figures that are there")
    parser.add_argument("--out", type=Path, default=OUTCOME)
    default = os.environ.get("GRADNET_DATA", ROOT.parent / "shared" / "data" / "files")
    parser.add_argument("--folder", type=Path, default=Path(default))
    options = parser.parse_args()
    names = options.data.split(",")
    if unknown := [name for name in names if name not in DATA]:
        parser.error(f"there is no data set {unknown[0]!r}, only {', '.join(DATA)}")
    if not options.only_table:
        # Those of searches come from processes of their own.
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"
        report = begun(options.out, options.merge)
        for name, found in runs(names, options):
            data = {**report["data"], name: found}
            report["data"] = {known: data[known] for known in DATA if known in data}
            options.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if options.table or options.only_table:
        put_table(json.loads(options.out.read_text("utf-8")))


if __name__ == "__main__":
    main()
