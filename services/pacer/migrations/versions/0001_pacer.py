"""Slots, the arrivals cursor, the inbox, delivery attempts and erasures under way."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SLOT_PARTITIONS = 8

STATEMENTS = (
    # A closed slot stays as a record until the retention passes; its key keeps the same slot from
    # being opened, and so decided, a second time.
    """
    CREATE TABLE slots (
        user_id text COLLATE "C" NOT NULL,
        slot_id text COLLATE "C" NOT NULL,
        slot_time timestamptz NOT NULL,
        -- something came into the pool since the slot was leased, so the reader may have missed it
        arrived boolean NOT NULL DEFAULT false,
        lease_owner text,
        lease_until timestamptz,
        process_time timestamptz,
        decision_id text NOT NULL DEFAULT '',
        CONSTRAINT slots_decided_once PRIMARY KEY (user_id, slot_id),
        CONSTRAINT slots_lease CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
        CONSTRAINT slots_closed_unleased CHECK (process_time IS NULL OR lease_owner IS NULL)
    ) PARTITION BY HASH (user_id)
    """,
    *(
        f"""
        CREATE TABLE slots_{number} PARTITION OF slots
        FOR VALUES WITH (MODULUS {SLOT_PARTITIONS}, REMAINDER {number})
        WITH (fillfactor = 80)
        """
        for number in range(SLOT_PARTITIONS)
    ),
    # A user waits for one slot at most: several would decide the same pool twice.
    "CREATE UNIQUE INDEX slots_one_waiting ON slots (user_id) WHERE process_time IS NULL",
    "CREATE INDEX slots_due ON slots (slot_time) WHERE process_time IS NULL",
    "CREATE INDEX slots_closed ON slots (process_time) WHERE process_time IS NOT NULL",
    # One row: up to where candidate's arrivals have become slots.
    """
    CREATE TABLE arrivals (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        cursor text NOT NULL
    )
    """,
    "INSERT INTO arrivals (cursor) VALUES ('')",
    """
    CREATE TABLE inbox (
        -- the key makes a repeated delivery harmless
        delivery_id text COLLATE "C" CONSTRAINT inbox_delivered_once PRIMARY KEY,
        decision_id text NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        event_id text NOT NULL,
        event_type text NOT NULL,
        item_ids jsonb NOT NULL,
        channel text NOT NULL,
        title text NOT NULL,
        body text NOT NULL,
        variant_id text NOT NULL,
        deliver_time timestamptz NOT NULL,
        preview boolean NOT NULL
    )
    """,
    "CREATE INDEX inbox_by_user ON inbox (user_id, deliver_time DESC, delivery_id DESC)",
    "CREATE INDEX inbox_by_time ON inbox USING brin (deliver_time)",
    # The day is the delivery's, from its id, so that all attempts of one delivery lie together.
    """
    CREATE TABLE attempts (
        day date NOT NULL,
        delivery_id text COLLATE "C" NOT NULL,
        attempt integer NOT NULL CHECK (attempt > 0),
        user_id text COLLATE "C" NOT NULL,
        adapter text NOT NULL,
        attempt_time timestamptz NOT NULL,
        delivered boolean NOT NULL,
        error text NOT NULL,
        PRIMARY KEY (day, delivery_id, attempt)
    ) PARTITION BY RANGE (day)
    """,
    "CREATE INDEX attempts_by_user ON attempts (user_id)",
    # Users whose removal is not complete; the row goes with the last sweep.
    """
    CREATE TABLE erasures (
        user_id text COLLATE "C" PRIMARY KEY,
        done text[] NOT NULL DEFAULT '{}',
        -- when all services are done: work in hand then may still write once, so sweep after this
        sweep_time timestamptz
    )
    """,
)


def upgrade() -> None:
    """Create everything."""
    for statement in STATEMENTS:
        op.execute(statement)
