"""Feature states, items, snapshots, what became of decisions, promotions."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PARTITIONS = 16


def upgrade() -> None:
    op.execute(
        """
        -- Where the ranker has read up to in another service's log. Whoever writes items holds the
        -- row 'items', so that their change numbers commit in order.
        CREATE TABLE cursors (
            log text PRIMARY KEY,
            cursor text NOT NULL
        );
        INSERT INTO cursors (log, cursor) VALUES ('feed', ''), ('items', '');

        -- Never reused, so that a cached state is known to be the stored one by its version.
        CREATE SEQUENCE feature_state_versions;
        CREATE TABLE feature_states (
            user_id text NOT NULL PRIMARY KEY,
            version bigint NOT NULL DEFAULT nextval('feature_state_versions'),
            state bytea NOT NULL
        ) PARTITION BY HASH (user_id);

        CREATE SEQUENCE item_changes;
        CREATE TABLE items (
            item_key bigint PRIMARY KEY,
            content_ref bigint NOT NULL DEFAULT 0,   -- 0: content not known yet
            content_version bigint NOT NULL DEFAULT 0,
            sends bigint NOT NULL DEFAULT 0,
            opens bigint NOT NULL DEFAULT 0,
            change bigint NOT NULL DEFAULT nextval('item_changes')
        );
        CREATE UNIQUE INDEX items_by_change ON items (change);
        -- Every version that a snapshot may refer to.
        CREATE TABLE item_contents (
            content_ref bigint PRIMARY KEY,
            item_id text NOT NULL,
            content_version bigint NOT NULL,
            vector bytea NOT NULL                    -- 64 little-endian floats
        );

        -- Invariant 8: features as they were when Rank answered.
        CREATE TABLE snapshots (
            day date NOT NULL,                       -- the rank id begins with it
            rank_id text NOT NULL,
            user_id text NOT NULL,
            snapshot_time timestamptz NOT NULL,
            model_version text NOT NULL,
            features bytea NOT NULL,
            event_ids text[] NOT NULL,
            events bytea NOT NULL,
            PRIMARY KEY (day, user_id, rank_id)
        ) PARTITION BY RANGE (day);

        CREATE TABLE decisions (
            day date NOT NULL,                       -- the decision id begins with it
            decision_id text NOT NULL,
            user_id text NOT NULL,
            decide_time timestamptz NOT NULL,
            rank_id text NOT NULL,                   -- '': not ranked
            event_id text NOT NULL,                  -- '': nothing was sent
            channel smallint NOT NULL,               -- 0: nothing was sent
            push_disabled boolean NOT NULL,
            PRIMARY KEY (day, user_id, decision_id)
        ) PARTITION BY RANGE (day);

        -- What became of decisions: engagements by kind, and 0 for a delivery that never went out.
        CREATE TABLE outcomes (
            day date NOT NULL,                       -- of the decision
            decision_id text NOT NULL,
            outcome_id text NOT NULL,
            user_id text NOT NULL,
            kind smallint NOT NULL,
            outcome_time timestamptz NOT NULL,
            PRIMARY KEY (day, user_id, decision_id, outcome_id)
        ) PARTITION BY RANGE (day);

        CREATE TABLE sessions (
            day date NOT NULL,                       -- of the session
            session_id text NOT NULL,
            user_id text NOT NULL,
            session_time timestamptz NOT NULL,
            app_deleted boolean NOT NULL,
            PRIMARY KEY (day, user_id, session_id)
        ) PARTITION BY RANGE (day);

        -- The newest row is the model that serves.
        CREATE TABLE promotions (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            request_id text NOT NULL,
            version text NOT NULL,
            promote_time timestamptz NOT NULL,
            CONSTRAINT promotions_request_id UNIQUE (request_id)
        );
        """
    )
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE feature_states_{number} PARTITION OF feature_states "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        )
