"""WordPiece over a small vocabulary, and over BERT's against the reference's numbers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.candidate.text.weights import VOCABULARY_FILE
from services.candidate.text.wordpiece import MOST_CHARACTERS, WordPiece

PIECES = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[", "]", ".", ","),
    *("play", "##ing", "##er", "the", "a", "##a", "sep", "東"),
)
NUMBERS = {piece: number for number, piece in enumerate(PIECES)}


def encoded(text: str, most: int = 16) -> str:
    return " ".join(PIECES[number] for number in WordPiece(NUMBERS, most).encode(text))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The player, playing.", "the play ##er , play ##ing ."),
        ("the xylophone", "the [UNK]"),
        ("playx the", "[UNK] the"),
        ("THE\tthe\nthe\u2003the", "the the the the"),
        ("th\u200be\x00 t\ufffdhe", "the the"),
        ("à A á", "a a a"),
        ("東東", "東 東"),
        ("[SEP]", "[ sep ]"),
        ("a" * 101 + " the", "[UNK] the"),
    ],
)
def test_words_are_cut_into_the_longest_known_pieces(text: str, pieces: str) -> None:
    assert encoded(text) == f"[CLS] {pieces} [SEP]"


@pytest.mark.parametrize("text", ["", " \t\n", "\x00\x01", "\u200b\u0301"])
def test_text_without_words_has_no_pieces(text: str) -> None:
    assert encoded(text) == ""


def test_a_long_text_is_cut_off() -> None:
    assert encoded("the " * 100, most=5) == "[CLS] the the the [SEP]"
    assert encoded("playing " * 100, most=5) == "[CLS] play ##ing play [SEP]"
    assert encoded(" " * MOST_CHARACTERS + "the") == ""


@given(st.text(max_size=300), st.integers(2, 12))
def test_any_text_is_within_the_limit(text: str, most: int) -> None:
    numbers = WordPiece(NUMBERS, most).encode(text)
    assert len(numbers) <= most
    assert not numbers or (numbers[0], numbers[-1]) == (2, 3)
    assert not {0, 2, 3} & set(numbers[1:-1])


# Made once with the reference implementation (the package tokenizers 0.23.3) from the
# tokenizer.json beside the vocabulary.
REFERENCE = [
    ("Unaffordable, isn't it?", [14477, 4246, 8551, 3085, 1010, 3475, 1005, 1056, 2009, 1029]),
    ("ÀÉÎ straße ΑΣ", [29347, 2072, 2358, 27807, 1155, 29733]),
    ("don't\x00 \u200bstop\ufffd\t\n now\x07", [2123, 1005, 1056, 2644, 2085]),
    ("東京タワー", [1879, 1755, 1709, 30262, 30265]),
    (
        "مرحبا بالعالم",
        [1295, 17149, 29820, 29816, 25573, 1271, 25573, 23673, 29830, 25573, 23673, 22192],
    ),
    ("שלום", [1266, 29799, 29792, 29800]),
    ("😀🎬", [100]),
    ("a_b-c…“q”", [1037, 1035, 1038, 1011, 1039, 1529, 1523, 1053, 1524]),
    ("한국어", [1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008]),
    ("①½ ﬁ ²", [100, 1984, 1082]),
    ("\U000e0041\u202eabc", [5925]),
]


@pytest.mark.parametrize(("text", "numbers"), REFERENCE)
def test_numbers_are_those_of_the_reference(
    model_folder: Path, text: str, numbers: list[int]
) -> None:
    tokenizer = WordPiece.read(model_folder / VOCABULARY_FILE, 256)
    assert tokenizer.encode(text) == [101, *numbers, 102]
