"""Content vectors hold an embedding of the text too; items' history holds the sources' scores."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

READ_AGAIN = """
TRUNCATE item_contents;
UPDATE items SET content_ref = 0, content_version = 0, change = nextval('item_changes');
UPDATE cursors SET cursor = '' WHERE log = 'items';
"""


SCORES = """
ALTER TABLE items
    ADD COLUMN scored bigint NOT NULL DEFAULT 0,  -- sends whose event had a score of its source
    ADD COLUMN scores bigint NOT NULL DEFAULT 0;  -- their sum, in millionths of a log score
"""


def upgrade() -> None:
    """Forget the contents, so that all items are read again; the items' history stays. Snapshots of
    the features as they were can't be read any more, whatever their content."""
    op.execute(READ_AGAIN)
    op.execute(SCORES)
