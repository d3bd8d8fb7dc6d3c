"""Relations between users and whom they follow; what each run's sources yielded."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A friendship has no direction; stored once, under the smaller id, it can't contradict itself.
RELATIONS = """
CREATE TABLE relations (
    user_id text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    target_id text COLLATE "C" NOT NULL,
    strength real NOT NULL,
    create_time timestamptz NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT relation_stored_once PRIMARY KEY (user_id, kind, target_id),
    CONSTRAINT relation_kind_known CHECK (kind BETWEEN 1 AND 2),
    CONSTRAINT relation_to_another CHECK (user_id <> target_id),
    CONSTRAINT relation_friends_once CHECK (kind <> 2 OR user_id < target_id),
    CONSTRAINT relation_strength_known CHECK (strength > 0 AND strength <= 1)
);
CREATE INDEX relations_target ON relations (target_id);
CREATE INDEX relations_changes ON relations (xid);
"""

# Counted with the marks of each chunk, so that a run that was cut off has counted what it did.
YIELDS = """
CREATE TABLE generation_yields (
    run_id bigint NOT NULL REFERENCES generation_runs ON DELETE CASCADE,
    source text COLLATE "C" NOT NULL,
    segment smallint NOT NULL,
    asked bigint NOT NULL,
    productive bigint NOT NULL,
    accepted bigint NOT NULL,
    accepted_squares bigint NOT NULL,
    skipped bigint NOT NULL,
    seconds double precision NOT NULL,
    CONSTRAINT yield_counted_once PRIMARY KEY (run_id, source, segment),
    CONSTRAINT yield_segment_known CHECK (segment BETWEEN 0 AND 3),
    CONSTRAINT yield_of_asked CHECK (productive <= asked)
);
COMMENT ON COLUMN generation_yields.productive IS
    'Asked users of whom at least one candidate became an event.';
COMMENT ON COLUMN generation_yields.accepted_squares IS
    'Sum over asked users of the square of their accepted candidates, for the variance.';
CREATE INDEX generation_runs_day ON generation_runs (day);
"""


def upgrade() -> None:
    """Create both."""
    op.execute(RELATIONS)
    op.execute(YIELDS)
