"""The generator: known answers, the places of words in a stream, the shapes of distributions."""

from __future__ import annotations

import math
from statistics import NormalDist

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradnet import dtypes, philox
from gradnet.errors import DTypeError

FLOATS = [dtypes.float16, dtypes.bfloat16(), dtypes.float32, dtypes.float64]
ALL = [("bits", dtypes.uint32), ("bits", dtypes.uint64)] + [
    (kind, dtype) for kind in ("uniform", "normal") for dtype in FLOATS
]


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        (0, 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, 2**128 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            0x299F31D0A4093822,
            0x0370734413198A2E85A308D3243F6A88,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_known_answers(key: int, counter: int, words: str) -> None:
    """The known answers that the authors publish with Random123."""
    assert [f"{word:08x}" for word in philox.bits(key, counter, 4)] == words.split()


@given(
    key=st.integers(0, 2**64 - 1),
    counter=st.one_of(st.integers(0, 2**128 - 1), st.integers(2**64 - 5, 2**64 + 5)),
    n=st.integers(0, 50),
    skipped=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_words_depend_on_their_place_alone(key: int, counter: int, n: int, skipped: int) -> None:
    words = philox.bits(key, counter, n + 4 * skipped)
    np.testing.assert_array_equal(words[4 * skipped :], philox.bits(key, counter + skipped, n))
    np.testing.assert_array_equal(words[:n], philox.bits(key, counter, n))


def test_the_counter_carries_and_wraps() -> None:
    for edge in (2**32, 2**64, 2**96, 2**128):
        across = philox.bits(9, edge - 1, 12)
        apart = [philox.bits(9, (edge + i) % 2**128, 4) for i in (-1, 0, 1)]
        np.testing.assert_array_equal(across, np.concatenate(apart))


def test_chunks_join() -> None:
    n = 4 * philox._CHUNK + 7
    words = philox.bits(3, 11, n)
    np.testing.assert_array_equal(words[-7:], philox.bits(3, 11 + philox._CHUNK, 7))
    normal = philox.random("normal", 3, 11, (n,), dtypes.float64)
    np.testing.assert_array_equal(normal[:9], philox.random("normal", 3, 11, (9,), dtypes.float64))


@pytest.mark.parametrize(("kind", "dtype"), ALL)
def test_a_longer_draw_begins_with_a_shorter_one(kind: str, dtype: dtypes.DType) -> None:
    long = philox.random(kind, 1, 2, (10, 13), dtype)
    assert (long.shape, long.dtype) == ((10, 13), dtype)
    for n in (0, 1, 2, 5, 64):
        short = philox.random(kind, 1, 2, (n,), dtype)
        assert short.tobytes() == long.reshape(-1)[:n].tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1)])
@pytest.mark.parametrize(("kind", "dtype"), ALL)
def test_odd_shapes(kind: str, dtype: dtypes.DType, shape: tuple[int, ...]) -> None:
    numbers = philox.random(kind, 1, 0, shape, dtype)
    assert isinstance(numbers, np.ndarray)
    assert (numbers.shape, numbers.dtype) == (shape, dtype)


def test_bits_of_64_are_pairs_of_words_low_first() -> None:
    words = philox.bits(7, 5, 6).astype(object)
    pairs = philox.random("bits", 7, 5, (3,), dtypes.uint64)
    assert [int(pair) for pair in pairs] == [
        words[2 * i] + (words[2 * i + 1] << 32) for i in range(3)
    ]


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform(dtype: dtypes.DType) -> None:
    n = 40_000
    numbers = philox.random("uniform", 42, 0, (n,), dtype).astype(np.float64)
    used = philox.UNIFORM_BITS[dtype.name]
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_array_equal(numbers * 2.0**used % 1, 0)
    assert abs(numbers.mean() - (0.5 - 2.0**-used / 2)) < 5 / math.sqrt(12 * n)
    assert abs(numbers.var() - 1 / 12) < 0.002
    ordered = np.sort(numbers)
    steps = np.arange(1, n + 1) / n
    assert np.abs(ordered + 2.0**-used / 2 - steps).max() < 1.95 / math.sqrt(n) + 2.0**-used


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_uniform_is_below_one(dtype: dtypes.DType) -> None:
    words = np.full(2, 0xFFFFFFFF, np.uint32)
    assert float(philox._uniform(words, dtype)[0]) == 1 - 2.0 ** -philox.UNIFORM_BITS[dtype.name]


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal(dtype: dtypes.DType) -> None:
    n = 40_000
    numbers = philox.random("normal", 42, 0, (n,), dtype).astype(np.float64)
    assert abs(numbers.mean()) < 5 / math.sqrt(n)
    assert abs(numbers.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((numbers**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((numbers**4).mean() - 3) < 5 * math.sqrt(96 / n)
    cdf = np.array([NormalDist().cdf(x) for x in np.sort(numbers)])
    tolerance = 1.95 / math.sqrt(n) + (0.002 if dtypes.is_half(dtype) else 0)
    assert np.abs(cdf - np.arange(1, n + 1) / n).max() < tolerance


def test_neighbours_are_uncorrelated() -> None:
    numbers = philox.random("normal", 1, 0, (40_000,), dtypes.float64)
    other = philox.random("normal", 2, 0, (40_000,), dtypes.float64)
    for lag in (1, 2, 3, 4, 5):
        assert abs((numbers[lag:] * numbers[:-lag]).mean()) < 5 / 200
    assert abs((numbers * other).mean()) < 5 / 200


def test_normal_is_odd_and_rises_with_its_word() -> None:
    words = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    numbers = philox._normal(words, dtypes.float32)
    np.testing.assert_array_equal(numbers, -numbers[::-1])
    assert np.all(np.diff(numbers) > 0)
    ends = philox._normal(np.array([0, 0, 2**32 - 1, 2**32 - 1], np.uint32), dtypes.float64)
    assert ends[0] == -ends[1]
    assert ends[1] == pytest.approx(9.1553, abs=1e-4)


def test_minus_log() -> None:
    generator = np.random.default_rng(0)
    p = np.concatenate([2.0 ** -np.arange(2.5, 66, 0.5), generator.random(5000) * 0.25])
    np.testing.assert_allclose(philox.minus_log(p), -np.log(p), rtol=4e-16)


def test_the_quantile_against_fifty_digits() -> None:
    tails = [2.0**-65, 1e-15, 1.3e-11, 1.4e-11, 1e-7, 0.01, 0.0749999, 0.0750001, 0.25, 0.4, 0.499]
    with mpmath.workdps(50):
        for p in tails:
            exact = mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * mpmath.mpf(p))
            found = float(philox.normal_quantile(np.float64(p)))
            assert abs(found / exact - 1) < 2e-15, p
    assert philox.normal_quantile(np.float64(0.5)) == 0


def test_bits_are_the_same_on_every_machine() -> None:
    """Figures once written down: another platform or NumPy must give the same bits."""
    normal = philox.random("normal", 12345, 6, (5000,), dtypes.float64)
    tails = np.sort(normal)[[0, 1, 2500, 4998, 4999]]
    assert [x.hex() for x in tails] == EXPECTED_NORMAL
    uniform = philox.random("uniform", 12345, 6, (3,), dtypes.float32)
    assert [float(x).hex() for x in uniform] == EXPECTED_UNIFORM


EXPECTED_NORMAL = [
    "-0x1.d1a9dbec04455p+1",
    "-0x1.a73a162eb18e6p+1",
    "-0x1.abb03d4b500a8p-10",
    "0x1.a78542f39a34bp+1",
    "0x1.ae02828c37cf4p+1",
]
EXPECTED_UNIFORM = ["0x1.4e62000000000p-6", "0x1.58ca440000000p-2", "0x1.7e52240000000p-2"]


@pytest.mark.parametrize(
    ("kind", "dtype", "error"),
    [
        ("bits", dtypes.float32, DTypeError),
        ("bits", dtypes.int32, DTypeError),
        ("uniform", dtypes.int32, DTypeError),
        ("normal", dtypes.complex64, DTypeError),
        ("poisson", dtypes.float32, ValueError),
    ],
)
def test_what_does_not_come(kind: str, dtype: dtypes.DType, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{kind}"):
        philox.random(kind, 0, 0, (3,), dtype)
