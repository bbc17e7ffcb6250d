"""The loops that sort random keys: they tell where each has been."""

from __future__ import annotations

from .elementwise import Text, head

# From so many keys up to so many, this is faster than NumPy's sort by vector instructions.
FEW, MANY = 1 << 11, 1 << 13


def order() -> Text:
    """The order (n,) of `keys` (n,) of which hardly any agree in their first 2 * `bits` bits.

    n is at most 2**bits. `words` (n,) is memory to work in, and so is `counts` (2, 2**bits). A word
    is a key with its place for its last bits. They are sorted by two digits, then each gives way to
    a neighbour that is less; `order[0]` is -1 where that is not enough, or where two words differ
    in their places only.
    """
    text = """
def kernel(keys, bits, counts, words, order):
    first = uint64(64) - bits
    second = first - bits
    digit = uint64(counts.shape[1] - 1)
    for k in range(counts.shape[1]):
        counts[0, k] = uint32(0)
        counts[1, k] = uint32(0)
    for i in range(keys.size):
        key = keys[i]
        counts[0, int64(key >> second & digit)] += uint32(1)
        counts[1, int64(key >> first)] += uint32(1)
    lower = uint32(0)
    upper = uint32(0)
    for k in range(counts.shape[1]):
        count = counts[0, k]
        counts[0, k] = lower
        lower += count
        count = counts[1, k]
        counts[1, k] = upper
        upper += count
    for i in range(keys.size):
        word = keys[i] & (uint64(0xFFFFFFFFFFFFFFFF) ^ digit) | uint64(i)
        k = int64(word >> second & digit)
        place = counts[0, k]
        counts[0, k] = place + uint32(1)
        order[int64(place)] = int64(word)
    for i in range(keys.size):
        word = uint64(order[i])
        k = int64(word >> first)
        place = counts[1, k]
        counts[1, k] = place + uint32(1)
        words[int64(place)] = word
    most = words[0]
    before = uint64(0)
    wrong = 0
    for i in range(1, keys.size):
        word = words[i]
        less = word if word < most else most
        most = most if word < most else word
        wrong |= 1 if i > 1 and less >> bits <= before else 0
        before = less >> bits
        order[i - 1] = int64(less & digit)
    wrong |= 1 if most >> bits <= before else 0
    order[keys.size - 1] = int64(most & digit)
    if wrong != 0:
        order[0] = -1
"""
    return head(64) + text, "In(1, uint64), uint64, Out(2, uint32), Out(1, uint64), Out(1, int64)"
