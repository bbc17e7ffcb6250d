"""Other people's code on Tensors: what they compute is right, stays a Tensor, keeps its gradient.

Each test runs the library for real and is skipped where it is not installed. SciPy reads
SCIPY_ARRAY_API when it is imported, so its tests, and scikit-learn's, run in their own process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet.backends import Backend
from gradnet.tensor import Tensor

X = np.random.default_rng(0).standard_normal((2, 3, 4))
ROOT = Path(__file__).parents[2]


def run(code: str) -> None:
    """Run code with gradnet, NumPy and some data in a process with SCIPY_ARRAY_API set."""
    prelude = """
        import numpy as np
        import gradnet as gn
        rng = np.random.default_rng(0)
        features = rng.standard_normal((60, 4)).astype(np.float32)
        classes = (features[:, 0] + 0.3 * features[:, 1] > 0).astype(np.int64)
        values = features @ np.array([1, 2, -1, 0.5], np.float32)
        X, y, z = gn.asarray(features), gn.asarray(classes), gn.asarray(values)

        def same(ours, theirs, rtol=1e-4):
            assert isinstance(ours, gn.Tensor), type(ours)
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=rtol, atol=1e-4)
    """
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        env={**os.environ, "SCIPY_ARRAY_API": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


# einops, opt_einsum, autoray


def test_einops(backend: Backend) -> None:
    einops = pytest.importorskip("einops")
    calls: list[Any] = [
        lambda x: einops.rearrange(x, "a b c -> (a b) c"),
        lambda x: einops.rearrange(x, "a (b d) c -> d c a b", d=3),
        lambda x: einops.reduce(x, "a b c -> a c", "mean"),
        lambda x: einops.reduce(x, "a b (c d) -> a b c", "max", d=2),
        lambda x: einops.repeat(x, "a b c -> a b c d", d=2),
        lambda x: einops.einsum(x, x, "a b c, a d c -> a b d"),
        lambda x: einops.pack([x, 2 * x], "* b c")[0],
    ]
    for f in calls:
        y = f(gn.asarray(X))
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), f(X))
        gn.gradcheck(f, X)


@pytest.mark.parametrize("first", ["einops", "gradnet"])
def test_einops_takes_tensors_whichever_is_imported_first(first: str) -> None:
    pytest.importorskip("einops")
    second = "gradnet" if first == "einops" else "einops"
    code = f"import {first}; import {second}; einops.rearrange(gradnet.ones((2, 3)), 'a b -> b a')"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_opt_einsum(backend: Backend) -> None:
    opt_einsum = pytest.importorskip("opt_einsum")
    w = np.random.default_rng(1).standard_normal((3, 2))

    def f(x: Any, w: Any) -> Any:
        return opt_einsum.contract("abc,adc,de->be", x, x, w)

    np.testing.assert_allclose(f(gn.asarray(X), gn.asarray(w)).numpy(), f(X, w))
    gn.gradcheck(f, X, w)


def test_autoray(backend: Backend) -> None:
    autoray = pytest.importorskip("autoray")
    x = gn.asarray(X)
    assert autoray.infer_backend(x) == "gradnet"

    def f(x: Any) -> Any:
        do = autoray.do
        y = do("tensordot", do("exp", x), do("transpose", x, (1, 2, 0)), 2)
        return do("sum", y) / do("linalg.norm", x)

    np.testing.assert_allclose(f(x).numpy(), f(X))
    gn.gradcheck(f, X)


# The array API's own tools


def test_array_api_compat(backend: Backend) -> None:
    compat = pytest.importorskip("array_api_compat")
    x = gn.asarray(X)
    assert compat.is_array_api_obj(x)
    assert compat.array_namespace(x) is gn
    assert compat.device(x) == "cpu"
    assert compat.size(x) == 24
    assert compat.to_device(x, "cpu") is x


def test_array_api_extra(backend: Backend) -> None:
    extra = pytest.importorskip("array_api_extra")
    x = gn.asarray(X)
    for y, expected in (
        (extra.atleast_nd(x, ndim=4), X[None]),
        (extra.cov(x[0]), np.cov(X[0])),
        (extra.kron(x[0], x[1]), np.kron(X[0], X[1])),
        (extra.pad(x[0], 1), np.pad(X[0], 1)),
        (extra.sinc(x), np.sinc(X)),
        (extra.isclose(x, x + 1e-12), np.ones(X.shape, bool)),
        (extra.setdiff1d(x[0], x[0, :1]), np.setdiff1d(X[0], X[0, :1])),
        (extra.apply_where(x > 0, x, lambda a: a, fill_value=0.0), np.where(X > 0, X, 0)),
        (extra.at(x, 0).set(0.0, copy=True)[0], np.zeros((3, 4))),
    ):
        assert isinstance(y, Tensor)
        np.testing.assert_allclose(y.numpy(), expected)
    gn.gradcheck(lambda x: extra.kron(x[0], x[1]), X)
    gn.gradcheck(lambda x: extra.cov(x[0]), X)


# SciPy

SPECIAL = """erf erfc gammaln expit logit ndtr log_ndtr xlogy logsumexp softmax log_softmax i0 entr
rel_entr betainc gammainc chdtr"""
STATS = """zscore skew kurtosis variation sem gmean hmean moment tmean entropy rankdata"""


def test_scipy_special_and_stats() -> None:
    pytest.importorskip("scipy")
    run(f"""
        import scipy.fft, scipy.integrate, scipy.special, scipy.stats
        host = np.abs(features) * 0.2 + 0.1
        x = gn.asarray(host)
        for name in {SPECIAL.split()}:
            count = 3 if name == "betainc" else 2 if name in (
                "xlogy", "rel_entr", "gammainc", "chdtr") else 1
            f = getattr(scipy.special, name)
            same(f(*[x] * count), f(*[host] * count))
        for name in {STATS.split()}:
            f = getattr(scipy.stats, name)
            more = (3,) if name == "moment" else ()
            same(f(x, *more), f(host, *more))
        same(scipy.stats.ttest_1samp(x, 0.3).statistic,
             scipy.stats.ttest_1samp(host, 0.3).statistic)
        same(scipy.stats.pearsonr(x[:, 0], x[:, 1]).statistic,
             scipy.stats.pearsonr(host[:, 0], host[:, 1]).statistic)
        same(scipy.fft.rfft(x), scipy.fft.rfft(host))
        same(scipy.integrate.trapezoid(x), scipy.integrate.trapezoid(host))
    """)


def test_scipy_minimises_with_our_gradients_and_hessian_products() -> None:
    optimize = pytest.importorskip("scipy.optimize")

    def rosenbrock(v: Any) -> Any:
        return gn.sum(100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2)

    both = gn.value_and_grad(rosenbrock)

    def value_and_gradient(v: Any) -> tuple[float, Any]:
        value, g = both(gn.asarray(v))
        return float(value), g.numpy()

    def product(v: Any, p: Any) -> Any:
        return gn.hvp(rosenbrock, gn.asarray(v), gn.asarray(p)).numpy()

    start = np.full(5, -0.5)
    for options in ({"method": "L-BFGS-B"}, {"method": "trust-ncg", "hessp": product}):
        found = optimize.minimize(value_and_gradient, start, jac=True, **options)
        np.testing.assert_allclose(found.x, np.ones(5), atol=1e-3)
        assert found.nit < 200


# scikit-learn

SKLEARN = """
    import sklearn
    from sklearn import discriminant_analysis, decomposition, kernel_approximation, linear_model
    from sklearn import metrics, mixture, model_selection, naive_bayes, preprocessing
    from sklearn.metrics import pairwise

    def dispatched(f, *args):
        with sklearn.config_context(array_api_dispatch=True):
            return f(*args)
"""


def test_sklearn_transformers() -> None:
    pytest.importorskip("sklearn")
    run(f"""{SKLEARN}
    for make in (
        lambda: decomposition.PCA(2, svd_solver="full"),
        preprocessing.StandardScaler,
        preprocessing.MinMaxScaler,
        preprocessing.MaxAbsScaler,
        preprocessing.Normalizer,
        preprocessing.Binarizer,
        lambda: preprocessing.PolynomialFeatures(2),
        lambda: kernel_approximation.Nystroem(n_components=3, random_state=0),
    ):
        same(dispatched(make().fit_transform, X), make().fit_transform(features), rtol=1e-3)
    kernel = features @ features.T
    same(dispatched(preprocessing.KernelCenterer().fit_transform, gn.asarray(kernel)),
         preprocessing.KernelCenterer().fit_transform(kernel), rtol=1e-3)
    same(dispatched(preprocessing.LabelEncoder().fit_transform, y), classes)
    """)


def test_sklearn_estimators() -> None:
    pytest.importorskip("sklearn")
    run(f"""{SKLEARN}
    for make, target, expected in (
        (lambda: discriminant_analysis.LinearDiscriminantAnalysis(solver="svd"), y, classes),
        (lambda: linear_model.Ridge(solver="svd"), z, values),
        (linear_model.RidgeCV, z, values),
        (lambda: linear_model.RidgeClassifier(solver="svd"), y, classes),
        (naive_bayes.GaussianNB, y, classes),
    ):
        found = dispatched(lambda: make().fit(X, target).predict(X))
        same(found, make().fit(features, expected).predict(features), rtol=1e-2)
    mixed = mixture.GaussianMixture(2, init_params="random_from_data", random_state=0)
    assert dispatched(lambda: mixed.fit(X).predict_proba(X)).shape == (60, 2)
    """)


CLASSIFICATION = """accuracy_score zero_one_loss f1_score precision_score recall_score jaccard_score
hamming_loss balanced_accuracy_score cohen_kappa_score"""
REGRESSION = """mean_squared_error mean_absolute_error r2_score explained_variance_score max_error
mean_absolute_percentage_error mean_squared_log_error mean_pinball_loss root_mean_squared_error
mean_tweedie_deviance mean_poisson_deviance mean_gamma_deviance d2_tweedie_score"""
PAIRWISE = """euclidean_distances manhattan_distances cosine_similarity cosine_distances rbf_kernel
linear_kernel polynomial_kernel sigmoid_kernel chi2_kernel laplacian_kernel additive_chi2_kernel
paired_euclidean_distances paired_cosine_distances"""


def test_sklearn_metrics() -> None:
    pytest.importorskip("sklearn")
    run(f"""{SKLEARN}
    guess = np.roll(classes, 1)
    for name in {CLASSIFICATION.split()}:
        f = getattr(metrics, name)
        assert abs(dispatched(f, y, gn.asarray(guess)) - f(classes, guess)) < 1e-5, name
    a, b = np.abs(values) + 0.1, np.abs(values) * 1.1 + 0.1
    for name in {REGRESSION.split()}:
        f = getattr(metrics, name)
        assert abs(dispatched(f, gn.asarray(a), gn.asarray(b)) - f(a, b)) < 1e-4, name
    assert abs(dispatched(metrics.roc_auc_score, y, X[:, 0])
               - metrics.roc_auc_score(classes, features[:, 0])) < 1e-6
    rows = np.abs(features[:10])
    for name in {PAIRWISE.split()}:
        f = getattr(pairwise, name)
        same(dispatched(f, gn.asarray(rows), gn.asarray(rows)), f(rows, rows), rtol=1e-3)
    parts = dispatched(model_selection.train_test_split, X, y)
    assert all(isinstance(part, gn.Tensor) for part in parts)
    """)
