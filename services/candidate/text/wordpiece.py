"""WordPiece: text to the numbers that a BERT model reads, as the uncased BERT vocabulary wants it.

The rules are those of Google's BERT (Devlin et al., 2019; Schuster and Nakajima, 2012): accents and
case go, a punctuation mark or an ideograph is a word of its own, and a word is cut, from its left,
into the longest pieces that the vocabulary knows. Special tokens are never read from text: `[SEP]`
in a title is a word between brackets.
"""

import string
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

UNKNOWN = "[UNK]"
START = "[CLS]"
END = "[SEP]"
LONGEST_WORD = 100
"""Characters; a longer word is unknown."""
MOST_CHARACTERS = 16_384
"""What is read of a text; more than the most pieces ever hold of words in a human language."""
REMEMBERED_WORDS = 65_536

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_REMOVED = frozenset({"Cc", "Cf", "Co", "Cs", "Mn"})
"""Categories of control and format characters, private use, surrogates, and accents."""


class _Characters(dict[int, str]):
    """What becomes of each character of decomposed text, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        written = self[code] = _written(chr(code))
        return written


def _written(character: str) -> str:
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if category in _REMOVED or character == "\ufffd":
        return ""
    if character.isspace():
        return " "
    code = ord(character)
    alone = category.startswith("P") or character in string.punctuation
    if alone or any(first <= code <= last for first, last in _IDEOGRAPHS):
        return f" {character} "
    return character.lower()


class WordPiece:
    """A tokenizer over one vocabulary."""

    def __init__(self, vocabulary: Mapping[str, int], most_pieces: int) -> None:
        """`vocabulary`: number by piece, with [UNK], [CLS] and [SEP]; a piece within a word begins
        with ##. `most_pieces`: what a text is cut to, [CLS] and [SEP] included."""
        self._vocabulary = vocabulary
        self._unknown = (vocabulary[UNKNOWN],)
        self._start = vocabulary[START]
        self._end = vocabulary[END]
        self._most = most_pieces - 2
        self._longest_piece = max(map(len, vocabulary))
        self._characters = _Characters()
        self._pieces = lru_cache(REMEMBERED_WORDS)(self._cut)

    @classmethod
    def read(cls, path: Path, most_pieces: int) -> "WordPiece":
        """A tokenizer from a vocab.txt: one piece a line, numbered from 0."""
        pieces = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        return cls({piece: number for number, piece in enumerate(pieces)}, most_pieces)

    def encode(self, text: str) -> list[int]:
        """Numbers of the text's pieces between [CLS] and [SEP]; of empty text, none at all."""
        numbers = [self._start]
        for word in self._words(text):
            numbers += self._pieces(word)
            if len(numbers) > self._most:
                break
        if len(numbers) == 1:
            return []
        return [*numbers[: self._most + 1], self._end]

    def _words(self, text: str) -> list[str]:
        decomposed = unicodedata.normalize("NFD", text[:MOST_CHARACTERS])
        return decomposed.translate(self._characters).split()

    def _cut(self, word: str) -> tuple[int, ...]:
        if len(word) > LONGEST_WORD:
            return self._unknown
        numbers = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            end = min(len(word), start + self._longest_piece)
            while end > start and prefix + word[start:end] not in self._vocabulary:
                end -= 1
            if end == start:
                return self._unknown
            numbers.append(self._vocabulary[prefix + word[start:end]])
            start = end
        return tuple(numbers)
