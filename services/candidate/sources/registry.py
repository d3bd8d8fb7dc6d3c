"""The sources by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.candidate.sources.arrays import Matrix
from services.candidate.sources.catalogue import Catalogue
from services.candidate.sources.collaborative import Collaborative
from services.candidate.sources.following import Following
from services.candidate.sources.fresh import Fresh
from services.candidate.sources.friend_activity import FriendActivity
from services.candidate.sources.popular import Popular
from services.candidate.sources.relations import Relations
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
    friend_window: timedelta = timedelta(days=7)
    """For how long a friend's interaction counts."""
    relations: Relations | None = None
    """None: nobody follows anyone or has friends."""
    elsewhere: Matrix | None = None
    """What friends who are no users of the catalogue have liked lately; see `FriendActivity`."""

    @property
    def ties(self) -> Relations:
        """The relations."""
        return self.relations or Relations.build(self.catalogue)


SOURCES: Mapping[str, Callable[[SourceInputs], Source]] = {
    FriendActivity.name: lambda inputs: FriendActivity(
        inputs.catalogue, inputs.ties, inputs.now, inputs.friend_window, inputs.elsewhere
    ),
    Following.name: lambda inputs: Following(
        inputs.catalogue, inputs.ties, inputs.now, inputs.fresh_window
    ),
    Collaborative.name: lambda inputs: Collaborative(inputs.catalogue, inputs.predictor),
    Fresh.name: lambda inputs: Fresh(
        inputs.catalogue, inputs.predictor, inputs.now, inputs.fresh_window
    ),
    Popular.name: lambda inputs: Popular(inputs.catalogue, inputs.predictor),
}
"""Factories by name, in the order in which sources are asked; an item is kept for the first that
has it, so those that can say because of whom come first."""


def make_sources(inputs: SourceInputs, names: Sequence[str] = ()) -> list[Source]:
    """The named sources in their registered order; all when none is named.

    Raises KeyError for a name that is not registered.
    """
    for name in names:
        SOURCES[name]
    return [make(inputs) for name, make in SOURCES.items() if not names or name in names]
