"""Vectors of items' texts."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Made from items alone, so the table may be emptied at any time: it fills again. The transaction
# tells the user index that there is something new.
ITEM_VECTORS = """
CREATE TABLE item_vectors (
    item_id text COLLATE "C" CONSTRAINT item_vector_stored_once PRIMARY KEY
        REFERENCES items ON DELETE CASCADE,
    content_version bigint NOT NULL,
    model text NOT NULL,
    vector bytea NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON COLUMN item_vectors.content_version IS 'Of the item that the vector was made from.';
COMMENT ON COLUMN item_vectors.vector IS
    'Half-precision floats, little-endian; of length 1, or all 0 for an item without text.';
CREATE INDEX item_vectors_changes ON item_vectors (xid);
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(ITEM_VECTORS)
