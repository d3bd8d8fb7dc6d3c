"""Interactions are found by the recommendation that they name."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# Only of those that name one: most interactions follow none, and pay nothing.
NAMING = """
CREATE INDEX interactions_naming ON interactions (recommendation_id)
    WHERE recommendation_id <> '';
"""


def upgrade() -> None:
    """Add the index. Interactions aren't stored while it is made."""
    op.execute(NAMING)
