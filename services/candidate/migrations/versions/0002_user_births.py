"""Which transaction stored a user first."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# A user who was removed and is stored again under the same id is another one: the user index must
# not keep what it knew of the first.
BIRTHS = """
ALTER TABLE users ADD COLUMN born xid8 NOT NULL DEFAULT pg_current_xact_id();
"""


def upgrade() -> None:
    """Add it; those who are there count as stored now."""
    op.execute(BIRTHS)
