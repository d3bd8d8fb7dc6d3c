"""Which version shadows, and what came of it."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        -- The newest row says which version shadows.
        CREATE TABLE shadows (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            request_id text NOT NULL,
            version text NOT NULL,                   -- '': none
            share double precision NOT NULL,         -- of the Rank calls
            name_time timestamptz NOT NULL,
            CONSTRAINT shadows_request_id UNIQUE (request_id)
        );

        -- Sums over events, and over the calls whose events both models put in an order.
        CREATE TABLE shadow_scores (
            shadow bigint NOT NULL REFERENCES shadows (seq),
            served_version text NOT NULL,            -- whose scores were answered
            head smallint NOT NULL,                  -- position in HEADS
            events bigint NOT NULL,
            served double precision NOT NULL,
            shadowed double precision NOT NULL,
            difference double precision NOT NULL,    -- absolute
            calls bigint NOT NULL,
            correlation double precision NOT NULL,
            PRIMARY KEY (shadow, served_version, head)
        );
        """
    )
