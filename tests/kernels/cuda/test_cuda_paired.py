"""Programs made at random compute with paired products what they compute without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes.compare import F32
from fakes.cublaslt_over_numpy import attach
from fakes.cupy_over_numpy import fake_backend
from gradnet.kernels.cuda_epilogues import paired

from gradnet import formulas
from gradnet.program import Call, Program, Storage, Value
from gradnet.program.replay import Interpreted

N = 8
SQUARE, ROW = ((N, N), (4 * N, 4)), ((N,), (4,))
ACTIVATIONS = (formulas.relu, formulas.gelu_tanh, formulas.relu, formulas.tanh, None)
STEPS = ("layer", "layer", *("backward",) * 3, "sum", "fill", "product")
DERIVATIVES = {formulas.relu: formulas.relu_dx, formulas.gelu_tanh: formulas.gelu_tanh_dx}


class Random:
    """Calls at random, most of them such as training makes, on few places."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.calls: list[Call] = []
        self.kept = [self.place("external", *SQUARE) for _ in range(3)]
        self.rows = [self.place("external", *ROW) for _ in range(2)]
        self.free = [self.place("temporary", *SQUARE) for _ in range(9)]
        self.made: list[Value] = []
        # What was activated, and by which derivative it is differentiated.
        self.layers: list[tuple[Value, Any]] = []
        for _ in range(8):
            self.step()
        for x in self.made:
            if self.chance(0.25):
                self.call("cast", (x, F32), [self.place("external", *SQUARE)])

    def place(self, kind: str, shape: Any, strides: Any) -> Value:
        return Value(Storage(kind, 4 * int(np.prod(shape)), None), 0, shape, strides, F32)

    def one(self, values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def call(self, method: str, args: Any, outs: Any, writes: Any = None, **options: Any) -> None:
        writes = [v for v in outs if v is not None] if writes is None else writes
        self.calls.append(Call(method, args, options, tuple(outs), tuple(writes)))
        self.made += [v for v in writes if v not in self.made and v in self.free]

    def product(self, exclude: tuple[Value, ...] = ()) -> Value:
        """A product of what is there, in another place."""
        a, b = self.one([*self.kept, *self.made]), self.one([*self.kept, *self.made])
        places = [x for x in (*self.free, *self.kept[:1]) if x not in (a, b, *exclude)]
        out = self.one(places)
        operands = [
            Value(x.storage, 0, x.shape, x.strides[::-1], F32) if self.chance(0.3) else x
            for x in (a, b)
        ]
        self.call("matmul", tuple(operands), [out])
        return out

    def step(self) -> None:
        match self.one(STEPS):
            case "layer":
                z = self.product()
                self.disturb()
                formula = self.one(ACTIVATIONS)
                y = self.one([x for x in self.free if x is not z]) if self.chance(0.4) else z
                bias = self.one(self.rows) if formula is None or self.chance(0.8) else None
                writes = [y] if y is z else [y, z]
                self.call("bias_activation", (z, bias, formula, ()), [y], writes, out=y)
                if formula in DERIVATIVES:
                    saved = y if formula is formulas.relu else z
                    self.layers.append((saved, DERIVATIVES[formula]))
            case "backward" if self.layers:
                saved, derivative = self.one(self.layers)
                if self.chance(0.3):
                    self.call("map", (formulas.negative, saved), [saved], dtype=F32)
                g = self.product((saved,))
                self.disturb()
                dz = self.one([x for x in self.free if x not in (saved,)])
                dbias = self.one(self.rows) if self.chance(0.7) else None
                given = (g, saved, derivative, ())
                with_bias = dbias is not None
                self.call("bias_activation_backward", given, [dz, dbias], with_bias=with_bias)
            case "sum":
                x = self.one([*self.kept, *self.made])
                row = self.one(self.rows)
                turned = Value(x.storage, 0, x.shape, x.strides[::-1], F32)
                other = self.one(self.kept)
                out = self.one([v for v in (*self.free, self.kept[0]) if v not in (x, other)])
                operands = (other, x) if self.chance(0.5) else (turned, other)
                jobs: list[Any] = [
                    lambda: self.call("reduce", ("sum", x, (0,), False), [row], dtype=F32),
                    lambda: self.call("matmul", operands, [out]),
                ]
                for job in jobs[:: self.one((1, -1))]:
                    job()
                    self.disturb()
            case "fill":
                self.fill()
            case _:
                self.product()

    def disturb(self) -> None:
        """Now and then, a call that changes what the last ones read, or takes from it."""
        if self.chance(0.12):
            read = [x for call in self.calls[-3:] for x in call.reads if len(x.shape) == 2]
            places = [
                x for x in (*self.free, *self.kept) if any(x.storage is y.storage for y in read)
            ]
            x = self.one(places)
            self.call("map", (formulas.subtract, self.one(self.kept), x), [x], dtype=F32)
        if self.chance(0.1) and self.made:
            self.call("cast", (self.one(self.made), F32), [self.place("external", *SQUARE)])

    def fill(self) -> None:
        x = self.one([*self.free, self.kept[0]])
        value = round(float(self.rng.uniform(-1, 1)), 2)
        self.call("full", (x.shape, value, F32), [x])

    def told(self) -> list[Value]:
        """Memory that stays: what the calls write there."""
        written = [v for call in self.calls for v in call.writes]
        return list(
            {
                v.storage: v
                for v in (*self.kept, *self.rows, *written)
                if v.storage.kind == "external"
            }.values()
        )

    def run(self, pairing: bool) -> list[Any]:
        """The memory that stays after a run."""
        cuda = fake_backend()
        attach(cuda)
        rng = np.random.default_rng(5)
        for value in self.told():
            host = (0.4 * rng.standard_normal(value.shape)).astype(F32)
            value.storage.array = cuda.from_host(host, copy=True)
        program = Program(self.calls, [])
        program = paired(program) if pairing else program
        Interpreted(cuda, program)([])
        return [cuda.to_host(v.storage.array) for v in self.told()]


@pytest.mark.parametrize("seed", range(40))
def test_pairs_change_nothing(seed: int) -> None:
    made = Random(seed)
    for x, y in zip(made.run(True), made.run(False), strict=True):
        assert np.isfinite(y).all()
        scale = max(1.0, float(np.abs(y).max()))
        np.testing.assert_allclose(x / scale, y / scale, 0, 1e-4)


def test_many_kinds_of_pairs_were_made() -> None:
    found: set[int] = set()
    for seed in range(40):
        program = paired(Program(Random(seed).calls, []))
        found |= {call.args[2] for call in program.calls if call.method == "product_epilogue"}
    assert found == {"", "relu", "gelu", "drelu", "dgelu", "sum_a", "sum_b"}
