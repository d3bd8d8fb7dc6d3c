"""Draws one of the live variants for a delivery."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.runtime.hashing import unit_hash

TEMPLATE = "template"


@dataclass(frozen=True, slots=True)
class LiveVariant:
    """A variant that may be chosen, with its words as shown."""

    variant_id: str
    style: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Draw:
    """The variant drawn (None: the plain template) and the probability it was drawn with."""

    variant: LiveVariant | None
    propensity: float


def draw(
    delivery_id: str,
    variants: Sequence[LiveVariant],
    style: str,
    template_share: float,
    salt: str,
) -> Draw:
    """One of the live variants or the template, always the same for one delivery.

    The template is always a variant and keeps at least `template_share`, in (0, 1]; the rest is
    shared evenly. A `style` leaves only variants of that style; without one of it, the template.
    """
    fitting = sorted(
        (v for v in variants if not style or v.style == style), key=lambda v: v.variant_id
    )
    share = max(template_share, 1 / (len(fitting) + 1))
    point = unit_hash(salt, delivery_id)
    if point < share or not fitting:
        return Draw(None, share if fitting else 1.0)
    position = int((point - share) / (1 - share) * len(fitting))
    return Draw(fitting[min(position, len(fitting) - 1)], (1 - share) / len(fitting))
