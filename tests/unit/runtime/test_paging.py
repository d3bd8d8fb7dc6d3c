"""Page tokens come back as they went, and nobody else's are believed."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import InvalidArgument
from services.runtime.paging import decode, encode, read_moment

STORABLE = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@given(STORABLE, st.integers(-(2**62), 2**62))
def test_a_token_comes_back_as_it_went(text: str, number: int) -> None:
    assert decode(encode([text, number]), [str, int]) == (text, number)


def test_tokens_with_long_ids_are_not_longer_than_requests_allow() -> None:
    for id_ in ("\N{PILE OF POO}" * 128, "\u00a0" * 128):
        token = encode(["f" * 16, "f" * 24, 2**60, 2**31, "0x1.1000000000000p-126", id_])
        assert len(token) <= 1024
        assert (decode(token, [str, str, int, int, str, str]) or ())[-1] == id_


def test_an_empty_token_is_the_start() -> None:
    assert decode("", [str]) is None


def made(position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "rubbish",
        "é",
        made([1]),
        made(["a", "b"]),
        made({"a": 1}),
        made(["nul\x00"]),
        made(["\ud800"]),
    ],
)
def test_tokens_that_are_not_ours_are_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(token, [str])
    assert caught.value.fields[0].path == "page_token"


def test_numbers_that_no_row_has_are_refused() -> None:
    for number in (2**63, -(2**63) - 1, 10**30):
        with pytest.raises(InvalidArgument):
            decode(made([number]), [int])


@pytest.mark.parametrize(
    "text",
    ["", "soon", "2026-03-01T08:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"],
)
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_moment(text)
    assert caught.value.fields[0].path == "page_token"


@given(st.text(max_size=60))
def test_no_token_does_harm(token: str) -> None:
    with suppress(InvalidArgument):
        decode(token, [str, int])
