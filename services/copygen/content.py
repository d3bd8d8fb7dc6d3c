"""What a template may say: the values of an event, and the right template for a reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.runtime.templates import BODY_LIMIT, TITLE_LIMIT, TemplateError, render


@dataclass(frozen=True, slots=True)
class Wording:
    """A template for one channel and locale; an empty locale is the fallback."""

    channel: int
    locale: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class ItemContent:
    """An item as templates see it: `{{ item.title }}`, `{{ item.attributes.year }}`."""

    item_id: str
    title: str
    text: str = ""
    item_type: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)

    def values(self) -> dict[str, object]:
        """The names a template may use below `item`."""
        return {
            "id": self.item_id,
            "title": self.title,
            "text": self.text,
            "type": self.item_type,
            "attributes": dict(self.attributes),
        }


def template_values(
    payload: Mapping[str, str],
    items: Sequence[ItemContent],
    actors: Sequence[str],
    actor_count: int,
    count: int,
    locale: str,
) -> dict[str, object]:
    """The names a template may use: the payload's own, and `item`, `items`, `actors` (at most 32),
    `actor_count` (of all), `count` (of events merged), `locale`, `payload`, which a payload can't
    take over: `{{ actors[0] }} and {{ actor_count | minus: 1 }} others liked {{ item.title }}`."""
    shown = [item.values() for item in items]
    return {
        **payload,
        "payload": dict(payload),
        "items": shown,
        "item": shown[0] if shown else {},
        "actors": list(actors),
        "actor_count": actor_count,
        "count": count,
        "locale": locale,
    }


def choose_wording(wordings: Sequence[Wording], channel: int, locale: str) -> Wording | None:
    """The channel's template in the reader's locale, else its language, else the fallback."""
    found = {w.locale.lower(): w for w in wordings if w.channel == channel}
    for wanted in locale_chain(locale):
        if wanted in found:
            return found[wanted]
    return None


def locale_chain(locale: str) -> list[str]:
    """`pt-BR` → `pt-br`, `pt`, and the fallback, which is empty."""
    parts = locale.lower().split("-") if locale else []
    return ["-".join(parts[:length]) for length in range(len(parts), 0, -1)] + [""]


def words(wording: Wording, values: Mapping[str, object]) -> tuple[str, str]:
    """Title and body as shown. Raises TemplateError, also for an empty title."""
    title = render(wording.title, values, TITLE_LIMIT)
    if not title:
        raise TemplateError("the title is empty with these values")
    return title, render(wording.body, values, BODY_LIMIT)
