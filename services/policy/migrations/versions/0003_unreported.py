"""Deliveries of which a lease ran out without a report."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UNREPORTED = """
ALTER TABLE outbox ADD COLUMN unreported boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN outbox.unreported IS
    'A lease before the last one ran out without a report: the channel may have taken it.';
"""


def upgrade() -> None:
    """Keep it beside the state, which the next lease and the next report change."""
    op.execute(UNREPORTED)
