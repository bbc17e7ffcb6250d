"""The stage `correctness`: results on the device against float64 NumPy on numbers never the same.

The parts run in the order of their weight; beside them the tests take what time there is.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.gpu import comparisons, fused, networks, products, shards, suite
from benchmarks.gpu.device import Bench
from benchmarks.gpu.notes import Notebook, NotThere, Wrong, main


def philox(bench: Bench) -> dict[str, Any]:
    """Random numbers with the CPU's bits, over many shapes, counters and kinds."""
    from gradnet import backends, dtypes

    cpu = backends.get("numpy")
    counts = (1, 33) if bench.dry else (1, 2, 3, 33, 4097, 1_000_003)
    kinds: tuple[tuple[str, Any], ...] = (
        *(("bits", dtypes.canonical(name)) for name in ("uint32", "uint64")),
        *((kind, d) for kind in ("uniform", "normal") for d in (dtypes.float32, dtypes.float64)),
    )
    different, checked = [], 0
    for kind, dtype in kinds:
        for count in counts:
            for key, counter in ((0, 0), (2**63 + 12345, 7), (99, 2**64 - 3)):
                given = (kind, key, counter, (count,), dtype)
                ours, theirs = bench.backend.random(*given), cpu.random(*given)
                checked += 1
                if bench.backend.to_host(ours).tobytes() != theirs.tobytes():
                    different.append(f"{kind} {dtype.name}, {count} from {counter} by {key}")
    found = {"counts": {"equal": checked - len(different), "different": len(different)}}
    if different:
        raise Wrong(f"other bits than the CPU's: {'; '.join(different[:5])}", found)
    return found


def captured(bench: Bench) -> dict[str, Any]:
    """K captured steps against K eager ones from the same weights: the weights after them."""
    import gradnet as gn
    from gradnet import dtypes

    if not hasattr(bench.random((1,), dtypes.float32), "__cuda_array_interface__"):
        raise NotThere("arrays of this device do not tell their addresses, by which capture works")
    steps = 3 if bench.dry else 20
    sizes, rows = ((5, 7, 3), 8) if bench.dry else ((784, 128, 10), 128)
    rng = np.random.default_rng()
    x = rng.standard_normal((steps, rows, sizes[0])).astype(np.float32)
    y = rng.integers(0, sizes[-1], (steps, rows))

    def trained(wrap: Callable[[Any], Any]) -> tuple[list[Any], list[float], Any]:
        with bench.inside():
            model = gn.nn.MLP(sizes, output="softmax", dropout=0.1, seed=1)
            gn.random.seed(5)
            optimizer = gn.optim.Adam(model.parameters(), lr=1e-3)

            def step(rows: Any, classes: Any) -> Any:
                loss = model.output.loss(model(rows), classes)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                return loss

            taken = wrap(step)
            losses = [float(taken(gn.asarray(a), gn.asarray(b))) for a, b in zip(x, y, strict=True)]
            return [p.numpy() for p in model.parameters()], losses, taken

    plain, eager_losses, _ = trained(lambda step: step)
    replayed, losses, taken = trained(gn.capture)
    found = {
        "counts": {"steps": steps, "replays": taken.replays},
        "replayed_by": type(taken._last._replay).__name__ if taken._last else None,
        "same_bits": all(a.tobytes() == b.tobytes() for a, b in zip(plain, replayed, strict=True)),
        "worst": max(comparisons.distance(a, b) for a, b in zip(replayed, plain, strict=True)),
        "losses": [losses, eager_losses],
    }
    if taken.replays < steps - 2:
        raise Wrong(f"{taken.replays} of {steps} steps were replays", found)
    if not found["worst"] <= 1e-4:
        raise Wrong("captured steps lead to other weights than eager ones", found)
    return found


def curves(bench: Bench) -> dict[str, Any]:
    """A network of MNIST's size on data made up: loss curves on the CPU and on the device.

    The device trains twice, with the same bits as result.
    """
    import gradnet as gn

    sizes, rows, epochs = ((9, 8, 3), 96, 2) if bench.dry else ((784, 128, 10), 12_800, 3)
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((sizes[-1], sizes[0]))
    classes = rng.integers(0, sizes[-1], rows)
    x = (centres[classes] + 3 * rng.standard_normal((rows, sizes[0]))).astype(np.float32)

    def fitted(where: Any) -> tuple[list[float], list[bytes]]:
        from gradnet import backends

        with backends.use(where):
            model = gn.nn.MLP(sizes, output="softmax", seed=2)
            history = gn.fit(
                model, x, classes, epochs=epochs, batch_size=32 if bench.dry else 128, seed=4,
                lr=1e-3, validation=0.1, progress=False,
            )  # fmt: skip
            curve = [*history["loss"], *history["val_loss"]]
            return [float(v) for v in curve], [p.numpy().tobytes() for p in model.parameters()]

    expected, _ = fitted(backends_cpu())
    curve, weights = fitted(bench.backend)
    again, same = fitted(bench.backend)
    apart = max(abs(a - b) / abs(b) for a, b in zip(curve, expected, strict=True))
    found = {
        "counts": {"losses": len(curve)},
        "cpu": expected,
        "device": curve,
        "furthest_apart": apart,
        "same_bits_twice": curve == again and weights == same,
    }
    if not found["same_bits_twice"]:
        raise Wrong("two runs from one seed differ", found)
    if not apart <= 2e-3:
        raise Wrong("the loss curves of CPU and device differ by more than rounding", found)
    return found


def backends_cpu() -> Any:
    """The compiled CPU backend, or NumPy's."""
    from gradnet import backends

    return backends.get("numba" if backends.unavailable("numba") is None else "numpy")


# The most telling first.
PARTS: dict[str, Callable[[Bench], Any]] = {
    "philox": philox,
    "captured": captured,
    "curves": curves,
    "precisions": networks.precisions,
    "fused_mlp": fused.fused_mlp,
    "cluster": fused.cluster,
    "cublaslt": products.sweep,
}


def run(notes: Notebook) -> None:
    """The parts, the most telling first; and the tests beside them, with processors to spare."""
    with ThreadPoolExecutor(1) as beside:
        tests = beside.submit(
            notes.part, "tests", lambda: suite.run(notes.options, max(1.0, notes.left))
        )
        shards.run(notes, PARTS)
        tests.result()


if __name__ == "__main__":
    main("correctness", run)
