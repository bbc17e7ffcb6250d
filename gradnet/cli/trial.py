"""`python -m gradnet.cli.trial NAME`: one layer, forward and backward, on a backend.

In a process of its own, so that a backend that crashes can be told of by the one that asked.
"""

from __future__ import annotations

import math
import sys
import time

from gradnet import backends, ops

ROWS, INPUTS, UNITS = 64, 32, 16
TOLERANCE = 1e-4


def trial(name: str) -> float:
    """The seconds that sum(tanh(x @ w)) and its gradient in w take on that backend, compiling too.

    Raises DeviceError where the backend cannot be used, ArithmeticError for a wrong result.
    """
    x = [[math.sin(i * INPUTS + j) for j in range(INPUTS)] for i in range(ROWS)]
    w = [[math.cos(i * UNITS + j) / INPUTS for j in range(UNITS)] for i in range(INPUTS)]
    started = time.perf_counter()
    with backends.use(name):
        weight = ops.asarray(w, requires_grad=True)
        loss = ops.sum(ops.elementwise("tanh")(ops.asarray(x) @ weight))
        loss.backward()
        assert weight.grad is not None
        found = [loss.item(), *ops.reshape(weight.grad, (-1,)).numpy().tolist()]
    seconds = time.perf_counter() - started
    z = [[sum(a * b[k] for a, b in zip(row, w, strict=True)) for k in range(UNITS)] for row in x]
    expected = [sum(math.tanh(value) for row in z for value in row)]
    for i in range(INPUTS):
        for k in range(UNITS):
            terms = (x[n][i] * (1.0 - math.tanh(z[n][k]) ** 2) for n in range(ROWS))
            expected.append(sum(terms))
    error = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(found, expected, strict=True))
    if not error <= TOLERANCE:
        raise ArithmeticError(f"sum(tanh(x @ w)) and its gradient are off by {error:.2g}")
    return seconds


if __name__ == "__main__":
    print(trial(sys.argv[1]))
