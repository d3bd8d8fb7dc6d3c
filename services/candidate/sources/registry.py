"""The sources by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.collaborative import Collaborative
from services.candidate.sources.fresh import Fresh
from services.candidate.sources.popular import Popular
from services.candidate.sources.source import Predictor, Source


@dataclass(frozen=True, eq=False, slots=True)
class SourceInputs:
    """What a source may be built from."""

    catalogue: Catalogue
    predictor: Predictor
    now: datetime
    """Aware."""
    fresh_window: timedelta = timedelta(days=14)
    """How long after its creation an item is fresh."""


SOURCES: Mapping[str, Callable[[SourceInputs], Source]] = {
    Collaborative.name: lambda inputs: Collaborative(inputs.catalogue, inputs.predictor),
    Fresh.name: lambda inputs: Fresh(
        inputs.catalogue, inputs.predictor, inputs.now, inputs.fresh_window
    ),
    Popular.name: lambda inputs: Popular(inputs.catalogue, inputs.predictor),
}
"""Factories by name, in the order in which sources are asked."""


def make_sources(inputs: SourceInputs, names: Sequence[str] = ()) -> list[Source]:
    """The named sources in their registered order; all when none is named.

    Raises KeyError for a name that is not registered.
    """
    for name in names:
        SOURCES[name]
    return [make(inputs) for name, make in SOURCES.items() if not names or name in names]
