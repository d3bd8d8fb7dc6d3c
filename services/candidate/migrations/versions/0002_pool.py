"""Digests that are held until they are ready; what repetitions are told by."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DIGESTS = """
ALTER TABLE events
    ADD COLUMN held boolean NOT NULL DEFAULT false,
    ADD COLUMN ready_time timestamptz,
    ADD COLUMN actor_sketch bytea NOT NULL DEFAULT '',
    ADD CONSTRAINT event_held_until CHECK (NOT held OR ready_time IS NOT NULL);
COMMENT ON COLUMN events.held IS
    'A digest that nobody has been told of yet; readers see it from ready_time on.';
CREATE INDEX events_held ON events (ready_time) WHERE held AND end_kind IS NULL;
"""


REPEATS = """
ALTER TABLE events ADD COLUMN content bytea;
COMMENT ON COLUMN events.content IS
    'Sketches of its words; only where its type has a window in which repetitions are suppressed.';
CREATE INDEX events_contents ON events (user_id, event_type, accept_time)
    WHERE content IS NOT NULL AND (end_kind IS NULL OR end_kind = 1);
"""


def upgrade() -> None:
    """Add what digests and the suppression of repetitions need."""
    op.execute(DIGESTS)
    op.execute(REPEATS)
