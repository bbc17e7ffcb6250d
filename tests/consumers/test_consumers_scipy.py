"""SciPy and scikit-learn on Tensors, in a process of their own with SCIPY_ARRAY_API set.

scikit-learn is judged by its own tests of arrays that are not NumPy's: every estimator, metric and
tool that it lists as supporting the array API, with gradnet in place of its list of namespaces.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradnet as gn

ROOT = Path(__file__).parents[2]


def run(code: str) -> None:
    """Run code with gradnet, NumPy and some data in a process with SCIPY_ARRAY_API set."""
    prelude = """
        import numpy as np
        import gradnet as gn
        rng = np.random.default_rng(0)
        features = rng.standard_normal((60, 4)).astype(np.float32)

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


# Of scikit-learn's list of what supports arrays of other libraries: each is among the tests that
# run, by its name, or the name of its test, without underscores.
SKLEARN = """PCA LinearDiscriminantAnalysis Ridge RidgeCV RidgeClassifier RidgeClassifierCV gnb
Nystroem KernelCenterer LabelEncoder LabelBinarizer MaxAbsScaler MinMaxScaler Normalizer Binarizer
PolynomialFeatures StandardScaler GaussianMixture LogisticRegression PoissonRegressor FeatureUnion
GridSearchCV RandomizedSearchCV TemperatureScaling CrossValPredict TrainTestSplit RandomizedSVD
accuracy averagePrecision balancedAccuracy brierScore cohenKappa confusionMatrix detCurve d2Brier
d2LogLoss d2Tweedie explainedVariance f1Score fbeta hamming jaccard logLoss maxError
meanAbsoluteError meanAbsolutePercentage meanGamma meanPinball meanPoisson meanSquaredError
meanSquaredLog meanTweedie medianAbsolute multilabelConfusion precisionScore precisionRecallCurve
r2Score recallScore rocCurve rootMeanSquaredError rootMeanSquaredLog zeroOne additiveChi2 chi2Kernel
cosineSimilarity cosineDistances euclideanDistances linearKernel pairedCosine pairedEuclidean
pairwiseDistances pairwiseKernels polynomialKernel rbfKernel sigmoidKernel checkConsistentLength"""


def test_sklearns_own_array_api_tests() -> None:
    """Set GRADNET_SKLEARN_DTYPES=float32,float64 for all of them: 961 with scikit-learn 1.9.1."""
    # Half of the time would go to the class weights of logistic regression.
    some = "not (logistic_regression and (dict or balanced))"
    chosen = "" if "GRADNET_SKLEARN_DTYPES" in os.environ else some
    pytest.importorskip("sklearn", minversion="1.7")
    (package,) = importlib.util.find_spec("sklearn").submodule_search_locations  # type: ignore
    modules = [
        ".".join(("sklearn", *path.relative_to(package).with_suffix("").parts))
        for path in sorted(Path(package).rglob("test_*.py"))
        if "yield_namespace" in path.read_text(encoding="utf-8")
    ]
    if not modules:
        pytest.skip("this scikit-learn is installed without its tests")
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", os.devnull, "-v", "-p", "sklearn_plugin"),
            *("-p", "no:cacheprovider", "-W", "ignore", "--rootdir", package),
            *("-k", chosen, "--pyargs", *modules),
        ],
        env={**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": paths},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    passed = re.findall(r"^(\S.*) PASSED", result.stdout, re.MULTILINE)
    assert len(passed) > 400
    text = "\n".join(passed).lower().replace("_", "")
    missing = [name for name in SKLEARN.split() if name.lower() not in text]
    assert not missing
