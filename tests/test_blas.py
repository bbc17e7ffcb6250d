"""The threads of the BLAS: chosen by size, within what the user allows."""

import numpy as np
import pytest

from gradnet import blas
from gradnet.numpy_backend import BACKEND


class Recorded:
    """A BLAS that remembers the numbers it was given."""

    def __init__(self, start):
        self.number = start
        self.calls = []

    def get(self):
        return self.number

    def put(self, number):
        self.number = number
        self.calls.append(number)


def test_small_products_run_alone_and_large_ones_on_all_threads():
    library = Recorded(4)
    threads = blas._Threads(library.get, library.put)
    for alone in (False, True, True, False, False, True):
        threads.set(alone)
    assert library.calls == [1, 4, 1]


def test_a_limit_set_by_somebody_else_is_kept():
    library = Recorded(4)
    threads = blas._Threads(library.get, library.put)
    threads.set(True)
    library.number = 2
    threads.set(False)
    assert library.number == 2
    threads.set(True)
    threads.set(False)
    assert library.number == 2


def test_matmul_asks_by_multiply_adds(monkeypatch):
    asked = []
    monkeypatch.setattr(blas, "prepare", asked.append)
    for shape in ((30, 40), (2, 30, 40), (3, 4), (2, 3, 4)):
        BACKEND.matmul(np.ones(shape, np.float32), np.ones((shape[-1], 5), np.float32))
    for count in (2000, 20):
        BACKEND.matmul(np.ones(count, np.float32), np.ones(count, np.float32))
    # Not for two small matrices or vectors, for which no BLAS wakes threads.
    assert asked == [6000, 12000, 120, 2000]


def test_the_blas_of_numpy_is_found_where_it_is_openblas():
    name = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if name != "scipy-openblas":
        pytest.skip(f"NumPy here uses {name}, whose threads are left alone")
    threads = blas._threads()
    assert threads is not None
    limit = threads.limit
    blas.prepare(1)
    assert threads.get() == 1
    blas.prepare(blas.SHARED)
    assert threads.get() == limit
