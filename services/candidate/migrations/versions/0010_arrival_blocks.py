"""Arrivals of a transaction are stored in blocks of users."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# A row for each user, with an index by user for the rare removal of one, was a tenth of what
# publishing costs Postgres. Users of a block have the numbers up to `seq`, so that a cursor may
# stand inside it. A row from before becomes a block of one.
BLOCKS = """
ALTER TABLE arrivals ADD COLUMN user_ids text[] COLLATE "C";
UPDATE arrivals SET user_ids = ARRAY[user_id];
ALTER TABLE arrivals
    DROP COLUMN user_id,
    ALTER COLUMN user_ids SET NOT NULL,
    ADD CONSTRAINT arrival_numbers_apart CHECK (cardinality(user_ids) BETWEEN 1 AND 64);
COMMENT ON COLUMN arrivals.user_ids IS
    'The last has the number seq, those before it the numbers before; NULL: was removed.';
ALTER SEQUENCE arrivals_seq_seq INCREMENT BY 64 CACHE 100;
"""


def upgrade() -> None:
    """Change the table. Publishing by code from before it fails until that code is replaced."""
    op.execute(BLOCKS)
