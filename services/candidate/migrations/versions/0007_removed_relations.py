"""Relations that were removed: the user index follows them as it follows new ones."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

REMOVED_RELATIONS = """
CREATE TABLE removed_relations (
    user_id text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    target_id text COLLATE "C" NOT NULL,
    remove_time timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT relation_removed_once PRIMARY KEY (user_id, kind, target_id)
);
COMMENT ON TABLE removed_relations IS
    'What the user index still has to forget; a relation that is stored again may be here too.';
CREATE INDEX removed_relations_target ON removed_relations (target_id);
CREATE INDEX removed_relations_changes ON removed_relations (xid);
CREATE INDEX removed_relations_age ON removed_relations (remove_time);
"""


def upgrade() -> None:
    """Add the table. Code from before it marks a removal as an erasure, which is read as well."""
    op.execute(REMOVED_RELATIONS)
