"""The kernels in CUDA C++ that hold many layers, or many steps, against NumPy and float64.

The fused MLP is compared with the same computation rounded to 16 bits at the same places, the
training by a cluster with the plain one; both twice, for the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gpu.comparisons import distance
from benchmarks.gpu.device import Bench
from benchmarks.gpu.notes import Wrong

# Several units of rounding of 16 bits, and of float32 over some steps of Adam.
NEAR = {"float16": 4e-3, "bfloat16": 3e-2, "cluster": 1e-3}


# The types of factors, the activations and the depths that are compared.
FACTORS = (("float16", "relu", 2), ("bfloat16", "gelu", 5))


def trainings(dry: bool) -> list[Any]:
    """What a cluster trains here: in every size of clusters, then in those that are chosen."""
    from gradnet.kernels.cluster_step import CLUSTERS, Training

    plain = Training((13, 9, 3), 7)
    found = [plain._replace(cluster=size) for size in ((4,) if dry else CLUSTERS)]
    if not dry:
        found.append(Training((784, 128, 10), 128))
        found.append(Training((14, 64, 64, 2), 256, "gelu"))
    return found


def fused_mlp(bench: Bench, few: bool = False) -> dict[str, Any]:
    """Forward and backward for every width, odd sizes and more rows than a round of blocks.

    few  of the smallest width, and a few rows, alone
    """
    few = few or bench.dry
    from fakes import fused
    from gradnet.kernels import fused_mlp as kernel

    cupy, rng = bench.cupy, np.random.default_rng()
    widths = (16,) if few else kernel.WIDTHS
    rows = (5,) if few else (1, 129, 17_001)
    worst: dict[str, float] = {}
    for width in widths:
        for n in rows:
            for dtype, activation, depth in FACTORS:
                network = kernel.Network(37, width, 10, depth, activation, dtype)
                kernels = kernel.Kernels.of(network, n, bench.device.shared)
                host = [
                    rng.normal(size=shape).astype(np.float32)
                    for shape in ((n, 37), (network.parameters,), (n, 10))
                ]
                host[1] *= width**-0.5
                x, parameters, dy = (cupy.asarray(one) for one in host)
                results = []
                for _ in range(2):
                    y, dx = (bench.poisoned(a.shape, a.dtype) for a in (dy, x))
                    gradient = bench.poisoned(parameters.shape, parameters.dtype)
                    parts = bench.poisoned(kernels.parts(n), parameters.dtype)
                    kept = bench.poisoned(network.kept(n), np.dtype(np.uint16))
                    launch = bench.device.launch
                    kernel.forward(launch, kernels, x, parameters, kept, y)
                    given = (launch, kernels, x, parameters, kept, dy, dx, parts, gradient)
                    kernel.backward(*given)
                    results.append([one.get() for one in (y, dx, gradient, kept)])
                name = f"{dtype}, width {width}, {n} rows"
                if any(a.tobytes() != b.tobytes() for a, b in zip(*results, strict=True)):
                    raise Wrong(f"two runs differ: {name}", {"worst": worst})
                right = fused.reference_forward(network, host[0], host[1])[0]
                held = fused.kept_as(network, results[0][3], n)
                gradients = fused.reference_backward(network, host[0], host[1], held, host[2])
                pairs = zip(results[0], (right, *gradients), strict=False)
                worst[name] = max(distance(found, one) for found, one in pairs)
                if not worst[name] <= NEAR[dtype]:
                    raise Wrong(
                        f"the fused MLP is off by {worst[name]:.1e}: {name}", {"worst": worst}
                    )
    return {"counts": {"networks": len(worst)}, "worst": worst}


def cluster(bench: Bench, few: bool = False) -> dict[str, Any]:
    """Training by one cluster, of every size of clusters: parameters, moments and losses."""
    from fakes import clustered
    from gradnet.kernels import cluster_step as kernel

    cupy, rng = bench.cupy, np.random.default_rng()
    worst: dict[str, float] = {}
    for training in trainings(few or bench.dry):
        steps, n, size = 5, 600, training.places[-1]
        numbers = np.tile(np.float32([1e-3, 0.1, 0.001, 1.0, 1e-3, 0]), (steps, 1))
        host = {
            "x": rng.normal(size=(n, training.sizes[0])).astype(np.float32),
            "classes": rng.integers(training.sizes[-1], size=n),
            "order": rng.integers(n, size=(steps, training.batch)),
            "scalars": numbers,
            "p": (rng.normal(size=size) * 0.05).astype(np.float32),
            "states": np.zeros((2, size), np.float32),
            "losses": np.full(steps, np.nan, np.float32),
        }
        results = []
        for _ in range(2):
            given: dict[str, Any]
            given = {key: cupy.asarray(value.copy()) for key, value in host.items()}
            states = tuple(given["states"][i] for i in range(2))
            given["room"] = cupy.zeros(kernel.room_of(training), np.uint64)
            kernel.train(bench.device.launch, training, **{**given, "states": states})
            results.append([given[key].get() for key in ("p", "states", "losses")])
        name = f"{training.sizes}, {kernel.cluster_of(training)} blocks"
        if any(a.tobytes() != b.tobytes() for a, b in zip(*results, strict=True)):
            raise Wrong(f"two trainings differ: {name}", {"worst": worst})
        pairs = zip(results[0], clustered.reference(training, host), strict=True)
        worst[name] = max(distance(found, right) for found, right in pairs)
        if not worst[name] <= NEAR["cluster"]:
            raise Wrong(
                f"the cluster's training is off by {worst[name]:.1e}: {name}", {"worst": worst}
            )
    return {"counts": {"trainings": len(worst)}, "worst": worst}
