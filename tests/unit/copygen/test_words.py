"""Templates under hostile input, locales, and the draw between variants."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.copygen.content import (
    ItemContent,
    Wording,
    choose_wording,
    locale_chain,
    template_values,
    words,
)
from services.copygen.drawing import LiveVariant, draw
from services.runtime.templates import TemplateError, check, clean, render

VALUES = template_values(
    {"name": "Ada", "item": "taken over"},
    [ItemContent("50", "Star Wars (1977)", attributes={"genres": ["Action"]})],
    ["Ann", "Bo"],
    40,
    3,
    "en",
)


def test_values_reach_the_words() -> None:
    source = "{{ name }}: {{ item.title }}, {{ count }} of {{ actors | join: ' and ' }}"
    assert render(source, VALUES, 200) == "Ada: Star Wars (1977), 3 of Ann and Bo"
    others = "{{ actors.last }} and {{ actor_count | minus: 1 }} others liked {{ item.title }}"
    assert render(others, VALUES, 200) == "Bo and 39 others liked Star Wars (1977)"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in (1..1000000) %}x{% endfor %}",
        "{% for i in (1..400) %}" + "x" * 60 + "{% endfor %}",
        "{% include 'secrets' %}",
        "{{ 1 | divided_by: 0 }}",
    ],
)
def test_hostile_templates_fail_within_limits(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source, VALUES, 200)


@pytest.mark.parametrize("source", ["{{ name.__class__ }}", "{{ item.values }}", "{{ nobody }}"])
def test_templates_reach_nothing_but_the_values(source: str) -> None:
    assert render(source, VALUES, 200) == ""


def test_item_text_is_never_a_template() -> None:
    assert render("{{ a }}", {"a": "{{ name }}"}, 200) == "{{ name }}"


@pytest.mark.parametrize("source", ["{{ a", "{% if %}", "{{ a | nope }}", "{% nope %}"])
def test_wrong_templates_are_told(source: str) -> None:
    problem = check(source)
    assert problem
    assert "\n" not in problem


@given(st.text(max_size=300), st.integers(min_value=1, max_value=80))
def test_cleaned_text_is_one_plain_line_within_the_limit(text: str, limit: int) -> None:
    line = clean(text, limit)
    assert len(line) <= limit
    assert line == line.strip()
    assert not any(ord(character) < 32 or character in "\u202e\u2066\x7f" for character in line)


def test_the_nearest_locale_wins() -> None:
    wordings = [Wording(1, "", "fallback", ""), Wording(1, "pt", "pt", ""), Wording(2, "", "x", "")]
    assert locale_chain("pt-BR") == ["pt-br", "pt", ""]
    assert getattr(choose_wording(wordings, 1, "pt-BR"), "title", None) == "pt"
    assert getattr(choose_wording(wordings, 1, "de"), "title", None) == "fallback"
    assert choose_wording(wordings, 3, "de") is None


def test_an_empty_title_is_refused() -> None:
    with pytest.raises(TemplateError, match="title is empty"):
        words(Wording(1, "", "{{ nobody }}", "body"), VALUES)


def variants(count: int) -> list[LiveVariant]:
    return [LiveVariant(f"v{n}", "curious" if n % 2 else "plain", "t", "b") for n in range(count)]


def test_shares_are_those_stated() -> None:
    drawn = [draw(f"20260105.{n}", variants(3), "", 0.4, "salt") for n in range(20_000)]
    counts = Counter(d.variant.variant_id if d.variant else "template" for d in drawn)
    assert counts["template"] / 20_000 == pytest.approx(0.4, abs=0.02)
    for name in ("v0", "v1", "v2"):
        assert counts[name] / 20_000 == pytest.approx(0.2, abs=0.02)
    assert {round(d.propensity, 9) for d in drawn} == {0.4, 0.2}


@given(st.text(min_size=1, max_size=20), st.integers(0, 6), st.floats(0.01, 1))
def test_the_draw_is_stable_and_possible(delivery: str, count: int, share: float) -> None:
    first = draw(delivery, variants(count), "", share, "salt")
    assert first == draw(delivery, variants(count)[::-1], "", share, "salt")
    assert 0 < first.propensity <= 1


def test_a_style_leaves_only_its_variants() -> None:
    drawn = {
        d.variant.style
        for n in range(500)
        if (d := draw(str(n), variants(4), "curious", 0.1, "s")).variant
    }
    assert drawn == {"curious"}
    assert draw("d", variants(4), "unheard", 0.1, "s").propensity == 1.0
