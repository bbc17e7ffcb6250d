"""The CUDA backend's checks of values: a launch each, and nothing that waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gradnet.backends import Array, Scalar
from gradnet.dtypes import DType
from gradnet.program.calls import Call, Value
from gradnet.program.plan import Uses

from .cuda_device import on_device
from .cuda_elementwise import Elementwise
from .cuda_flags import Check, Flag
from .cuda_layout import BITS, code_of
from .cuda_templates.flags import blocks_of, outside

_outside = cache(outside)
_INTEGERS = np.iinfo(np.int64)


class Checks(Elementwise):
    """What looks at values on the device. Part of the CUDA backend."""

    defers: bool = True

    @on_device
    def flag(
        self,
        x: Array,
        low: Scalar,
        high: Scalar,
        error: Callable[..., Exception],
        about: tuple[Any, ...],
        *,
        shown: Array | None = None,
    ) -> None:
        flag = self._device.flags.kept(_check(x, error, about, shown))
        self._flagged(flag, x, low, high, shown)

    def _own_flag(self, call: Call, *, by_losses: bool = False) -> Flag:
        """A flag for the checks by one call of a captured function, or by the losses' kernel."""
        x, _, _, error, about = call.args
        check = _check(x, error, about, call.kwargs["shown"])
        return self._device.flags.made(check._replace(width=0) if by_losses else check)

    def _flagged(
        self, flag: Flag, x: Array, low: Scalar, high: Scalar, shown: Array | None
    ) -> None:
        """A check into that flag."""
        told = None if shown is None else self._dense(shown)
        self._looked(flag, self._dense(x), x.dtype, x.size, low, high, told)

    def _looked(
        self, flag: Flag, x: Any, dtype: DType, n: int, low: Any, high: Any, told: Any = None
    ) -> None:
        """A check of contiguous elements, given by an array or as an address."""
        code = code_of(dtype)
        if code not in BITS:
            low, high = (int(min(max(b, _INTEGERS.min), _INTEGERS.max)) for b in (low, high))
        _, _, _, shown, width = flag.check
        program = _outside(code, BITS.get(code, 64), shown.itemsize, width)
        arrays = (x, x if told is None else told, flag.notes, flag.values)
        self._launch(program, blocks_of(n), *arrays, n, low, high)
        self._device.flags.expect()


def _check(x: Any, error: Callable[..., Exception], about: tuple[Any, ...], shown: Any) -> Check:
    if shown is None:
        return Check(error, about, x.size, x.dtype, 1)
    return Check(error, about, x.size, shown.dtype, shown.size // x.size)


def flags(call: Call) -> bool:
    """Whether a call is a check whose error is raised later."""
    return call.method == "flag"


def of_classes(call: Call, classes: Value, k: int) -> bool:
    """Whether a check is one of classes (n,), which are to be 0 ... k - 1."""
    x, low, high, *_ = call.args
    whole = x.dtype == np.dtype(np.int64) and len(x.shape) == 1
    return bool(x == classes and whole and (low, high) == (0, k - 1))


def by_losses(calls: list[Call]) -> tuple[list[Call], dict[Call, Call]]:
    """The calls without the checks of classes that the losses' kernel can make, and those."""
    uses = Uses(calls)
    checks = [(i, call) for i, call in enumerate(calls) if flags(call)]
    found: dict[Call, Call] = {}
    for i, call in enumerate(calls):
        if call.method != "softmax_cross_entropy" or not all(x and x.contiguous for x in call.outs):
            continue
        logits, classes, *_ = call.args
        for at, check in checks:
            same = at < i and not uses.written_within(classes.storage, at, i)
            if same and logits.size and of_classes(check, classes, logits.shape[1]):
                found[call] = check
    return [call for call in calls if call not in found.values()], found
