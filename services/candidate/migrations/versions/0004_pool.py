"""Digests that are held until they are ready; what repetitions are told by; withdrawals."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DIGESTS = """
ALTER TABLE events
    ADD COLUMN held boolean NOT NULL DEFAULT false,
    ADD COLUMN ready_time timestamptz,
    ADD COLUMN actor_sketch bytea NOT NULL DEFAULT '',
    ADD CONSTRAINT event_held_until CHECK (NOT held OR ready_time IS NOT NULL);
COMMENT ON COLUMN events.held IS
    'A digest that nobody has been told of yet; readers see it from ready_time on.';
CREATE INDEX events_held ON events (ready_time) WHERE held AND end_kind IS NULL;
"""


REPEATS = """
ALTER TABLE events ADD COLUMN content bytea;
COMMENT ON COLUMN events.content IS
    'Sketches of its words; only where its type has a window in which repetitions are suppressed.';
CREATE INDEX events_contents ON events (user_id, event_type, accept_time)
    WHERE content IS NOT NULL AND (end_kind IS NULL OR end_kind = 1);
"""


# An event that was sent keeps its end; until a channel has it, it can still be withdrawn.
WITHDRAWALS = """
CREATE TABLE withdrawals (
    subject smallint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    withdraw_time timestamptz NOT NULL,
    CONSTRAINT withdrawal_recorded_once PRIMARY KEY (subject, user_id, name),
    CONSTRAINT withdrawal_subject_known CHECK (subject BETWEEN 1 AND 3),
    CONSTRAINT withdrawal_of_a_user CHECK ((subject = 1) = (user_id <> ''))
);
COMMENT ON COLUMN withdrawals.subject IS
    '1: the event of this user and name; 2: all events about an item; 3: all of a campaign.';
CREATE INDEX withdrawals_age ON withdrawals (withdraw_time);
"""

# An event is written, changed once when it ends, and deleted after its retention; ends change what
# partial indexes hold, so that no update is heap-only. Vacuum keeps up when it comes early, not
# when a fifth of a table is dead.
CHURNING = [f"events_{number}" for number in range(16)] + ["arrivals", "ready"]
EARLY_VACUUM = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000"


def upgrade() -> None:
    """Add what digests, the suppression of repetitions and late withdrawals need."""
    op.execute(DIGESTS)
    op.execute(REPEATS)
    op.execute(WITHDRAWALS)
    for table in CHURNING:
        op.execute(f"ALTER TABLE {table} SET ({EARLY_VACUUM})")
