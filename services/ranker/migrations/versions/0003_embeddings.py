"""Content vectors hold an embedding of the text as well; all items are read again."""

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


def upgrade() -> None:
    """Forget the contents; the items' history stays. Snapshots of the features as they were can't
    be read any more, whatever their content."""
    op.execute(READ_AGAIN)
