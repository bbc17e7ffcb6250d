"""The ops: every operation on Tensors, each declared once with its derivatives and its cost."""

from __future__ import annotations

from typing import Any

from gradnet import formulas

# isort: off
import gradnet.tensor as _tensor  # the Tensor class comes before the ops that make Tensors
from gradnet.ops.elementwise import op as elementwise
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
    tril,
    triu,
    zeros,
    zeros_like,
)
from gradnet.ops.fused import linear
from gradnet.ops.probabilities import log_softmax, softmax, softmax_cross_entropy
from gradnet.ops.elementwise import clip
from gradnet.ops.complex import conj, imag, real
from gradnet.ops.index import (
    getitem,
    one_hot,
    pad,
    scatter_add,
    setitem,
    take,
    take_along_axis,
)
from gradnet.ops.order import (
    argsort,
    nonzero,
    searchsorted,
    sort,
    top_k,
    where,
)
from gradnet.ops.linear_algebra import (
    diagonal,
    dot,
    einsum,
    outer,
    tensordot,
    trace,
    vecdot,
    vector_norm,
)
from gradnet.ops.multilinear import matmul
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
from gradnet.ops.scan import (
    cumulative_prod,
    cumulative_sum,
)
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
from gradnet.ops.joining import (
    concat,
    diff,
    flip,
    repeat,
    roll,
    split,
    stack,
    tile,
)
from gradnet.ops.sets import isin, unique_all, unique_counts, unique_inverse, unique_values
# isort: on

concatenate = concat
true_divide = elementwise("divide")
power = elementwise("pow")


def __getattr__(name: str) -> Any:
    """The elementwise ops: every row of the formulas under its names."""
    try:
        found = elementwise(name)
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    if name not in ("min", "max"):
        globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *(row.name for row in formulas.rows())})
