"""The stable hash behind arms, experiments and sampling."""

from hashlib import blake2b

_MANTISSA = 1 << 53


def unit_hash(salt: str, *parts: str) -> float:
    """A number in [0, 1), uniform over `parts` for each salt, the same on every machine.

    The first 53 bits of BLAKE2b over the length-prefixed salt and parts, so that ("a", "bc") and
    ("ab", "c") differ and every value is an exact float.
    """
    digest = blake2b(digest_size=8)
    for text in (salt, *parts):
        data = text.encode()
        digest.update(len(data).to_bytes(4, "little"))
        digest.update(data)
    return (int.from_bytes(digest.digest(), "little") >> 11) / _MANTISSA
