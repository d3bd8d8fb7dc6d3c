"""Recipients: storing them, their preferences, and the contexts that other services ask for."""

from collections.abc import Sequence
from datetime import datetime

from services.policy import preferences as rules
from services.policy import recipient_store
from services.policy.addresses import AddressBook
from services.policy.contexts import SlotRule, UserContext, context_of
from services.policy.experiment_store import ExperimentStore
from services.policy.preferences import PreferenceChange, Preferences, TooManyTopics
from services.policy.recipient_store import Recipient, StoredPreferences
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import FailedPrecondition, FieldError, NotFound


class Recipients:
    """Users as receivers; each call is one transaction."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        addresses: AddressBook,
        experiments: ExperimentStore,
        slots: SlotRule,
    ) -> None:
        self._database = database
        self._clock = clock
        self._addresses = addresses
        self._experiments = experiments
        self._slots = slots

    async def upsert(self, recipients: Sequence[Recipient]) -> None:
        """Store recipients, replacing what was there but preferences and activity. Of several for
        one user the last counts."""
        last = {recipient.user_id: recipient for recipient in recipients}
        if not last:
            return
        async with self._database.unit_of_work() as work:
            now = self._clock.now()
            await recipient_store.upsert(work, list(last.values()), self._addresses, now)
            await work.commit()

    async def contexts(self, user_ids: Sequence[str]) -> list[UserContext]:
        """Contexts in the order asked; unknown users are left out."""
        now = self._clock.now()
        async with self._database.read() as work:
            states = await recipient_store.read_states(work, user_ids)
            experiments = await self._experiments.current(work)
        return [
            context_of(states[user_id], now, experiments, self._slots)
            for user_id in user_ids
            if user_id in states
        ]

    async def put_preferences(self, user_id: str, change: PreferenceChange) -> Preferences:
        """Lay a change over a user's preferences; answers all of them.

        Turning a topic on again also ends its e-mail unsubscription. Raises NotFound, and
        FailedPrecondition when more topics would be muted than are kept.
        """
        async with self._database.unit_of_work() as work:
            stored = await recipient_store.lock_preferences(work, user_id)
            if stored is None:
                raise _unknown(user_id)
            try:
                after = rules.merged(stored.preferences, change)
            except TooManyTopics as error:
                problem = str(error)
                raise FailedPrecondition(
                    problem,
                    reason="TOO_MANY_TOPICS",
                    fields=[FieldError("preferences.muted_topics", problem)],
                ) from error
            wanted = {topic for topic, muted in change.topics.items() if not muted}
            changed = StoredPreferences(after, stored.unsubscribed_topics - wanted)
            await recipient_store.store_preferences(work, user_id, changed, self._clock.now())
            await work.commit()
        return after

    async def snooze(self, user_id: str, until_time: datetime) -> None:
        """Hold a user's notifications back until a time; one not ahead ends it. Raises NotFound."""
        now = self._clock.now()
        until = until_time if until_time > now else None
        async with self._database.unit_of_work() as work:
            if not await recipient_store.snooze(work, user_id, until, now):
                raise _unknown(user_id)
            await work.commit()


def _unknown(user_id: str) -> NotFound:
    return NotFound(f"no recipient {user_id!r}", reason="UNKNOWN_USER")
