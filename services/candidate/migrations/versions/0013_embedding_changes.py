"""Embeddings of items' texts have a place in the order of changes."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NUMBERED = """
ALTER TABLE item_vectors ADD COLUMN seq bigint NOT NULL DEFAULT nextval('change_seq');
DROP INDEX item_vectors_changes;
CREATE UNIQUE INDEX item_vectors_changes ON item_vectors (xid, seq);
"""


def upgrade() -> None:
    """Number the rows, as changes of items are."""
    op.execute(NUMBERED)
