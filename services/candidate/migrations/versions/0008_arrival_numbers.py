"""Numbers of arrivals are taken from their sequence a thousand at a time."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The order of arrivals is that of their transactions; the number only has to grow within one, and a
# transaction has one connection.
CACHED = "ALTER SEQUENCE arrivals_seq_seq CACHE 1000"


def upgrade() -> None:
    """Change the sequence."""
    op.execute(CACHED)
