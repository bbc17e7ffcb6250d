"""Training by one cluster of blocks, run on the CPU: blocks at the same time, against float64."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import clustered
from fakes.shim import Shim, altered, built, poisoned
from gradnet.kernels import cluster_split, cluster_step, nvrtc
from gradnet.kernels.cluster_split import Split, Training
from gradnet.kernels.cluster_step import Apart, Places
from gradnet.kernels.nvrtc import CudaProgram

import gradnet as gn
from gradnet import backends, formulas, optim
from gradnet.errors import DeviceError

# Sizes that no grid divides, batches smaller than it, one layer alone, three and four, layers
# narrower than the grid, rows of x of whole quads and others, all kinds of grids; as few threads as
# will do.
CASES = (
    Training((13, 9, 3), 7, "relu", "adam", threads=32, split=(2, 2, True)),
    Training((5, 3), 3, "leaky_relu", "sgd", (3, 70), threads=32, split=(1, 1, True)),
    Training((6, 17, 2, 4), 9, "gelu", "adam", threads=64, split=(2, 1, False)),
    Training((12, 5, 4, 2, 3), 2, "tanh", "rmsprop", threads=32, split=(2, 3, False)),
    Training((8, 3), 5, "relu", "adam", threads=32, split=(3, 1, True)),
    Training((18, 7, 5, 2), 5, "tanh", "adam", threads=32, split=(4, 2, True)),
)
SCALARS = {
    "adam": (0.01, 0.1, 0.001, 1.5, 1e-3, 1e-3),
    "sgd": (0.1, 1e-3),
    "rmsprop": (0.01, 0.1, 1e-3, 0.0),
}


def named(training: Training) -> str:
    return f"{training.sizes} {training.split}"


@pytest.fixture(scope="module")
def compiler() -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")


@pytest.fixture(scope="module")
def programs() -> list[CudaProgram]:
    """Those of all cases; the last one's block in the corner gives others a number too few."""
    found = [cluster_step.program(training) for training in CASES]
    text = found[0].text.replace("PATIENCE = 1u << 27", "PATIENCE = 1u << 12")
    given = "step.give(P + i * OUTS + j, sum);"
    assert given in text
    lost = altered(found[0], text.replace(given, f"if (blockIdx.y + i + j) {given}"))
    return [*found, lost]


@pytest.fixture(scope="module")
def executable(
    compiler: None, programs: list[CudaProgram], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The kernels under AddressSanitizer."""
    folder = tmp_path_factory.mktemp("cluster")
    return built(folder, "address", programs, "-O0", "-fsanitize=address")


@pytest.fixture(scope="module")
def device(executable: Path, programs: list[CudaProgram]) -> Iterator[Shim]:
    made = Shim(executable, programs)
    yield made
    assert made.close() == (0, "")


def given(training: Training, steps: int, n: int = 50) -> dict[str, Any]:
    """Arguments of `cluster_step.train`."""
    rng = np.random.default_rng(len(training.sizes))
    update = cluster_split.rule(training)
    size = training.places[-1] + 2
    scalars = np.linspace(1, 0.9, steps)[:, None] * np.array(SCALARS[training.update])
    return {
        "x": rng.normal(size=(n, training.sizes[0])).astype(np.float32),
        "classes": rng.integers(training.sizes[-1], size=n),
        "order": rng.integers(n, size=(steps, training.batch)),
        "scalars": scalars.astype(np.float32),
        "p": rng.normal(size=size, scale=0.5).astype(np.float32),
        "states": rng.uniform(size=(len(update.state), size)).astype(np.float32),
        "losses": poisoned((steps,)),
        "room": np.zeros(cluster_split.room_of(training), np.uint64),
    }


@pytest.mark.parametrize("training", CASES, ids=named)
def test_against_float64(device: Shim, training: Training) -> None:
    arguments = given(training, steps=3)
    right = clustered.reference(training, arguments)
    again = {name: x.copy() for name, x in arguments.items()}
    cluster_step.train(device, training, **arguments)
    for name, expected in zip(("p", "states", "losses"), right, strict=True):
        assert np.allclose(arguments[name], expected, rtol=2e-5, atol=2e-6), name
    # The same to the bit, also as one step after the other.
    for t in range(3):
        one = slice(t, t + 1)
        parts = {name: again[name][one] for name in ("order", "scalars", "losses")}
        cluster_step.train(device, training, **{**again, **parts})
    for name, found in arguments.items():
        assert name == "room" or np.array_equal(found, again[name]), name
    # The number of steps that were made, and how often a block arrived at the end of a launch.
    blocks = cluster_split.cluster_of(training)
    for room, launches in ((arguments["room"], 1), (again["room"], 3)):
        assert list(room[:2]) == ([0, 0] if blocks == 1 else [3, launches * blocks])


@pytest.mark.parametrize("training", CASES[:4], ids=named)
def test_steps_with_rows_of_their_own(device: Shim, training: Training) -> None:
    """One step's rows after another's, with gaps between them; the last one's gradient is left."""
    n, k, steps = training.batch, training.sizes[0], 3
    arguments = given(training, steps, steps * n)
    arguments["order"] = np.arange(steps * n).reshape(steps, n)
    right = clustered.reference(training, arguments)
    first = {**arguments, **{name: arguments[name][:-1] for name in ("order", "scalars")}}
    before, states, _ = clustered.reference(training, first)
    last = slice((steps - 1) * n, None)
    x, classes, scalars = (arguments[name] for name in ("x", "classes", "scalars"))
    _, gradient = clustered.step(training, before, states, x[last], classes[last], scalars[-1])
    found, losses = poisoned(arguments["p"].shape), poisoned((steps, 2))

    def apart(values: Any, gap: int) -> Any:
        rows = values.reshape(steps, -1)
        return np.concatenate([rows, np.zeros((steps, gap), rows.dtype)], 1)

    places = Places(
        *(apart(x, 3), apart(classes, 2), apart(scalars, 1), arguments["p"]),
        *(tuple(arguments["states"]), losses, arguments["room"]),
        gradient=found,
    )
    gaps = Apart(n * k + 3, n + 2, scalars.shape[1] + 1, 2)
    cluster_step.give(device, training, places, n, gaps, steps)
    made = (arguments["p"], arguments["states"], losses[:, 0])
    for values, expected in zip(made, right, strict=True):
        assert np.allclose(values, expected, rtol=2e-5, atol=2e-6)
    assert np.isnan(losses[:, 1]).all()
    used = np.zeros(found.shape, bool)
    for w, b in clustered.layers(training, used):
        w[...] = b[...] = True
    assert np.allclose(found[used], gradient[used], rtol=1e-4, atol=1e-6)
    assert np.isnan(found[~used]).all()


def test_rows_and_classes_out_of_range(device: Shim) -> None:
    training = CASES[0]
    for name, bad in (("order", -51), ("order", 50), ("classes", 3), ("classes", -1)):
        arguments = given(training, steps=1)
        places = arguments[name].reshape(-1)
        places[arguments["order"][0, 2] if name == "classes" else 2] = bad
        cluster_step.train(device, training, **arguments)
        assert np.isnan(arguments["losses"]).all()


def test_a_number_that_never_comes(executable: Path, programs: list[CudaProgram]) -> None:
    """An error, not a device that is busy for ever."""
    device = Shim(executable, programs)
    arguments = given(CASES[0], steps=1)

    def launch(program: CudaProgram, *rest: Any) -> None:
        device(programs[-1], *rest)

    with pytest.raises(AssertionError, match="the kernel's process ended"):
        cluster_step.train(launch, CASES[0], **arguments)
    assert device.close() == (-signal.SIGABRT, "")


def test_no_steps() -> None:
    arguments = given(CASES[0], steps=0)
    launch: Any = None
    cluster_step.train(launch, CASES[0], **arguments)


def test_it_trains_as_the_optimizer_does(device: Shim) -> None:
    """A model's own flat buffers and Adam's own numbers, step by step on the CPU beside it."""
    training, steps = CASES[0], 3
    arguments = given(training, steps)
    with backends.use("numpy"):
        model = gn.nn.MLP(training.sizes, activation=training.activation)
        adam = optim.Adam(model.parameters(), lr=0.01)
        arguments["p"] = np.zeros(training.places[-1], np.float32)
        flat = clustered.layers(training, arguments["p"])
        for layer, (w, b) in zip(model.layers, flat, strict=True):
            w[...], b[...] = layer.weight.numpy(), layer.bias.numpy()
        arguments["states"] = np.zeros((2, training.places[-1]), np.float32)
        for t in range(steps):
            rows, root = arguments["order"][t], (1 - 0.999 ** (t + 1)) ** -0.5
            arguments["scalars"][t] = 0.01 / (1 - 0.9 ** (t + 1)), 0.1, 0.001, root, 1e-8, 0
            x, y = gn.asarray(arguments["x"][rows]), gn.asarray(arguments["classes"][rows])
            loss = gn.nn.cross_entropy(model(x), y)
            loss.backward()
            adam.step()
            adam.zero_grad()
    cluster_step.train(device, training, **arguments)
    assert np.isclose(arguments["losses"][-1], loss.item(), rtol=1e-5)
    for layer, (w, b) in zip(model.layers, flat, strict=True):
        # Adam divides by the size of a gradient, however small it is.
        assert np.allclose(w, layer.weight.numpy(), rtol=1e-4, atol=1e-5)
        assert np.allclose(b, layer.bias.numpy(), rtol=1e-4, atol=1e-5)


# Races

BARRIERS = (
    "__syncthreads();  // the batch is there, and the weights are the new ones",
    "__syncthreads();  // COMMON",
    "__syncthreads();  // GATHERED",
    "__syncthreads();  // PARTS",
    "everybody(room);",
)


@pytest.fixture(scope="module")
def raced(
    compiler: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[int, str]]:
    """Runs a training without a barrier under ThreadSanitizer: the status, what was said."""
    training = Training((5, 4, 3), 6, threads=64, split=(2, 1, True))
    whole = cluster_step.program(training)
    programs = {"": whole}
    for barrier in BARRIERS:
        assert barrier in whole.text
        programs[barrier] = altered(whole, whole.text.replace(barrier, ""))
    folder, chosen = tmp_path_factory.mktemp("raced"), list(programs.values())
    executable = built(folder, "thread", chosen, "-O0", "-fsanitize=thread")

    def run_without(barrier: str) -> tuple[int, str]:
        device = Shim(executable, chosen)
        arguments = given(training, steps=2)

        def launch(program: Any, *rest: Any) -> None:
            device(programs[barrier], *rest)

        try:
            cluster_step.train(launch, training, **arguments)
        except (AssertionError, BrokenPipeError):
            device.process.wait()
        status, said = device.close()
        if "unexpected memory mapping" in said:
            pytest.skip("ThreadSanitizer does not run on this system's kernel")
        return status, said

    return run_without


def test_no_races(raced: Callable[[str], tuple[int, str]]) -> None:
    assert raced("") == (0, "")


@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_missing_barrier_is_found(raced: Callable[[str], tuple[int, str]], barrier: str) -> None:
    status, said = raced(barrier)
    assert "ThreadSanitizer: data race" in said
    assert status == 66


# What is compiled for the device

MNIST = Training((784, 128, 10), 128)


# A device of 108 processors with less memory each.
EARLIER = MNIST._replace(most=108, shared=163 * 1024)


@pytest.mark.parametrize(
    ("training", "architecture"), [(MNIST, (9, 0)), (EARLIER, (8, 0))], ids=["sm_90", "sm_80"]
)
def test_machine_code(training: Training, architecture: tuple[int, int]) -> None:
    pytest.importorskip("cuda.core")
    program = cluster_step.program(training)
    try:
        code, log = nvrtc.machine_code(program, architecture)
    except DeviceError as error:
        pytest.skip(str(error))
    assert code[:4] == b"\x7fELF"
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log
    (registers,) = re.findall(r"Used (\d+) registers", log)
    assert int(registers) <= 65536 // MNIST.threads


def test_float32_alone() -> None:
    text = cluster_step.text(MNIST)
    assert "double" not in text
    assert not re.search(r"\d\.\d*(?![\df])", re.sub(r"//.*", "", text))


# The host's side


def test_how_mnist_is_split() -> None:
    assert cluster_split.split_of(MNIST) == Split(16, 8, True)
    assert cluster_split.cluster_of(MNIST) == 128
    assert cluster_split.shared_bytes(MNIST) <= cluster_split.SHARED
    assert cluster_step.refusal(MNIST) == ""
    assert cluster_step.flops(MNIST) == 2 * 128 * (2 * 784 * 128 + 3 * 128 * 10)
    # A small network is one block's, who exchanges nothing.
    small = Training((13, 9, 3), 7)
    assert cluster_split.cluster_of(small) == 1
    assert cluster_split.room_of(small) == 16


def test_a_device_with_fewer_processors_and_less_memory_has_fewer_blocks() -> None:
    assert cluster_step.refusal(EARLIER) == ""
    assert cluster_split.cluster_of(EARLIER) == 64
    assert cluster_split.shared_bytes(EARLIER) <= EARLIER.shared
    few = EARLIER._replace(most=28, shared=99 * 1024)
    assert re.search("of 16 blocks .* has 101376", cluster_step.refusal(few))


@pytest.mark.parametrize("blocks", cluster_split.CLUSTERS)
def test_so_many_blocks_as_are_asked_for(blocks: int) -> None:
    split = cluster_split.split_of(MNIST._replace(cluster=blocks, sizes=(64, 32, 10)))
    assert split.down * split.across == blocks


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sizes": (5,)}, r"its sizes are \(5,\)"),
        ({"batch": 0}, "its batch 0"),
        ({"most": 0}, "1 blocks are too many for 128 rows or 0 processors"),
        ({"cluster": 3}, "a cluster has 1, 2, 4, 8, 16, 32, 64, 128 blocks, not 3"),
        ({"activation": "add"}, "'add' is no activation"),
        ({"activation": "heaviside"}, "'heaviside' is no activation that has a derivative"),
        ({"update": "none"}, "'none' is no update"),
        ({"offsets": (0, 5)}, "it has 2 offsets for 2 layers"),
        ({"batch": 4096}, "bytes of shared memory, and has 232448"),
    ],
)
def test_trainings_that_it_cannot_do(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        cluster_step.program(MNIST._replace(**change))


@pytest.mark.parametrize(
    "name", ["x", "classes", "order", "scalars", "p", "states", "losses", "room"]
)
def test_arrays_that_do_not_fit(name: str) -> None:
    arguments = given(CASES[0], steps=2)
    for wrong in (arguments[name].astype(np.float16), arguments[name].reshape(-1)[:-1]):
        launch: Any = None
        with pytest.raises(
            DeviceError, match=r"cluster kernel's (\w+ has shape|state 0 has shape|states are)"
        ):
            cluster_step.train(launch, CASES[0], **{**arguments, name: wrong})


def test_parameters_that_end_before_the_last_layer_does() -> None:
    """Wherever the layers begin, all of them lie within the parameters."""
    training = Training((5, 3), 3, offsets=(70, 3))
    assert training.places == (70, 3, 85)
    arguments = given(training, steps=1)
    arguments["p"] = arguments["p"][:84]
    arguments["states"] = poisoned((2, 84))
    launch: Any = None
    with pytest.raises(DeviceError, match=r"p has shape \(84,\) .* of shape \(85,\)"):
        cluster_step.train(launch, training, **arguments)


def test_every_update_has_its_text() -> None:
    for name in formulas.UPDATES:
        assert f"f_{formulas.UPDATES[name].formula.__name__}(float* results" in cluster_step.text(
            MNIST._replace(update=name)
        )
