"""Updates from gradients of a scaled loss: a look at the gradients, then all else in one launch."""

from __future__ import annotations

from gradnet import binding

from .elementwise import brought, loop, put, scalar_code
from .program import THREADS, Program, definitions
from .reductions import tree

# The most blocks that look at gradients, and how many elements a thread has at least before.
BLOCKS, _TERMS = 132, 16


def parts_of(count: int) -> int:
    """How many blocks look at so many gradients."""
    return max(1, min(-(-count // (THREADS * _TERMS)), BLOCKS))


def _open() -> list[str]:
    return [
        f"shared = cuda.shared.array({THREADS}, np.uint8)",
        "t = cuda.threadIdx.x",
        "ok = np.uint8(1)",
    ]


def finite(bits: int, code: str, width: int) -> Program:
    """Whether the elements of `x` over numbers[0] are finite, a bool for each block.

    Parameters: x, fine, numbers, kept, n, count. `numbers (count,)` are copied to `kept`, from
    where the next launch reads them while it writes the new ones.
    """
    before = [*_open(), "inverse = T(1) / numbers[0]"]

    def body(lanes: int, place: str) -> list[str]:
        lines = brought("x", code, lanes)
        for k in range(lanes):
            # inf - inf and NaN - NaN are NaN.
            lines += [f"v = x_{k} * inverse", "ok = ok & np.uint8(v - v == T(0))"]
        return lines

    text = "def kernel(x, fine, numbers, kept, n, count):\n" + loop(width, "n", body, before)
    after = [
        *tree("all", "ok", "shared", "t", THREADS),
        "if t == 0:",
        "    fine[cuda.blockIdx.x] = ok",
        "i = cuda.grid(1)",
        "while i < count:",
        "    kept[i] = numbers[i]",
        "    i = i + cuda.gridsize(1)",
    ]
    text += "".join(f"    {line}\n" for line in after)
    number = f"{scalar_code(bits)}*"
    signature = (f"{code}*", "u1*", number, number, "i8", "i8")
    return Program("finite", text, signature, bits)


def scaled_update(
    source: binding.Source,
    advance: binding.Source,
    bits: int,
    code: str,
    arrays: int,
    count: int,
    width: int,
    held: bool = False,
) -> Program:
    """`p, *state = f(p, g * factor, *state, *scalars)` in place where all of `fine` hold.

    Parameters: arrays, fine, numbers, after, n, parts, scalars of `advance`: of (ok, *numbers,
    *scalars), to the new numbers, which go to `after`, the factor, and the scalars of `f`. With
    `held` its scalars are in one array of T in the device's memory. `count` numbers there are.
    """
    state = [f"a{k}" for k in range(arrays - 2)]
    every, kept = ["p", "g", *state], ["p", *state]
    given = [f"s{k}" for k in range(len(advance.arguments) - 1 - count)]
    before = [
        *_open(),
        "i = I(t)",
        "while i < parts:",
        "    ok = ok & np.uint8(fine[i] != 0)",
        f"    i = i + {THREADS}",
        *tree("all", "ok", "shared", "t", THREADS),
        *(f"s{k} = held[{k}]" for k in range(len(given)) if held),
        *(f"n{k} = numbers[{k}]" for k in range(count)),
    ]
    taken = ", ".join(["ok != 0", *(f"n{k}" for k in range(count)), *given])
    before += [f"made = {advance.name}({taken})", "if cuda.grid(1) == 0:"]
    before += [f"    after[{k}] = made[{k}]" for k in range(count)]
    scalars = [f"u{k}" for k in range(advance.results - count - 1)]
    before += [f"factor = made[{count}]"]
    before += [f"{u} = made[{count + 1 + k}]" for k, u in enumerate(scalars)]
    before += ["end = I(n) if ok != 0 else I(0)"]

    def body(lanes: int, place: str) -> list[str]:
        lines = []
        for name in every:
            lines += brought(name, code, lanes)
        for k in range(lanes):
            values = [f"p_{k}", f"g_{k} * factor", *(f"{name}_{k}" for name in state), *scalars]
            lines.append(f"new = {source.name}({', '.join(values)})")
            lines += [f"{name}_{k} = new[{r}]" for r, name in enumerate(kept)]
        return lines + [put(name, code, [f"{name}_{k}" for k in range(lanes)]) for name in kept]

    names = [*every, "fine", "numbers", "after", "n", "parts", *(["held"] if held else given)]
    number = scalar_code(bits)
    signature = [*[f"{code}*"] * arrays, "u1*", f"{number}*", f"{number}*", "i8", "i8"]
    signature += [f"{number}*"] if held else [number] * len(given)
    text = definitions(source, advance) + f"def kernel({', '.join(names)}):\n"
    return Program("scaled_update", text + loop(width, "end", body, before), signature, bits)
