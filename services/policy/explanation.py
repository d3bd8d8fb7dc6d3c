"""What a decision saw, kept small: a JSON header, then option columns and scores as arrays."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.policy.batch import Floats
from services.policy.rules import RULES
from services.policy.rules.removal import KEPT

LATER_RULES = ("arm", "threshold", "channel")
"""What follows the hard rules; options they turn down keep a probability."""
NOT_JUDGED = -1

_LENGTH = struct.Struct("<I")
_OPTION = np.dtype(
    [
        ("event", "<u2"),
        ("channel", "u1"),
        ("removed_by", "i1"),
        ("cause", "<i2"),
        ("utility", "<f8"),
        ("propensity", "<f8"),
    ]
)


@dataclass(frozen=True, slots=True)
class Option:
    """One (event, channel) as the decision saw it."""

    event_id: str
    event_type: str
    channel: int
    removed_by: str
    """The rule's name; empty: it was left."""
    detail: str
    utility: float
    threshold: float
    propensity: float
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RuleStep:
    """What one rule did, in the order of the table."""

    rule: str
    removed_count: int
    left_count: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Columns over one slot's options, and what they refer to."""

    event_ids: Sequence[str]
    event_types: Sequence[str]
    """Of each event."""
    heads: Sequence[int]
    scores: NDArray[np.float32]
    """[events, heads]; no columns for a ready event."""
    thresholds: Sequence[float | None]
    """Of push, e-mail and in-app; None when the slot's cell had none."""
    no_send_propensity: float
    removed_counts: Sequence[int]
    """By rule, RULES and then LATER_RULES."""
    details: Sequence[str]
    options: NDArray[np.void]
    """Made by `option_rows`; `cause` indexes `details`, KEPT where nothing removed it."""

    def pack(self) -> bytes:
        """The stored form."""
        header = json.dumps(
            [
                self.event_ids,
                self.event_types,
                self.heads,
                self.thresholds,
                self.no_send_propensity,
                self.removed_counts,
                self.details,
                len(self.options),
            ],
            separators=(",", ":"),
        ).encode()
        scores = self.scores.astype("<f4").tobytes()
        return b"".join((_LENGTH.pack(len(header)), header, self.options.tobytes(), scores))

    @staticmethod
    def unpack(stored: bytes) -> "Explanation":
        """Reads what `pack` wrote."""
        (length,) = _LENGTH.unpack_from(stored)
        start = _LENGTH.size + length
        header: list[Any] = json.loads(stored[_LENGTH.size : start])
        *fields, count = header
        event_ids, event_types, heads, thresholds, no_send, removed, details = fields
        options = np.frombuffer(stored, _OPTION, count, start)
        scores = np.frombuffer(stored, "<f4", offset=start + options.nbytes)
        table = scores.reshape(len(event_ids), -1) if len(heads) else scores.reshape(0, 0)
        return Explanation(
            event_ids, event_types, heads, table, thresholds, no_send, removed, details, options
        )

    def steps(self) -> list[RuleStep]:
        """The rules in their order."""
        left = len(self.options)
        found = []
        names = (*(rule.name for rule in RULES), *LATER_RULES)
        for name, removed in zip(names, self.removed_counts, strict=True):
            left -= removed
            found.append(RuleStep(name, removed, left))
        return found

    def listed(self) -> list[Option]:
        """The options, best first: those left by utility, then those removed by rule."""
        rows = [self._option(row) for row in self.options]
        order = {rule.name: position for position, rule in enumerate(RULES)}
        return sorted(
            rows,
            key=lambda one: (
                -order[one.removed_by] if one.removed_by else -len(order),
                -one.utility,
            ),
        )

    def _option(self, row: NDArray[np.void]) -> Option:
        event, channel = int(row["event"]), int(row["channel"])
        removed = int(row["removed_by"])
        threshold = self.thresholds[channel - 1]
        return Option(
            event_id=self.event_ids[event],
            event_type=self.event_types[event],
            channel=channel,
            removed_by="" if removed == KEPT else RULES[removed].name,
            detail="" if removed == KEPT else self.details[int(row["cause"])],
            utility=float(row["utility"]),
            threshold=0.0 if threshold is None or removed != KEPT else threshold,
            propensity=float(row["propensity"]),
            scores=tuple(self.scores[event].tolist()) if len(self.heads) else (),
        )


def option_rows(
    event: NDArray[np.int32],
    channel: NDArray[np.int32],
    removed_by: NDArray[np.int8],
    cause: NDArray[np.int32],
    utility: Floats,
    propensity: Floats,
) -> NDArray[np.void]:
    """The option columns of one slot, or of a whole batch to be cut by slot."""
    rows = np.empty(len(event), _OPTION)
    columns = (event, channel, removed_by, cause, utility, propensity)
    for name, column in zip(_OPTION.names or (), columns, strict=True):
        rows[name] = column
    return rows
