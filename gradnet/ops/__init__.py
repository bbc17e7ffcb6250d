"""The ops: every operation on Tensors, each declared once with its derivatives and its cost.

A name is looked up when it is first asked for, in the file that declares it: the import takes no
time, and no file of this room waits for another that is being imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradnet.ops.complex import conj, imag, real
    from gradnet.ops.creation import (
        arange,
        array,
        asarray,
        astype,
        copy,
        empty,
        empty_like,
        eye,
        from_dlpack,
        full,
        full_like,
        linspace,
        meshgrid,
        ones,
        ones_like,
        to_backend,
        zeros,
        zeros_like,
    )
    from gradnet.ops.elementwise import clip
    from gradnet.ops.elementwise import op as elementwise
    from gradnet.ops.fused import linear
    from gradnet.ops.index import (
        getitem,
        one_hot,
        pad,
        scatter_add,
        setitem,
        take,
        take_along_axis,
    )
    from gradnet.ops.joining import concat, diff, flip, repeat, roll, split, stack, tile
    from gradnet.ops.joining import concat as concatenate
    from gradnet.ops.linear_algebra import (
        diagonal,
        dot,
        einsum,
        outer,
        tensordot,
        trace,
        tril,
        triu,
        vecdot,
        vector_norm,
    )
    from gradnet.ops.multilinear import matmul
    from gradnet.ops.norms import batch_norm, layer_norm
    from gradnet.ops.order import argsort, nonzero, searchsorted, sort, top_k, where
    from gradnet.ops.probabilities import log_softmax, softmax, softmax_cross_entropy
    from gradnet.ops.reduce import (
        all,
        any,
        argmax,
        argmin,
        count_nonzero,
        logsumexp,
        max,
        mean,
        min,
        prod,
        std,
        sum,
        var,
    )
    from gradnet.ops.scan import cumulative_prod, cumulative_sum
    from gradnet.ops.sets import isin, unique_all, unique_counts, unique_inverse, unique_values
    from gradnet.ops.shape import (
        broadcast_arrays,
        broadcast_to,
        expand_dims,
        matrix_transpose,
        moveaxis,
        permute_dims,
        ravel,
        reshape,
        squeeze,
        swapaxes,
        transpose,
        unstack,
    )

# The same for the interpreter: which file declares a name. All rows of the formulas come besides.
_HOMES = {
    name: home
    for home, names in {
        "complex": "conj imag real",
        "creation": "arange array asarray astype copy empty empty_like eye from_dlpack full "
        "full_like linspace meshgrid ones ones_like to_backend zeros zeros_like",
        "elementwise": "clip",
        "fused": "linear",
        "index": "getitem one_hot pad scatter_add setitem take take_along_axis",
        "joining": "concat diff flip repeat roll split stack tile",
        "linear_algebra": "diagonal dot einsum outer tensordot trace tril triu vecdot vector_norm",
        "multilinear": "matmul",
        "norms": "batch_norm layer_norm",
        "order": "argsort nonzero searchsorted sort top_k where",
        "probabilities": "log_softmax softmax softmax_cross_entropy",
        "reduce": "all any argmax argmin count_nonzero logsumexp max mean min prod std sum var",
        "scan": "cumulative_prod cumulative_sum",
        "sets": "isin unique_all unique_counts unique_inverse unique_values",
        "shape": "broadcast_arrays broadcast_to expand_dims matrix_transpose moveaxis "
        "permute_dims ravel reshape squeeze swapaxes transpose unstack",
    }.items()
    for name in names.split()
}
_OTHER_NAMES = {"concatenate": "concat", "power": "pow", "true_divide": "divide"}


def has(name: str) -> bool:
    """Whether there is an op of that name."""
    from gradnet import formulas

    return name in _HOMES or name in _OTHER_NAMES or formulas.has(name)


def names() -> set[str]:
    """The names of all ops, those of the formulas' rows among them."""
    from gradnet import formulas

    return {*_HOMES, *_OTHER_NAMES, *(row.name for row in formulas.rows())}


def __getattr__(name: str) -> Any:
    if name == "elementwise":
        return importlib.import_module(f"{__name__}.elementwise")
    if name.startswith("__") or not has(name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    ours = _OTHER_NAMES.get(name, name)
    if ours in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[ours]}"), ours)
    else:
        found = importlib.import_module(f"{__name__}.elementwise").op(ours)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *names(), "elementwise"})
