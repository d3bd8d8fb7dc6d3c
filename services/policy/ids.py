"""Ids of decisions and deliveries: functions of what they are for, so that a retry finds them."""

from datetime import UTC, date, datetime
from hashlib import blake2b


def day_of_slot(slot_time: datetime) -> date:
    """The UTC day under which a slot's decision is kept."""
    return slot_time.astimezone(UTC).date()


def decision_id(day: date, user_id: str, slot_id: str) -> str:
    """`YYYYMMDD.` and 20 hexadecimal digits."""
    return f"{day:%Y%m%d}.{_digest(user_id, slot_id)}"


def delivery_id(decision: str, channel: int) -> str:
    """The delivery of a decision in a channel; begins with the decision's day."""
    return f"{decision[:9]}{_digest(decision, str(channel))}"


def user_hash(user_id: str) -> int:
    """A signed 64-bit number for a user, to count users without naming them."""
    digest = blake2b(user_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=10)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "little") + data)
    return digest.hexdigest()
