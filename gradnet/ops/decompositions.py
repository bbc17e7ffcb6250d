"""Linear algebra that NumPy and CuPy compute: systems, determinants and decompositions.

An op is its forward and the rule of its tangent, in ops; its cotangents come from the transpose of
that rule, so that nothing is derived twice and all of it differentiates again. The rules are those
of Giles 2008, "Collected matrix derivative results for forward and reverse mode AD", of Walter and
Lehmann 2018 for QR (https://arxiv.org/abs/1009.6112) and of Wan and Zhang 2019 for the complex SVD
(https://arxiv.org/abs/1909.02659).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradnet.backends import Array, Backend
from gradnet.errors import GraphError
from gradnet.graph import Context
from gradnet.ops.complex import CONJ, IMAG, REAL, is_complex
from gradnet.ops.creation import asarray, ones_like, zeros_like
from gradnet.ops.elementwise import op, sum_to
from gradnet.ops.joining import concat
from gradnet.ops.linear_algebra import diagonal, trace, tril
from gradnet.ops.multilinear import CAST, matmul
from gradnet.ops.shape import broadcast_to, expand_dims, matrix_transpose
from gradnet.ops.tangential import Tangential, Tangents
from gradnet.tensor import Tensor


def adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose of matrices."""
    y = matrix_transpose(x)
    return CONJ(y) if is_complex(y) else y


def _identity(x: Tensor) -> Tensor:
    return asarray(np.eye(x.shape[-1], dtype=x.dtype), backend=x.backend)


def _columns(x: Tensor) -> Tensor:
    """A vector per matrix as factors of the matrix's columns."""
    return expand_dims(x, -2)


def _real(x: Tensor) -> Tensor:
    return REAL(x) if is_complex(x) else x


def _like(x: Tensor, other: Tensor) -> Tensor:
    """Real values in the dtype of others that may be complex."""
    return x if x.dtype == other.dtype else CAST(x, dtype=other.dtype)


def _hermitian(x: Tensor) -> Tensor:
    return (x + adjoint(x)) * 0.5


def _gaps(w: Tensor) -> Tensor:
    """1 / (w_j - w_i) off the diagonal, 0 on it: infinite for values that are equal."""
    differences = expand_dims(w, -2) - expand_dims(w, -1)
    on_diagonal = op("not_equal")(_identity(differences), 0)
    safe = op("where")(on_diagonal, ones_like(differences), differences)
    return op("where")(on_diagonal, zeros_like(differences), op("reciprocal")(safe))


# Systems and determinants


class _Solve(Tangential):
    """The one op whose tangent is made with itself, so that it states its cotangents."""

    def vjp(self, context: Context, g: Any) -> Sequence[Tensor | None]:
        a, b = context.inputs
        g_b = SOLVE(adjoint(a), g)
        g_a = op("negative")(matmul(g_b, adjoint(context.output))) if context.needs[0] else None
        return (
            None if g_a is None else sum_to(g_a, a.shape),
            sum_to(g_b, b.shape) if context.needs[1] else None,
        )


def _solve_rule(context: Context, tangents: Tangents) -> Tensor:
    a, _ = context.inputs
    t_a, t_b = tangents
    right = None if t_a is None else op("negative")(matmul(t_a, context.output))
    if t_b is not None:
        right = t_b if right is None else right + t_b
    return broadcast_to(SOLVE(a, right), context.output.shape)


SOLVE: Tangential = _Solve(
    "solve", lambda backend, a, b: backend.linalg("linalg.solve", a, b), _solve_rule, flops=2 / 3
)


def _inv_rule(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    y = context.output
    return op("negative")(matmul(matmul(y, t), y))


INV = Tangential("inv", lambda backend, x: backend.linalg("linalg.inv", x), _inv_rule, flops=2.0)


def _log_det_tangent(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    return trace(SOLVE(context.inputs[0], t))


def _det_rule(context: Context, tangents: Tangents) -> Tensor:
    return context.output * _log_det_tangent(context, tangents)


DET = Tangential(
    "det",
    lambda backend, x: backend.linalg("linalg.det", x),
    _det_rule,
    flops=2 / 3,
)


def _slogdet_rule(context: Context, tangents: Tangents) -> tuple[Tensor | None, Tensor]:
    tangent = _log_det_tangent(context, tangents)
    if not is_complex(tangent):
        return None, tangent
    sign = context.output_at(0)
    turn = CAST(IMAG(tangent), dtype=tangent.dtype) * 1j
    return sign * turn, REAL(tangent)


SLOGDET = Tangential(
    "slogdet",
    lambda backend, x: tuple(backend.linalg("linalg.slogdet", x)),
    _slogdet_rule,
    multiple=True,
    flops=2 / 3,
)


def _pinv_rule(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    a, p = context.inputs[0], context.output
    t_h, a_p, p_a = adjoint(t), matmul(a, p), matmul(p, a)
    inner = matmul(matmul(p, t), p)
    left = matmul(matmul(p, adjoint(p)), t_h)
    right = matmul(t_h, matmul(adjoint(p), p))
    return left - matmul(left, a_p) + right - matmul(p_a, right) - inner


PINV = Tangential(
    "pinv",
    lambda backend, x, rtol: backend.linalg("linalg.pinv", x, rtol=rtol),
    _pinv_rule,
    flops=20.0,
)


# Decompositions


def _cholesky_rule(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    y = context.output
    solved = SOLVE(y, adjoint(SOLVE(y, _hermitian(t))))
    half = tril(solved) - _on_diagonal(solved) * 0.5
    return matmul(y, half)


def _on_diagonal(x: Tensor) -> Tensor:
    return x * _identity(x)


CHOLESKY = Tangential(
    "cholesky",
    lambda backend, x: backend.linalg("linalg.cholesky", x),
    _cholesky_rule,
    flops=1 / 3,
)


def _qr_rule(context: Context, tangents: Tangents) -> tuple[Tensor, Tensor]:
    (t,) = tangents
    assert t is not None
    a, q, r = context.inputs[0], context.output_at(0), context.output_at(1)
    n, m = a.shape[-2:]
    if context.parameters["mode"] == "complete" and n > m:
        raise GraphError(
            f"qr of shape {a.shape} with mode='complete' has no derivative: the added columns are "
            "not determined by the matrix; use mode='reduced'"
        )
    k = min(n, m)
    square, t_square = r[..., :, :k], t[..., :, :k]
    # t r^-1, from the transposed system.
    scaled = adjoint(SOLVE(adjoint(square), adjoint(t_square)))
    inner = matmul(adjoint(q), scaled)
    below = tril(inner, k=-1)
    turn = below - adjoint(below)
    if is_complex(inner):
        turn = turn + _on_diagonal(CAST(IMAG(inner), dtype=inner.dtype) * 1j)
    t_q = scaled - matmul(q, inner - turn)
    t_r = matmul(inner - turn, square)
    if m > k:
        rest = matmul(adjoint(t_q), a[..., :, k:]) + matmul(adjoint(q), t[..., :, k:])
        t_r = concat([t_r, rest], axis=-1)
    return t_q, t_r


QR = Tangential(
    "qr",
    lambda backend, x, mode: tuple(backend.linalg("linalg.qr", x, mode=mode)),
    _qr_rule,
    multiple=True,
    flops=4 / 3,
)


def _svd_rule(context: Context, tangents: Tangents) -> tuple[Tensor, Tensor, Tensor]:
    (t,) = tangents
    assert t is not None
    a = context.inputs[0]
    u, s, v_h = (context.output_at(i) for i in range(3))
    n, m = a.shape[-2:]
    if context.parameters["full_matrices"] and n != m:
        raise GraphError(
            f"svd of shape {a.shape} with full_matrices=True has no derivative: the added vectors "
            "are not determined by the matrix; use full_matrices=False"
        )
    v = adjoint(v_h)
    inner = matmul(matmul(adjoint(u), t), v)
    scale = _like(_columns(s), inner)
    gaps = _like(_gaps(op("square")(s)), inner)
    t_u = matmul(u, gaps * (inner * scale + adjoint(inner * scale)))
    scaled = adjoint(adjoint(inner) * scale)
    t_v = matmul(v, gaps * (scaled + adjoint(scaled)))
    if is_complex(inner):
        turn = _on_diagonal(CAST(IMAG(inner), dtype=inner.dtype) * 1j)
        t_u = t_u + matmul(u, turn / scale)
    if n > m:
        rest = matmul(t, v) / scale
        t_u = t_u + rest - matmul(u, matmul(adjoint(u), rest))
    if m > n:
        rest = matmul(adjoint(t), u) / scale
        t_v = t_v + rest - matmul(v, matmul(v_h, rest))
    return t_u, _real(diagonal(inner)), adjoint(t_v)


SVD = Tangential(
    "svd",
    lambda backend, x, full_matrices: tuple(
        backend.linalg("linalg.svd", x, full_matrices=full_matrices)
    ),
    _svd_rule,
    multiple=True,
    flops=22.0,
)


def _svdvals_rule(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    u, _, v_h = SVD(context.inputs[0], full_matrices=False)
    return _real(diagonal(matmul(matmul(adjoint(u), t), adjoint(v_h))))


SVDVALS = Tangential(
    "svdvals",
    lambda backend, x: backend.linalg("linalg.svd", x, compute_uv=False),
    _svdvals_rule,
    flops=4.0,
)


def _eigh_rule(context: Context, tangents: Tangents) -> tuple[Tensor, Tensor]:
    (t,) = tangents
    assert t is not None
    w, v = context.output_at(0), context.output_at(1)
    inner = matmul(matmul(adjoint(v), _hermitian(t)), v)
    return _real(diagonal(inner)), matmul(v, _like(_gaps(w), inner) * inner)


EIGH = Tangential(
    "eigh",
    lambda backend, x: tuple(backend.linalg("linalg.eigh", x)),
    _eigh_rule,
    multiple=True,
    flops=9.0,
)


def _eigvalsh_rule(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    _, v = EIGH(context.inputs[0])
    return _real(diagonal(matmul(matmul(adjoint(v), _hermitian(t)), v)))


EIGVALSH = Tangential(
    "eigvalsh",
    lambda backend, x: backend.linalg("linalg.eigvalsh", x),
    _eigvalsh_rule,
    flops=4 / 3,
)


def _eig_rule(context: Context, tangents: Tangents) -> tuple[Tensor, Tensor]:
    (t,) = tangents
    assert t is not None
    w, v = context.output_at(0), context.output_at(1)
    inner = SOLVE(v, matmul(t, v))
    t_v = matmul(v, _gaps(w) * inner)
    # Vectors have length 1, so what lengthens them is taken off.
    longer = REAL(op("multiply")(CONJ(v), t_v)).sum(axis=-2, keepdims=True)
    return diagonal(inner), t_v - v * CAST(longer, dtype=v.dtype)


def _complex(backend: Backend, x: Array) -> Array:
    """Eigenvalues that happen to be real are complex all the same."""
    return backend.cast(x, np.result_type(x.dtype, np.complex64))


EIG = Tangential(
    "eig",
    lambda backend, x: tuple(_complex(backend, y) for y in backend.linalg("linalg.eig", x)),
    _eig_rule,
    multiple=True,
    flops=25.0,
)


def _eigvals_rule(context: Context, tangents: Tangents) -> Tensor:
    (t,) = tangents
    assert t is not None
    _, v = EIG(context.inputs[0])
    return diagonal(SOLVE(v, matmul(t, v)))


EIGVALS = Tangential(
    "eigvals",
    lambda backend, x: _complex(backend, backend.linalg("linalg.eigvals", x)),
    _eigvals_rule,
    flops=10.0,
)
