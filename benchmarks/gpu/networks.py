"""Layers, optimizers and precisions on the device against the same in float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.comparisons import TOLERANCE, Tally, distance
from benchmarks.gpu.device import PRECISIONS, Bench, needs_precision
from benchmarks.gpu.notes import NotThere, Wrong

NUMBERS = np.ndarray[Any, Any]


def _factories(features: int) -> dict[str, Callable[[], Any]]:
    """Every layer that takes (rows, features), by name; weights come from the seed."""
    from gradnet import nn
    from gradnet.nn import activations

    found: dict[str, Callable[[], Any]] = {
        "Linear": lambda: nn.Linear(features, 7),
        "BatchNorm1d": lambda: nn.BatchNorm1d(features),
        "LayerNorm": lambda: nn.LayerNorm(features),
        "Maxout": lambda: nn.Maxout(2),
        "Softmax": lambda: nn.Softmax(),
        "LogSoftmax": lambda: nn.LogSoftmax(),
        "PReLU": lambda: nn.PReLU(),
        "Residual": lambda: nn.Residual(nn.Linear(features, features)),
        "MLP": lambda: nn.MLP((features, 9, 3), norm="layer", seed=1),
    }
    for name in activations.names():
        found.setdefault(name, lambda name=name: nn.activation(name))  # type: ignore[misc]
    return found


def layers(bench: Bench, precision: str) -> dict[str, Any]:
    """Outputs and gradients of every layer and activation."""
    import gradnet as gn
    from gradnet import backends, dtypes

    rows, features = (6, 8) if bench.dry else (515, 258)
    tally, rng = Tally(), np.random.default_rng()
    factories = _factories(features)
    names = [*list(factories)[:9], *list(factories)[9 :: 8 if bench.dry else 1]]
    dtype = dtypes.canonical(precision)
    for name in names:
        x = rng.standard_normal((rows, features)).astype(dtype)

        def job(name: str = name, x: NUMBERS = x) -> Any:
            results: list[list[NUMBERS]] = []
            weights: list[NUMBERS] = []
            for on, kind in ((bench.backend, dtype), (backends.get("numpy"), dtypes.float64)):
                with backends.use(on):
                    gn.random.seed(3)
                    layer = factories[name]()
                    layer.to(kind)
                    state = layer.state_dict()
                    if weights:
                        # The device's own weights, widened: rounding them is no error.
                        given = [gn.asarray(w.astype(np.float64)) for w in weights]
                        layer.load_state_dict(dict(zip(state, given, strict=True)))
                    elif dtypes.float64 is not kind:
                        weights = [w.numpy() for w in state.values()]
                    t = gn.asarray(x.astype(kind), requires_grad=True)
                    y = layer(t)
                    results.append([y.numpy()])
                    if y.node is not None:
                        # A cotangent that is no constant, and the same in every precision.
                        g = np.cos(np.arange(y.size)).reshape(y.shape).astype(dtype)
                        (y * gn.asarray(g.astype(kind))).sum().backward()
                        wanted = [t, *layer.parameters()]
                        results[-1] += [p.grad.numpy() for p in wanted if p.grad is not None]
            yield from zip(*results, strict=True)

        tally.compare(name, precision, job)
    return tally.told()


def optimizers(bench: Bench, precision: str) -> dict[str, Any]:
    """Five updates by every optimizer that takes gradients as they are."""
    import gradnet as gn
    from gradnet import backends, dtypes, nn, optim

    count = 37 if bench.dry else 100_003
    tally, rng = Tally(), np.random.default_rng()
    dtype = dtypes.canonical(precision)
    for name in optim.names():
        p = rng.standard_normal(count).astype(dtype)
        g = rng.standard_normal((5, count)).astype(dtype)

        def job(name: str = name, p: Any = p, g: Any = g) -> Any:
            results = []
            for on, kind in ((bench.backend, dtype), (backends.get("numpy"), dtypes.float64)):
                with backends.use(on):
                    parameter = nn.Parameter(gn.asarray(p.astype(kind)))
                    optimizer = optim.create(name, [parameter], lr=0.01)
                    if getattr(optimizer, "needs_closure", False):
                        raise NotImplementedError("its step searches along a line")
                    for gradient in g:
                        parameter.grad = gn.asarray(gradient.astype(kind))
                        optimizer.step()
                    results.append(parameter.detach().numpy())
            yield tuple(results)

        tally.compare(name, precision, job)
    return tally.told()


def precisions(bench: Bench) -> dict[str, Any]:
    """The losses of a few steps of a network in each precision, against float64 NumPy's."""
    import gradnet as gn
    from gradnet import backends

    sizes, rows = ((5, 7, 3), 8) if bench.dry else ((256, 512, 10), 512)
    rng = np.random.default_rng()
    x, y = rng.standard_normal((rows, sizes[0])), rng.integers(0, sizes[-1], rows)

    def losses(on: Any, kind: dict[str, Any], dtype: Any, weights: list[NUMBERS]) -> NUMBERS:
        with backends.use(on):
            model = gn.nn.MLP(sizes, output="softmax", seed=1, **kind)
            state = model.state_dict()
            if weights:
                given = [gn.asarray(w.astype(dtype)) for w in weights]
                model.load_state_dict(dict(zip(state, given, strict=True)))
            else:
                weights += [w.numpy() for w in state.values()]
            optimizer = gn.optim.Adam(model.parameters(), lr=1e-3)
            inputs, classes = gn.asarray(x.astype(dtype)), gn.asarray(y)
            found = []
            for _ in range(4):
                loss = model.output.loss(model(inputs), classes)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                found.append(float(loss))
            return np.asarray(found)

    tolerance = {**TOLERANCE, "float32": 1e-4, "tf32": 4e-3}
    found: dict[str, Any] = {"counts": {}, "errors": {}, "not_there": {}}
    for precision in PRECISIONS:
        try:
            kind = needs_precision(precision)
        except NotThere as error:
            found["not_there"][precision] = str(error)
            continue
        dtype, weights = np.float64 if precision == "float64" else np.float32, list[NUMBERS]()
        ours = losses(bench.backend, kind, dtype, weights)
        right = losses(backends.get("numpy"), {"dtype": "float64"}, np.float64, weights)
        found["errors"][precision] = distance(ours, right)
    found["counts"] = {key: len(found[key]) for key in ("errors", "not_there")}
    wrong = [p for p, error in found["errors"].items() if not error <= tolerance[p]]
    if wrong:
        raise Wrong(f"losses far from float64's in {', '.join(wrong)}", found)
    return found
