"""Which function of ours answers each of NumPy's, and how their parameters go together."""

from __future__ import annotations

# Ufuncs under the names of ops, where they differ; with a room, that of another function.
UFUNCS = {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "bitwise_count": "",
    "cbrt": "interop.elementary.cbrt",
    "deg2rad": "interop.elementary.deg2rad",
    "degrees": "interop.elementary.rad2deg",
    "divmod": "interop.elementary.divmod",
    "fmax": "interop.elementary.fmax",
    "fmin": "interop.elementary.fmin",
    "logaddexp2": "interop.elementary.logaddexp2",
    "fmod": "interop.elementary.fmod",
    "frexp": "interop.elementary.frexp",
    "ldexp": "interop.elementary.ldexp",
    "modf": "interop.elementary.modf",
    "matvec": "interop.products.matvec",
    "rad2deg": "interop.elementary.rad2deg",
    "radians": "interop.elementary.deg2rad",
    "vecmat": "interop.products.vecmat",
    "conjugate": "conj",
    "fabs": "abs",
    "float_power": "interop.elementary.float_power",
    "heaviside": "interop.elementary.heaviside",  # NumPy's takes the value at 0
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "right_shift": "bitwise_right_shift",
    "rint": "round",
    "spacing": "",
}
REDUCTIONS = {
    "add": "interop.reductions.sum",
    "multiply": "interop.reductions.prod",
    "maximum": "interop.reductions.max",
    "minimum": "interop.reductions.min",
    "logical_and": "interop.reductions.all",
    "logical_or": "interop.reductions.any",
}
RUNNING = {"add": "cumulative_sum", "multiply": "cumulative_prod"}

# NumPy's functions: the name of ours, how many of the parameters are operands of ours by position,
# and NumPy's parameters in order. "old=new" has another name here, "name!" has no meaning here and
# may be left out or None, or what follows, "name~" changes no value here. A count of -1 passes all
# positional arguments on, -2 the others as well.
FUNCTIONS: dict[str, tuple[str, int, str]] = {
    "all": ("interop.reductions.all", 1, "a axis out keepdims where"),
    "amax": ("interop.reductions.max", 1, "a axis out keepdims initial where"),
    "amin": ("interop.reductions.min", 1, "a axis out keepdims initial where"),
    "any": ("interop.reductions.any", 1, "a axis out keepdims where"),
    "argmax": ("argmax", 1, "a axis out keepdims"),
    "argmin": ("argmin", 1, "a axis out keepdims"),
    "argsort": ("interop.arranged.argsort", 1, "a axis kind~ order! stable~"),
    "around": ("interop.elementary.round", 1, "a decimals out"),
    "astype": ("astype", 2, "x dtype copy"),
    "broadcast_arrays": ("broadcast_arrays", -1, "subok!"),
    "broadcast_to": ("broadcast_to", 2, "array shape subok!"),
    "clip": ("clip", 1, "a a_min=min a_max=max out min max"),
    "concatenate": ("concat", 1, "arrays axis out"),
    "copy": ("copy", 1, "a order~ subok~"),
    "count_nonzero": ("count_nonzero", 1, "a axis keepdims"),
    "cumprod": ("cumulative_prod", 1, "a axis dtype out"),
    "cumsum": ("cumulative_sum", 1, "a axis dtype out"),
    "cumulative_prod": ("cumulative_prod", 1, "x axis dtype out include_initial"),
    "cumulative_sum": ("cumulative_sum", 1, "x axis dtype out include_initial"),
    "diagonal": ("interop.arranged.diagonal", 1, "a offset axis1 axis2"),
    "diff": ("diff", 1, "a n axis prepend append"),
    "dot": ("dot", 2, "a b out"),
    "einsum": ("einsum", -1, "out optimize~"),
    "empty_like": ("empty_like", 1, "prototype dtype order! subok!"),
    "expand_dims": ("expand_dims", 2, "a axis"),
    "flip": ("flip", 1, "m axis"),
    "full_like": ("full_like", 2, "a fill_value dtype order! subok!"),
    "imag": ("imag", 1, "val"),
    "isin": ("isin", 2, "element test_elements assume_unique! invert kind!"),
    "matrix_transpose": ("matrix_transpose", 1, "x"),
    "max": ("interop.reductions.max", 1, "a axis out keepdims initial where"),
    "mean": ("interop.reductions.mean", 1, "a axis dtype out keepdims where"),
    "meshgrid": ("meshgrid", -1, "indexing"),
    "min": ("interop.reductions.min", 1, "a axis out keepdims initial where"),
    "moveaxis": ("moveaxis", 3, "a source destination"),
    "nonzero": ("nonzero", 1, "a"),
    "ones_like": ("ones_like", 1, "a dtype order! subok!"),
    "outer": ("outer", 2, "a b out"),
    "permute_dims": ("permute_dims", 2, "a axes"),
    "prod": ("interop.reductions.prod", 1, "a axis dtype out keepdims initial where"),
    "ravel": ("ravel", 1, "a order!"),
    "real": ("real", 1, "val"),
    "repeat": ("repeat", 2, "a repeats axis"),
    "reshape": ("reshape", 2, "a shape order! copy"),
    "roll": ("roll", 2, "a shift axis"),
    "round": ("interop.elementary.round", 1, "a decimals out"),
    "searchsorted": ("searchsorted", 2, "a v side sorter"),
    "sort": ("interop.arranged.sort", 1, "a axis kind~ order! stable~"),
    "split": ("split", 2, "ary indices_or_sections axis"),
    "squeeze": ("squeeze", 1, "a axis"),
    "stack": ("stack", 1, "arrays axis out"),
    "std": (
        "interop.reductions.std",
        1,
        "a axis dtype out ddof=correction keepdims where mean correction",
    ),
    "sum": ("interop.reductions.sum", 1, "a axis dtype out keepdims initial where"),
    "swapaxes": ("swapaxes", 3, "a axis1 axis2"),
    "take": ("take", 2, "a indices axis out mode!"),
    "take_along_axis": ("interop.arranged.take_along_axis", 2, "arr indices axis"),
    "tensordot": ("tensordot", 2, "a b axes"),
    "tile": ("tile", 2, "A reps"),
    "trace": ("interop.reductions.trace", 1, "a offset axis1 axis2 dtype out"),
    "transpose": ("transpose", 1, "a axes"),
    "tril": ("tril", 1, "m k"),
    "triu": ("triu", 1, "m k"),
    "unique": (
        "interop.moved.unique",
        1,
        "ar return_index return_inverse return_counts axis equal_nan sorted",
    ),
    "unique_all": ("unique_all", 1, "x"),
    "unique_counts": ("unique_counts", 1, "x"),
    "unique_inverse": ("unique_inverse", 1, "x"),
    "unique_values": ("unique_values", 1, "x"),
    "unstack": ("unstack", 1, "x axis"),
    "var": (
        "interop.reductions.var",
        1,
        "a axis dtype out ddof=correction keepdims where mean correction",
    ),
    "where": ("where", 3, "condition x y"),
    "zeros_like": ("zeros_like", 1, "a dtype order! subok!"),
    "linalg.cholesky": ("linalg.cholesky", 1, "a upper"),
    "linalg.cross": ("linalg.cross", 2, "x1 x2 axis"),
    "linalg.det": ("linalg.det", 1, "a"),
    "linalg.eig": ("linalg.eig", 1, "a"),
    "linalg.eigh": ("interop.products.eigh", 1, "a UPLO"),
    "linalg.eigvals": ("linalg.eigvals", 1, "a"),
    "linalg.eigvalsh": ("interop.products.eigvalsh", 1, "a UPLO"),
    "linalg.inv": ("linalg.inv", 1, "a"),
    "linalg.matrix_norm": ("linalg.matrix_norm", 1, "x keepdims ord"),
    "linalg.matrix_power": ("linalg.matrix_power", 2, "a n"),
    "linalg.matrix_rank": ("linalg.matrix_rank", 1, "A tol! hermitian! rtol"),
    "linalg.norm": ("linalg.norm", 1, "x ord axis keepdims"),
    "linalg.pinv": ("linalg.pinv", 1, "a rcond=rtol hermitian~ rtol"),
    "linalg.qr": ("interop.products.qr", 1, "a mode"),
    "linalg.slogdet": ("linalg.slogdet", 1, "a"),
    "linalg.solve": ("linalg.solve", 2, "a b"),
    "linalg.svd": ("interop.products.svd", 1, "a full_matrices compute_uv hermitian~"),
    "linalg.svdvals": ("linalg.svdvals", 1, "x"),
    "linalg.cond": ("interop.products.cond", 1, "x p"),
    "linalg.diagonal": ("linalg.diagonal", 1, "x offset"),
    "linalg.matmul": ("matmul", 2, "x1 x2"),
    "linalg.matrix_transpose": ("matrix_transpose", 1, "x"),
    "linalg.multi_dot": ("interop.products.multi_dot", 1, "arrays out"),
    "linalg.outer": ("outer", 2, "x1 x2"),
    "linalg.tensordot": ("tensordot", 2, "x1 x2 axes"),
    "linalg.trace": ("linalg.trace", 1, "x offset dtype!"),
    "linalg.vecdot": ("vecdot", 2, "x1 x2 axis"),
    "linalg.vector_norm": ("linalg.vector_norm", 1, "x axis keepdims ord"),
    **{
        f"fft.{name}": (f"fft.{name}", 1, "a n axis norm out")
        for name in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
    },
    **{
        f"fft.{name}": (f"fft.{name}", 1, "a s axes norm out")
        for name in ("fftn", "ifftn", "rfftn", "irfftn")
    },
    **{f"fft.{name}": (f"fft.{name}", 1, "x axes") for name in ("fftshift", "ifftshift")},
    **{
        f"fft.{name}": (f"interop.products.{name}", 1, "a s axes norm out")
        for name in ("fft2", "ifft2", "rfft2", "irfft2")
    },
    # Made of others.
    "apply_along_axis": ("interop.applied.apply_along_axis", -2, ""),
    "apply_over_axes": ("interop.applied.apply_over_axes", -2, ""),
    "bincount": ("interop.signals.bincount", 1, "x weights minlength"),
    "convolve": ("interop.signals.convolve", 2, "a v mode"),
    "correlate": ("interop.signals.correlate", 2, "a v mode"),
    "diagflat": ("interop.arranged.diagflat", 1, "v k"),
    "fix": ("trunc", 1, "x out"),
    "geomspace": ("interop.signals.geomspace", 2, "start stop num endpoint dtype axis"),
    "gradient": ("interop.signals.gradient", -1, "axis edge_order"),
    "histogram": ("interop.signals.histogram", 1, "a bins range=limits density weights"),
    "histogram_bin_edges": (
        "interop.signals.histogram_bin_edges",
        1,
        "a bins range=limits weights",
    ),
    "i0": ("interop.elementary.i0", 1, "x"),
    "intersect1d": ("interop.moved.intersect1d", 2, "ar1 ar2 assume_unique return_indices"),
    "ix_": ("interop.arranged.ix_", -1, ""),
    "linspace": (
        "interop.signals.linspace",
        2,
        "start stop num endpoint retstep dtype axis device!",
    ),
    "logspace": ("interop.signals.logspace", 2, "start stop num endpoint base dtype axis"),
    "partition": ("interop.moved.partition", 2, "a kth axis kind~ order!"),
    "piecewise": ("interop.applied.piecewise", -2, ""),
    "poly": ("interop.polynomials.poly", 1, "seq_of_zeros"),
    "polyadd": ("interop.polynomials.polyadd", 2, "a1 a2"),
    "polyder": ("interop.polynomials.polyder", 1, "p m"),
    "polydiv": ("interop.polynomials.polydiv", 2, "u v"),
    "polyfit": ("interop.polynomials.polyfit", 3, "x y deg rcond full w cov"),
    "polyint": ("interop.polynomials.polyint", 1, "p m k"),
    "polymul": ("interop.polynomials.polymul", 2, "a1 a2"),
    "polysub": ("interop.polynomials.polysub", 2, "a1 a2"),
    "real_if_close": ("interop.moved.real_if_close", 1, "a tol"),
    "roots": ("interop.polynomials.roots", 1, "p"),
    "setdiff1d": ("interop.moved.setdiff1d", 2, "ar1 ar2 assume_unique"),
    "setxor1d": ("interop.moved.setxor1d", 2, "ar1 ar2 assume_unique"),
    "sort_complex": ("interop.moved.sort_complex", 1, "a"),
    "trim_zeros": ("interop.moved.trim_zeros", 1, "filt trim axis"),
    "union1d": ("interop.moved.union1d", 2, "ar1 ar2"),
    "unwrap": ("interop.signals.unwrap", 1, "p discont axis period"),
    "vander": ("interop.polynomials.vander", 1, "x N increasing"),
    "linalg.lstsq": ("interop.products.lstsq", 2, "a b rcond"),
    "linalg.tensorinv": ("interop.products.tensorinv", 1, "a ind"),
    "linalg.tensorsolve": ("interop.products.tensorsolve", 2, "a b axes"),
    "append": ("interop.arranged.append", 2, "arr values axis"),
    "array_split": ("interop.arranged.array_split", 2, "ary indices_or_sections axis"),
    **{f"atleast_{n}d": (f"interop.arranged.atleast_{n}d", -1, "") for n in (1, 2, 3)},
    "column_stack": ("interop.arranged.column_stack", 1, "tup"),
    **{
        f"{name}stack": (f"interop.arranged.{name}stack", 1, "tup dtype! casting!") for name in "vh"
    },
    "dstack": ("interop.arranged.dstack", 1, "tup"),
    **{f"{name}split": (f"interop.arranged.{name}split", 2, "ary sections") for name in "vhd"},
    "ediff1d": ("interop.arranged.ediff1d", 1, "ary to_end to_begin"),
    "fliplr": ("interop.arranged.fliplr", 1, "m"),
    "flipud": ("interop.arranged.flipud", 1, "m"),
    "rot90": ("interop.arranged.rot90", 1, "m k axes"),
    "select": ("interop.arranged.select", 2, "condlist choicelist default"),
    "cross": ("interop.products.cross", 2, "a b axisa axisb axisc axis"),
    "inner": ("interop.products.inner", 2, "a b"),
    "vdot": ("interop.products.vdot", 2, "a b"),
    "angle": ("interop.elementary.angle", 1, "z deg"),
    "average": ("interop.elementary.average", 1, "a axis weights returned keepdims"),
    "corrcoef": ("interop.elementary.corrcoef", 1, "x y rowvar bias~ ddof~ dtype"),
    "cov": ("interop.elementary.cov", 1, "m y rowvar bias ddof fweights aweights dtype"),
    "interp": ("interop.elementary.interp", 3, "x xp fp left right period"),
    "polyval": ("interop.polynomials.polyval", 2, "p x"),
    "ptp": ("interop.elementary.ptp", 1, "a axis out keepdims"),
    "sinc": ("interop.elementary.sinc", 1, "x"),
    "trapezoid": ("interop.elementary.trapezoid", 1, "y x dx axis"),
    **{
        name: (
            f"interop.composed.{name}",
            2,
            "a q axis out overwrite_input! method!linear keepdims",
        )
        for name in ("percentile", "quantile", "nanpercentile", "nanquantile")
    },
    "diag": ("interop.composed.diag", 1, "v k"),
    "kron": ("interop.composed.kron", 2, "a b"),
    "median": ("interop.composed.median", 1, "a axis out overwrite_input! keepdims"),
    "nan_to_num": ("interop.composed.nan_to_num", 1, "x copy! nan posinf neginf"),
    "pad": ("pad", 2, "array pad_width mode!constant constant_values"),
    **{
        f"nan{name}": (f"interop.composed.nan{name}", 1, "a axis out keepdims")
        for name in ("argmax", "argmin", "max", "median", "min")
    },
    **{
        f"nan{name}": (f"interop.composed.nan{name}", 1, "a axis dtype out keepdims")
        for name in ("mean", "prod", "sum")
    },
    **{
        f"nan{name}": (
            f"interop.composed.nan{name}",
            1,
            "a axis dtype out ddof=correction keepdims",
        )
        for name in ("std", "var")
    },
    **{
        f"nancum{name}": (f"interop.composed.nancum{name}", 1, "a axis dtype out")
        for name in ("prod", "sum")
    },
}
# What describes a tensor or compares values: nothing that has a gradient.
DESCRIPTIONS = frozenset(
    (
        *("shape", "ndim", "size", "result_type", "can_cast", "iscomplexobj", "isrealobj"),
        *("allclose", "array_equal", "array_equiv", "array_repr", "array_str"),
        *(
            "array2string",
            "einsum_path",
            "may_share_memory",
            "shares_memory",
            "min_scalar_type",
            "common_type",
        ),
    )
)
# What gives positions or truth: nothing that has a gradient either, as Tensors.
POSITIONS = frozenset(
    (
        *("argpartition", "argwhere", "digitize", "flatnonzero", "iscomplex", "isclose"),
        *(
            "diag_indices_from",
            "isneginf",
            "isposinf",
            "isreal",
            "lexsort",
            "tril_indices_from",
            "triu_indices_from",
        ),
    )
)
# What gives those however it is called.
COUNTS = frozenset(
    (
        *("argmax", "argmin", "argsort", "count_nonzero", "isin", "linalg.matrix_rank"),
        *("nanargmax", "nanargmin", "searchsorted"),
    )
)
