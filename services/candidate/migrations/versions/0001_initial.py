"""Event types, users, items, interactions, event pool, ready queue, campaigns, generation."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PARTITIONS = 16

# Rows that others follow by cursor carry the transaction that wrote them and a number within it:
# read in this order, and only below the oldest running transaction, none is ever skipped. Items and
# event types share one numbering; a changed row moves to the end, so the log of changes is as small
# as the tables themselves.
CATALOGUE = """
CREATE SEQUENCE change_seq;

CREATE TABLE event_types (
    name text COLLATE "C" CONSTRAINT event_type_named_once PRIMARY KEY,
    version bigint NOT NULL,
    body bytea NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL DEFAULT nextval('change_seq')
);
CREATE UNIQUE INDEX event_types_changes ON event_types (xid, seq);

CREATE TABLE users (
    user_id text COLLATE "C" CONSTRAINT user_stored_once PRIMARY KEY,
    body bytea NOT NULL,
    create_time timestamptz NOT NULL,
    pool_bound integer NOT NULL DEFAULT 0,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (fillfactor = 70);
COMMENT ON COLUMN users.pool_bound IS
    'At least the number of waiting events in the pool; counted exactly when it passes the limit.';
CREATE INDEX users_changes ON users (xid);

CREATE TABLE items (
    item_id text COLLATE "C" CONSTRAINT item_stored_once PRIMARY KEY,
    body bytea NOT NULL,
    create_time timestamptz NOT NULL,
    deleted boolean NOT NULL,
    content_version bigint NOT NULL DEFAULT 1,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL DEFAULT nextval('change_seq')
);
CREATE UNIQUE INDEX items_changes ON items (xid, seq);

CREATE TABLE interactions (
    user_id text COLLATE "C" NOT NULL,
    item_id text COLLATE "C" NOT NULL,
    interact_time timestamptz NOT NULL,
    weight real NOT NULL,
    kind text NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT interaction_stored_once PRIMARY KEY (user_id, item_id, interact_time)
);
CREATE INDEX interactions_changes ON interactions (xid);

-- Removals leave no row behind whose xid could tell of them.
CREATE TABLE erasures (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id() PRIMARY KEY,
    erase_time timestamptz NOT NULL
);
"""

# Invariant 1 (an event is accepted once) is the primary key: ended rows stay until their retention
# has passed. Invariant 10 (no way out without a recorded end) is the two triggers: only ended rows
# may be deleted, and the first end stands.
EVENTS = """
CREATE TABLE events (
    user_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    route smallint NOT NULL,
    digest bytea NOT NULL,
    body bytea NOT NULL,
    item_ids text[] NOT NULL,
    source text COLLATE "C" NOT NULL,
    campaign_id text COLLATE "C" NOT NULL,
    aggregation_key text COLLATE "C" NOT NULL,
    source_score double precision NOT NULL,
    accept_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    end_kind smallint,
    end_time timestamptz,
    end_reason text NOT NULL DEFAULT '',
    merged_into text NOT NULL DEFAULT '',
    decision_id text NOT NULL DEFAULT '',
    CONSTRAINT event_accepted_once PRIMARY KEY (user_id, event_id),
    CONSTRAINT event_route_known CHECK (route BETWEEN 1 AND 3),
    CONSTRAINT event_end_known CHECK (end_kind BETWEEN 1 AND 6),
    CONSTRAINT event_end_recorded CHECK ((end_kind IS NULL) = (end_time IS NULL)),
    CONSTRAINT event_merged_into CHECK (merged_into = '' OR end_kind = 2)
) PARTITION BY HASH (user_id);
CREATE INDEX events_pool ON events (user_id, source_score) WHERE end_kind IS NULL AND route = 3;
CREATE INDEX events_expiry ON events (expire_time) WHERE end_kind IS NULL;
CREATE INDEX events_retention ON events (end_time) WHERE end_kind IS NOT NULL;
CREATE INDEX events_campaign ON events (campaign_id) WHERE end_kind IS NULL AND campaign_id <> '';
-- Nearly all events are about one item, and a b-tree costs a publisher far less than a GIN index.
CREATE INDEX events_item ON events ((item_ids[1])) WHERE end_kind IS NULL;
CREATE INDEX events_items ON events USING gin (item_ids)
    WHERE end_kind IS NULL AND cardinality(item_ids) > 1;

CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'event % of % may not be changed', OLD.event_id, OLD.user_id
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_ARGV[0];
END $$;
CREATE TRIGGER event_leaves_with_end BEFORE DELETE ON events FOR EACH ROW
    WHEN (OLD.end_kind IS NULL) EXECUTE FUNCTION refuse_event_change('event_leaves_with_end');
CREATE TRIGGER event_first_end_stands BEFORE UPDATE ON events FOR EACH ROW
    WHEN (OLD.end_kind IS NOT NULL) EXECUTE FUNCTION refuse_event_change('event_first_end_stands');

CREATE TABLE ready (
    user_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    available_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    lease_owner text,
    CONSTRAINT ready_queued_once PRIMARY KEY (user_id, event_id)
) WITH (fillfactor = 70);
-- A lease moves available_time to its end, so that one index finds both due and abandoned events.
CREATE INDEX ready_available ON ready (available_time, seq);

CREATE TABLE arrivals (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    user_id text COLLATE "C" NOT NULL,
    arrive_time timestamptz NOT NULL,
    CONSTRAINT arrival_numbered_once PRIMARY KEY (xid, seq)
);
CREATE INDEX arrivals_user ON arrivals (user_id);
"""

WORK = """
CREATE TABLE requests (
    method text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    answer_time timestamptz NOT NULL,
    CONSTRAINT request_answered_once PRIMARY KEY (method, request_id)
);
CREATE INDEX requests_age ON requests (answer_time);

CREATE TABLE campaigns (
    campaign_id text COLLATE "C" CONSTRAINT campaign_launched_once PRIMARY KEY,
    request_id text COLLATE "C" NOT NULL CONSTRAINT campaign_requested_once UNIQUE,
    digest bytea NOT NULL,
    body bytea NOT NULL,
    state smallint NOT NULL CONSTRAINT campaign_state_known CHECK (state BETWEEN 1 AND 3),
    audience_size integer NOT NULL,
    event_count integer NOT NULL DEFAULT 0,
    next_position integer NOT NULL DEFAULT 0,
    launch_time timestamptz NOT NULL
);
CREATE INDEX campaigns_running ON campaigns (launch_time) WHERE state = 1;

-- The audience as it was at launch, so that a launch that was cut off goes on where it was.
CREATE TABLE campaign_members (
    campaign_id text COLLATE "C" NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    position integer NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    score double precision NOT NULL,
    CONSTRAINT campaign_member_once PRIMARY KEY (campaign_id, position)
);
CREATE INDEX campaign_members_user ON campaign_members (user_id);

CREATE TABLE generation_runs (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day date NOT NULL,
    shard integer NOT NULL,
    shard_count integer NOT NULL,
    sources text[] NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    user_count bigint NOT NULL DEFAULT 0,
    event_count bigint NOT NULL DEFAULT 0
);

-- Which sources have been asked for a user on a day; committed with the events they gave, so that a
-- run of the same day goes on where it was and adds nothing twice.
CREATE TABLE generated (
    day date NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    sources text[] NOT NULL,
    CONSTRAINT generated_once PRIMARY KEY (day, user_id)
);
CREATE INDEX generated_user ON generated (user_id);
"""


def upgrade() -> None:
    """Create everything."""
    op.execute(CATALOGUE)
    op.execute(EVENTS)
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE events_{number} PARTITION OF events "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        )
    op.execute(WORK)
