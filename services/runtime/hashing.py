"""The stable hash behind arms, experiments and sampling."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

_MANTISSA = 1 << 53


def unit_hash(salt: str, *parts: str) -> float:
    """A number in [0, 1), uniform over `parts` for each salt, the same on every machine.

    The first 53 bits of BLAKE2b over the length-prefixed salt and parts, so that ("a", "bc") and
    ("ab", "c") differ and every value is an exact float.
    """
    digest = blake2b(digest_size=8)
    for text in (salt, *parts):
        digest.update(_prefixed(text))
    return (int.from_bytes(digest.digest(), "little") >> 11) / _MANTISSA


def unit_hashes(names: Iterable[str], salt: str, *parts: str) -> npt.NDArray[np.float64]:
    """`unit_hash(salt, *parts, name)` of each name; what they share is hashed once."""
    shared = blake2b(digest_size=8)
    for text in (salt, *parts):
        shared.update(_prefixed(text))
    digests = []
    for name in names:
        digest = shared.copy()
        digest.update(_prefixed(name))
        digests.append(digest.digest())
    return (np.frombuffer(b"".join(digests), "<u8") >> 11) / _MANTISSA


def _prefixed(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data
