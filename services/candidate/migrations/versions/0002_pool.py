"""Digests that are held until they are ready."""

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


def upgrade() -> None:
    """Add what digests need."""
    op.execute(DIGESTS)
