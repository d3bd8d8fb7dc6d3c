"""Vectors of texts: the reference's values, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.text import DIMENSIONS, TextEncoder

# Computed once by an independent forward pass in torch 2.13, float64, over the same weights: the
# vector's first five values, and the sum of all.
REFERENCE = {
    "Toy Story: Animation, Children's, Comedy, 1995.": (
        [-0.075543, 0.022134, 0.029371, -0.014458, -0.008353, -0.13668]
    ),
    "A toy cowboy fears that a space ranger takes his place.": (
        [0.001257, -0.022829, 0.005699, 0.018305, 0.041819, -0.19212]
    ),
    "The central bank left interest rates unchanged.": (
        [0.074507, 0.004189, -0.043496, 0.045397, 0.098071, 0.01933]
    ),
    "Monetary policy stays as it is, said the bank's governors.": (
        [0.003712, 0.006646, -0.033595, 0.08813, 0.054004, -0.03811]
    ),
    "Ça coûte combien, à Besançon ?": (
        [-0.005699, 0.077366, -0.085051, -0.030878, -0.079919, 0.32735]
    ),
    "東京 😀 tower": [0.048778, 0.073224, 0.038888, -0.001512, -0.0702, 0.2241],
}
TEXTS = list(REFERENCE)
HOSTILE = [
    "\x00\x01\x1f control",
    "😀" * 500,
    "ש\u202eלום مرحبا",
    "word " * 5000,
    "x" * 100_000,
    "e" + "\u0301\u0323" * 4000,
    "\ud800 lone surrogate",
    "[CLS] [SEP] [PAD] [MASK]",
]


def test_vectors_are_those_of_the_reference(encoder: TextEncoder) -> None:
    vectors = encoder.embed(TEXTS)
    found = np.column_stack([vectors[:, :5], vectors.sum(axis=1)])
    np.testing.assert_allclose(found, list(REFERENCE.values()), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors.dtype == np.float32


def test_like_texts_are_nearer_than_unlike_ones(encoder: TextEncoder) -> None:
    toy, cowboy, bank, money = encoder.embed(TEXTS[:4])
    assert toy @ cowboy > 0.25 > max(toy @ bank, toy @ money, cowboy @ bank, cowboy @ money)
    assert bank @ money > 0.5


def test_a_vector_is_the_same_alone_and_among_others(encoder: TextEncoder) -> None:
    others = [" ".join(TEXTS[: n % 5 + 1]) for n in range(20)]
    among = encoder.embed([*others, *TEXTS])[len(others) :]
    alone = np.concatenate([encoder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(among, alone, atol=1e-6)
    np.testing.assert_array_equal(encoder.embed(TEXTS), encoder.embed(TEXTS))


def test_only_the_beginning_of_a_long_text_counts(encoder: TextEncoder) -> None:
    begun = "word " * 254
    first, second = encoder.embed([begun, begun + "and something else altogether"])
    np.testing.assert_array_equal(first, second)


def test_text_without_words_has_the_zero_vector(encoder: TextEncoder) -> None:
    vectors = encoder.embed(["", " \n", "\x00", "word", "\u200b"])
    assert np.linalg.norm(vectors, axis=1).round(5).tolist() == [0, 0, 0, 1, 0]
    assert encoder.embed([]).shape == (0, DIMENSIONS)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_has_a_vector_and_disturbs_no_other(encoder: TextEncoder, text: str) -> None:
    hostile, other = encoder.embed([text, TEXTS[0]])
    assert np.linalg.norm(hostile) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(other, encoder.embed(TEXTS[:1])[0], atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_texts_have_finite_vectors_in_their_order(
    encoder: TextEncoder, texts: list[str]
) -> None:
    vectors = encoder.embed(texts)
    assert vectors.shape == (len(texts), DIMENSIONS)
    reversed_vectors = encoder.embed(texts[::-1])
    np.testing.assert_allclose(vectors, reversed_vectors[::-1], atol=1e-6)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(lengths, 1.0, atol=1e-5) | (lengths == 0.0))
