"""Bottom-k sketches: what is left of a large set is the k smallest hashes of its members.

From them follow the number of members (Bar-Yossef et al., "Counting Distinct Elements in a Data
Stream", RANDOM 2002) and how alike two sets are (Broder, "On the Resemblance and Containment of
Documents", SEQUENCES 1997). A set of fewer than k members is kept whole, so both are exact there.
"""

from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice

HASH_BYTES = 8
SPAN = 1 << (8 * HASH_BYTES)

Sketch = tuple[int, ...]
"""Hashes in [0, 2^64), ascending, each once."""


def sketch_of(members: Iterable[str], size: int) -> Sketch:
    """The sketch of a set: at most `size` hashes."""
    hashes = {_hash(member) for member in members}
    return tuple(islice(sorted(hashes), size))


def union(one: Sketch, other: Sketch, size: int) -> Sketch:
    """The sketch of both sets' union; exactly that which `sketch_of` makes of it."""
    return tuple(islice(sorted({*one, *other}), size))


def distinct_count(sketch: Sketch, size: int) -> int:
    """How many members the set has: exact below `size`, else an estimate with the relative standard
    error 1/√(size − 2). It never falls when the set grows."""
    if len(sketch) < size:
        return len(sketch)
    return max(size, round((size - 1) * SPAN / (sketch[-1] + 1)))


def resemblance(one: Sketch, other: Sketch, size: int) -> float:
    """Jaccard similarity of two sets, in [0, 1]: exact while their union has at most `size`
    members, else an estimate with a standard error of at most 1/(2√size). Two empty sets are the
    same."""
    both = union(one, other, size)
    if not both:
        return 1.0
    return len({*both} & {*one} & {*other}) / len(both)


def pack(sketch: Sketch) -> bytes:
    """Stored form: 8 bytes a hash."""
    return b"".join(value.to_bytes(HASH_BYTES, "big") for value in sketch)


def unpack(packed: bytes) -> Sketch:
    """A sketch from its stored form."""
    places = range(0, len(packed), HASH_BYTES)
    return tuple(int.from_bytes(packed[at : at + HASH_BYTES], "big") for at in places)


def _hash(member: str) -> int:
    return int.from_bytes(blake2b(member.encode(), digest_size=HASH_BYTES).digest(), "big")
