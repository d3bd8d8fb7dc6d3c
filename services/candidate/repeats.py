"""Whether an event says again what its user has had: the same items, or nearly the same words.

Nearly the same means that the words of the titles of its items, and the words of its payload, are
each at least `SAME_WORDS` alike (Jaccard similarity of the sets of words; see `sketches`).
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self
from unicodedata import normalize

from services.candidate.events import Event
from services.candidate.sketches import HASH_BYTES, Sketch, pack, resemblance, sketch_of, unpack

SAME_WORDS = 0.8
MOST_WORDS = 64
MOST_PAST = 256
"""Latest events of a user and type that a newcomer is compared with."""
REPEATED_ITEM = "REPEATED_ITEM"
REPEATED_CONTENT = "REPEATED_CONTENT"

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Content:
    """What an event is about and says."""

    item_ids: Collection[str]
    titles: Sketch
    """Words of its items' titles."""
    words: Sketch
    """Words of its payload."""

    @classmethod
    def of(cls, event: Event, titles: Mapping[str, str]) -> Self:
        """An event's content, with the titles of items by id, as far as they are known."""
        known = (titles.get(item, "") for item in event.item_ids)
        return cls(event.item_ids, _sketch(known), _sketch(event.payload.values()))

    @classmethod
    def unpacked(cls, item_ids: Collection[str], packed: bytes) -> Self:
        """Content from its stored form."""
        end = 1 + packed[0] * HASH_BYTES
        return cls(item_ids, unpack(packed[1:end]), unpack(packed[end:]))

    def packed(self) -> bytes:
        """Stored form of its words: a byte with the number of title hashes, and all hashes."""
        return bytes([len(self.titles)]) + pack(self.titles) + pack(self.words)

    @property
    def is_told_by_words(self) -> bool:
        """Whether its words tell it from others; those of an item without a title don't."""
        return bool(self.titles if self.item_ids else self.words)

    def says_the_same(self, other: "Content") -> bool:
        """Whether its words are nearly the same as another's."""
        return (
            resemblance(self.titles, other.titles, MOST_WORDS) >= SAME_WORDS
            and resemblance(self.words, other.words, MOST_WORDS) >= SAME_WORDS
        )


def repetition(content: Content, past: Sequence[Content]) -> str:
    """Why an event of this content is a repetition of what its user has had; empty if it isn't."""
    had = set(chain.from_iterable(one.item_ids for one in past))
    if content.item_ids and had.issuperset(content.item_ids):
        return REPEATED_ITEM
    if content.is_told_by_words and any(content.says_the_same(one) for one in past):
        return REPEATED_CONTENT
    return ""


def _sketch(texts: Iterable[str]) -> Sketch:
    return sketch_of(chain.from_iterable(map(_words, texts)), MOST_WORDS)


def _words(text: str) -> list[str]:
    """Words without regard to case, accents' encoding and punctuation."""
    return _WORD.findall(normalize("NFKC", text).casefold())
