"""Random tensors: streams and states, distributions, the same bits on every backend."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

import gradnet as gn
from gradnet import random
from gradnet.backends import Backend
from gradnet.errors import DTypeError, ShapeError

DRAWS: dict[str, Any] = {
    "bits": lambda g: g.bits((5, 3)),
    "bits of 64": lambda g: g.bits((7,), dtype=gn.uint64),
    "uniform": lambda g: g.uniform((5, 3)),
    "uniform in a range": lambda g: g.uniform((9,), -2.0, 3.0),
    "uniform in float64": lambda g: g.uniform((4,), dtype=gn.float64),
    "uniform in float16": lambda g: g.uniform((4,), dtype=gn.float16),
    "normal": lambda g: g.normal((3, 2, 2)),
    "normal with moments": lambda g: g.normal((5,), 3.0, 0.5),
    "normal in float64": lambda g: g.normal((5,), dtype=gn.float64),
    "integers": lambda g: g.integers(-3, 9, (11,)),
    "integers in int8": lambda g: g.integers(0, 100, (11,), dtype=gn.int8),
    "permutation": lambda g: g.permutation(13),
    "bernoulli": lambda g: g.bernoulli(0.3, (10,)),
    "shuffle": lambda g: g.shuffle(gn.arange(9)),
    "shuffle columns": lambda g: g.shuffle(gn.eye(4), axis=1),
    "nothing": lambda g: g.uniform((0, 3)),
    "a scalar": lambda g: g.normal(()),
}


def bits(x: gn.Tensor) -> bytes:
    return np.ascontiguousarray(x.numpy()).tobytes()


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_gives_the_same_bits_on_every_backend(name: str) -> None:
    found = set()
    for backend in gn.backends.available():
        with gn.backends.use(backend):
            for _ in range(2):
                found.add(bits(DRAWS[name](random.Generator(123))))
    assert len(found) == 1


@pytest.mark.parametrize("name", [name for name in DRAWS if name != "nothing"])
def test_draws_go_on_and_states_come_back(name: str, backend: Backend) -> None:
    generator = random.Generator(5)
    first = bits(DRAWS[name](generator))
    state = generator.get_state()
    second = bits(DRAWS[name](generator))
    third = bits(DRAWS[name](generator))
    generator.set_state(state)
    assert bits(DRAWS[name](generator)) == second
    if name not in ("a scalar", "shuffle columns"):
        assert len({first, second, third}) == 3
    generator.seed(5)
    assert bits(DRAWS[name](generator)) == first
    assert bits(DRAWS[name](random.Generator(6))) != first or name == "shuffle columns"


def test_states_are_plain_numbers() -> None:
    generator = random.Generator(2**64 - 1)
    generator.uniform((5,))
    state = json.loads(json.dumps(generator.get_state()))
    assert state == {"seed": 2**64 - 1, "counter": 2}
    other = random.Generator(0)
    other.set_state(state)
    assert bits(other.uniform((3,))) == bits(generator.uniform((3,)))


def test_replaying(backend: Backend) -> None:
    generator = random.Generator(1)
    state = generator.get_state()
    first = bits(generator.uniform((5,)))
    between = generator.get_state()
    with generator.replaying(state):
        assert bits(generator.uniform((5,))) == first
    with pytest.raises(KeyError), generator.replaying(state):
        raise KeyError
    assert generator.get_state() == between
    assert bits(generator.uniform((5,))) != first


def test_uniforms(backend: Backend) -> None:
    u = random.Generator(0).uniform((50_000,)).numpy()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.001
    histogram = np.histogram(u, 20, (0, 1))[0]
    assert np.abs(histogram - 2500).max() < 5 * np.sqrt(2500)


def test_normals(backend: Backend) -> None:
    z = random.Generator(0).normal((50_000,), 2.0, 3.0).numpy()
    z = (z - 2) / 3
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1) < 0.01
    assert abs((z**3).mean()) < 0.06
    assert abs((z**4).mean() - 3) < 0.15
    assert np.isfinite(z).all()


def test_integers_are_uniform_and_in_range(backend: Backend) -> None:
    x = random.Generator(0).integers(-2, 5, (70_000,)).numpy()
    assert x.dtype == np.int64
    counts = np.bincount(x + 2, minlength=7)
    assert len(counts) == 7
    assert np.abs(counts - 10_000).max() < 5 * np.sqrt(10_000)
    wide = random.Generator(0).integers(0, 2**31, (1000,)).numpy()
    assert wide.min() >= 0
    assert wide.max() > 2**30


def test_permutations(backend: Backend) -> None:
    order = random.Generator(0).permutation(1000)
    assert order.dtype == gn.int64
    np.testing.assert_array_equal(np.sort(order.numpy()), np.arange(1000))
    assert random.Generator(0).permutation(0).shape == (0,)
    rows = random.Generator(0).shuffle(gn.asarray(np.arange(20).reshape(10, 2)))
    np.testing.assert_array_equal(rows.numpy()[:, 0] + 1, rows.numpy()[:, 1])


def test_bernoulli(backend: Backend) -> None:
    generator = random.Generator(0)
    kept = generator.bernoulli(0.3, (50_000,))
    assert kept.dtype == gn.bool
    assert abs(kept.numpy().mean() - 0.3) < 0.01
    assert generator.bernoulli(1.0, (1000,)).all()
    assert not generator.bernoulli(0.0, (1000,)).any()
    assert generator.bernoulli(0.5, (5,), dtype=gn.float32).dtype == gn.float32


def test_functions_draw_from_the_default_generator(backend: Backend) -> None:
    functions = (
        lambda: random.uniform((3,)),
        lambda: random.normal((3,)),
        lambda: random.integers(0, 1000, (3,)),
        lambda: random.permutation(20),
        lambda: random.shuffle(gn.arange(20)),
        lambda: random.bernoulli(0.5, (40,)),
    )
    random.seed(7)
    first = [bits(f()) for f in functions]
    random.seed(7)
    assert [bits(f()) for f in functions] == first
    assert random.default_generator().get_state()["seed"] == 7
    assert random.default_generator().get_state()["counter"] > 0


def test_each_thread_has_its_own_stream() -> None:
    found: list[dict[str, int]] = []

    def other() -> None:
        found.append(random.default_generator().get_state())
        random.uniform((100,))

    random.seed(9)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [{"seed": 0, "counter": 0}]
    assert random.default_generator().get_state() == {"seed": 9, "counter": 0}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: random.Generator(-1), ValueError, r"a seed is in 0 \.\.\. 2\*\*64 - 1, got -1"),
        (lambda g: random.Generator(2**64), ValueError, "a seed is in"),
        (lambda g: random.Generator(1.5), TypeError, "a seed is an integer, got float"),
        (lambda g: random.Generator(True), TypeError, "a seed is an integer, got bool"),
        (lambda g: g.uniform((2,), dtype=gn.int32), DTypeError, "uniform draws floats, not int32"),
        (lambda g: g.normal((2,), dtype=gn.bool), DTypeError, "normal draws floats, not bool"),
        (lambda g: g.integers(3, 3, (2,)), ValueError, "integers needs 0 < high - low"),
        (lambda g: g.integers(0, 2**32, (2,)), ValueError, "got 0 and 4294967296"),
        (lambda g: g.integers(0, 300, (2,), dtype=gn.int8), DTypeError, "does not fit int8"),
        (lambda g: g.bernoulli(1.5, (2,)), ValueError, r"a probability in 0 \.\.\. 1, got 1.5"),
        (lambda g: g.uniform(2.5), DTypeError, "a shape is an integer or several, got 2.5"),
        (lambda g: g.uniform((-1,)), ShapeError, r"lengths are not negative.*\(-1,\)"),
    ],
)
def test_bad_calls(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(random.Generator(0))
