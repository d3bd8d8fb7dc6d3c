"""Stop switches: what is paused now. Asked by Decide and again by LeaseDeliveries."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a stop switch stops."""

    ALL = "all"
    CHANNEL = "channel"
    EVENT_TYPE = "event_type"
    CAMPAIGN = "campaign"


@dataclass(frozen=True, slots=True)
class StopSwitch:
    """One switch. `value`: nothing for all, else the channel's number, the event type's name or
    the campaign's id."""

    scope: Scope
    value: str = ""


@dataclass(frozen=True, slots=True)
class StopSwitches:
    """All switches that are closed now."""

    closed: frozenset[StopSwitch] = frozenset()

    @staticmethod
    def of(switches: Iterable[tuple[str, str]]) -> "StopSwitches":
        """From stored (scope, value) pairs."""
        return StopSwitches(frozenset(StopSwitch(Scope(scope), value) for scope, value in switches))

    def stopping(self, channel: int, event_type: str, campaign_id: str = "") -> StopSwitch | None:
        """The widest closed switch that covers such a message; None when it may go.

        Critical events are stopped too. An empty `campaign_id` belongs to no campaign.
        """
        if not self.closed:
            return None
        asked = [
            StopSwitch(Scope.ALL),
            StopSwitch(Scope.CHANNEL, str(channel)),
            StopSwitch(Scope.EVENT_TYPE, event_type),
        ]
        if campaign_id:
            asked.append(StopSwitch(Scope.CAMPAIGN, campaign_id))
        return next((switch for switch in asked if switch in self.closed), None)
