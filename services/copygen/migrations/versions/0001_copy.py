"""Content copies, variants, choices, outcomes."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- Where copygen has read up to in another service's log.
        CREATE TABLE cursors (
            log text PRIMARY KEY,
            cursor text NOT NULL
        );

        -- Versioned copies of what candidate owns, as proto bytes.
        CREATE TABLE items (
            item_id text PRIMARY KEY,
            content_version bigint NOT NULL,
            item bytea NOT NULL
        );
        CREATE TABLE event_types (
            name text PRIMARY KEY,
            version bigint NOT NULL,
            event_type bytea NOT NULL
        );

        CREATE TABLE variants (
            variant_id text PRIMARY KEY,
            event_type text NOT NULL,
            item_id text NOT NULL,            -- '' for any item
            channel smallint NOT NULL,
            locale text NOT NULL,             -- '' for any locale
            style text NOT NULL,
            title text NOT NULL,
            body text NOT NULL,
            state smallint NOT NULL,          -- proto VariantState
            reward double precision NOT NULL,
            writer text NOT NULL,
            create_time timestamptz NOT NULL,
            seq bigint GENERATED ALWAYS AS IDENTITY
        );
        CREATE INDEX variants_by_key ON variants (event_type, item_id, channel, seq DESC);

        -- Who let a variant live or blocked it: never changed, only added to.
        CREATE TABLE reviews (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            variant_id text NOT NULL REFERENCES variants,
            state smallint NOT NULL,
            note text NOT NULL,
            review_time timestamptz NOT NULL
        );

        -- Invariant 7: the words of a delivery never change, so they are stored as shown.
        CREATE TABLE choices (
            day date NOT NULL,                -- the delivery id begins with it
            delivery_id text NOT NULL,
            user_id text NOT NULL,
            variant_id text NOT NULL,
            style text NOT NULL,
            title text NOT NULL,
            body text NOT NULL,
            propensity double precision NOT NULL,
            CONSTRAINT choices_propensity CHECK (propensity > 0 AND propensity <= 1),
            PRIMARY KEY (day, delivery_id)
        ) PARTITION BY RANGE (day);
        CREATE INDEX choices_by_user ON choices (user_id);

        -- What became of the words: a row for each send, marked by later engagements.
        CREATE TABLE outcomes (
            day date NOT NULL,                -- the decision id begins with it
            decision_id text NOT NULL,
            user_id text NOT NULL,
            variant_id text NOT NULL,
            style text NOT NULL,
            event_type text NOT NULL,
            send_time timestamptz,            -- empty while only an engagement has been read
            engaged boolean NOT NULL DEFAULT false,
            dismissed boolean NOT NULL DEFAULT false,
            unsubscribed boolean NOT NULL DEFAULT false,
            PRIMARY KEY (day, decision_id)
        ) PARTITION BY RANGE (day);
        CREATE INDEX outcomes_by_user ON outcomes (user_id);

        -- First answers of configuration calls, by request id (AIP-155).
        CREATE TABLE requests (
            request_id text PRIMARY KEY,
            digest bytea NOT NULL,
            answer bytea NOT NULL
        );
        """
    )
