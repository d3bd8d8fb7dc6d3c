"""What retention needs: how far the feed was dropped, and decided events by day."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FEED_HORIZON = """
-- The last entry of the feed that left with its day. A reader whose cursor is older has missed
-- entries, and is told so.
CREATE TABLE feed_horizon (
    only_row boolean NOT NULL DEFAULT true,
    xid xid8 NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT feed_horizon_pkey PRIMARY KEY (only_row),
    CONSTRAINT feed_horizon_only_row_check CHECK (only_row)
)
"""


def upgrade() -> None:
    """Add the feed's horizon and the index that finds old decided events."""
    op.execute(FEED_HORIZON)
    op.execute("CREATE INDEX decided_events_day ON decided_events (day)")
