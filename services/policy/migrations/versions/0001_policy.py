"""Recipients, decisions, outbox, volume, controller state and the feed.

Current state is hash-partitioned by user, logs are range-partitioned by UTC day. The partitions of
a day are made when first written to (`services.runtime.partitions`); every `day` is found again
from what a retry carries: the slot time, or the day that ids begin with.

Channels are the proto's numbers (1 push, 2 e-mail, 3 in-app). Sets of channels are bits: 1 push,
2 e-mail, 4 in-app.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

HASH_PARTITIONS = 8

RECIPIENTS = """
CREATE TABLE recipients (
    user_id text NOT NULL,
    time_zone text NOT NULL,
    locale text NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    opt_ins smallint NOT NULL DEFAULT 0,
    -- Channels with an endpoint that is not marked unreachable; kept in step with `endpoints` so
    -- that deciding needs no address.
    reachable smallint NOT NULL DEFAULT 0,
    -- Bit h: hour h of the local day. 0: the deployment's default hours.
    slot_hours integer NOT NULL DEFAULT 0,
    muted_channels smallint NOT NULL DEFAULT 0,
    muted_topics text[] NOT NULL DEFAULT '{}',
    -- Topics whose e-mails the user has unsubscribed from: a legal opt-out, critical or not.
    unsubscribed_topics text[] NOT NULL DEFAULT '{}',
    -- Local minutes of the day; both NULL: the deployment's default. Equal: no quiet hours.
    quiet_start smallint,
    quiet_end smallint,
    snooze_until timestamptz,
    -- Bit d: active on the UTC day `activity_day - d`, for 64 days. NULL day: never active.
    activity bigint NOT NULL DEFAULT 0,
    activity_day date,
    -- Activity by hour of the local week: 168 bytes, one count each; empty: none yet.
    hour_counts bytea NOT NULL DEFAULT '',
    CONSTRAINT recipients_pkey PRIMARY KEY (user_id),
    CONSTRAINT recipients_channels_check CHECK (
        opt_ins BETWEEN 0 AND 7 AND reachable BETWEEN 0 AND 7 AND muted_channels BETWEEN 0 AND 7
    ),
    CONSTRAINT recipients_slot_hours_check CHECK (slot_hours BETWEEN 0 AND 16777215),
    CONSTRAINT recipients_quiet_hours_check CHECK (
        (quiet_start IS NULL) = (quiet_end IS NULL)
        AND quiet_start BETWEEN 0 AND 1439 AND quiet_end BETWEEN 0 AND 1439
    )
) PARTITION BY HASH (user_id)
"""

ENDPOINTS = """
CREATE TABLE endpoints (
    user_id text NOT NULL,
    channel smallint NOT NULL,
    -- Keyed hash of the address: finds it again without decrypting.
    address_key bytea NOT NULL,
    -- AES-GCM of the address; context: user and channel.
    sealed_address bytea NOT NULL,
    unreachable boolean NOT NULL DEFAULT false,
    CONSTRAINT endpoints_pkey PRIMARY KEY (user_id, channel, address_key),
    CONSTRAINT endpoints_channel_check CHECK (channel BETWEEN 1 AND 3)
) PARTITION BY HASH (user_id)
"""

FATIGUE = """
-- Invariant 5: whoever decides for users, or gives a cap back, first locks their rows here in the
-- order of user_id, so deciders of one user wait for one another and never deadlock.
CREATE TABLE fatigue (
    user_id text NOT NULL,
    -- Non-critical sends of the cap windows, oldest first; three columns of one table.
    send_times timestamptz[] NOT NULL DEFAULT '{}',
    send_channels smallint[] NOT NULL DEFAULT '{}',
    -- A late drop removes its entry by delivery, so a cap is given back once.
    send_deliveries text[] NOT NULL DEFAULT '{}',
    -- What the decisions of one local day revealed of the user's arm: their likelihood under
    -- policy, random_send, greedy_send and greedy_no_send. Invariant 6.
    arm_day date,
    arm_likelihoods double precision[],
    CONSTRAINT fatigue_pkey PRIMARY KEY (user_id),
    CONSTRAINT fatigue_sends_check CHECK (
        cardinality(send_times) = cardinality(send_channels)
        AND cardinality(send_times) = cardinality(send_deliveries)
    )
) PARTITION BY HASH (user_id)
"""

DECIDED_EVENTS = """
-- Invariant 3: an event is sent to a user at most once, and a ready event is decided once whatever
-- slot time a retry names. A late drop leaves the row: the event has ended.
CREATE TABLE decided_events (
    user_id text NOT NULL,
    event_id text NOT NULL,
    decision_id text NOT NULL,
    -- Of the decision; old rows go when no retry can come any more.
    day date NOT NULL,
    -- false: a ready event that a rule ended for good.
    sent boolean NOT NULL,
    CONSTRAINT decided_events_pkey PRIMARY KEY (user_id, event_id)
) PARTITION BY HASH (user_id)
"""

DECISIONS = """
CREATE TABLE decisions (
    -- UTC day of slot_time; decision_id and delivery_id begin with it as YYYYMMDD.
    day date NOT NULL,
    user_id text NOT NULL,
    slot_id text NOT NULL,
    decision_id text NOT NULL,
    slot_time timestamptz NOT NULL,
    decide_time timestamptz NOT NULL,
    send boolean NOT NULL,
    event_id text NOT NULL DEFAULT '',
    event_type text NOT NULL DEFAULT '',
    item_ids text[] NOT NULL DEFAULT '{}',
    -- 0: no send.
    channel smallint NOT NULL DEFAULT 0,
    reason text NOT NULL,
    -- The proto's number.
    arm smallint NOT NULL,
    arm_propensity double precision NOT NULL,
    propensity double precision NOT NULL,
    -- The rule that forced it; empty: not forced.
    forced_by text NOT NULL DEFAULT '',
    utility double precision NOT NULL,
    threshold double precision NOT NULL,
    segment text NOT NULL,
    experiment_group text NOT NULL,
    rank_id text NOT NULL DEFAULT '',
    model_version text NOT NULL DEFAULT '',
    -- Empty: no send.
    delivery_id text NOT NULL DEFAULT '',
    -- The Decision message answered, so that a retry gets the same bytes.
    answer bytea NOT NULL,
    -- Options and rule steps: see `explanation.py`.
    explanation bytea NOT NULL,
    -- Invariant 2: a slot, and a ready event, is decided once.
    CONSTRAINT decisions_pkey PRIMARY KEY (day, user_id, slot_id),
    CONSTRAINT decisions_decision_id_key UNIQUE (day, decision_id),
    -- Invariant 6: the option taken has a probability in (0, 1].
    CONSTRAINT decisions_propensity_check CHECK (
        propensity > 0 AND propensity <= 1 AND arm_propensity > 0 AND arm_propensity <= 1
    ),
    CONSTRAINT decisions_send_check CHECK (
        send = (event_id <> '') AND send = (channel <> 0) AND send = (delivery_id <> '')
    )
) PARTITION BY RANGE (day)
"""

OUTBOX = """
CREATE TABLE outbox (
    -- The decision's day.
    day date NOT NULL,
    delivery_id text NOT NULL,
    decision_id text NOT NULL,
    user_id text NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    topic text NOT NULL,
    campaign_id text NOT NULL DEFAULT '',
    critical boolean NOT NULL,
    -- The Event message.
    event bytea NOT NULL,
    channel smallint NOT NULL,
    locale text NOT NULL,
    segment text NOT NULL,
    experiment_group text NOT NULL,
    copy_style text NOT NULL DEFAULT '',
    -- Volume of this delivery, whatever becomes of it, is booked on the UTC day of this time.
    decide_time timestamptz NOT NULL,
    expire_time timestamptz,
    -- `waiting`, `leased`, `delivered`, `dropped` (late, gave its cap back) or `dead`.
    state text NOT NULL DEFAULT 'waiting',
    -- Not to be leased before; while leased, when the lease ends.
    due_time timestamptz NOT NULL,
    owner text NOT NULL DEFAULT '',
    attempt integer NOT NULL DEFAULT 0,
    -- Endpoint of the last lease: the one that the channel may report as unreachable.
    address_key bytea,
    -- Invariant 7: words and variant never change once delivered.
    variant_id text NOT NULL DEFAULT '',
    style text NOT NULL DEFAULT '',
    -- Why it was dropped or given up, or the last attempt's error.
    error text NOT NULL DEFAULT '',
    end_time timestamptz,
    CONSTRAINT outbox_pkey PRIMARY KEY (day, delivery_id),
    CONSTRAINT outbox_state_check CHECK (
        state IN ('waiting', 'leased', 'delivered', 'dropped', 'dead')
        AND (end_time IS NULL) = (state IN ('waiting', 'leased'))
    )
) PARTITION BY RANGE (day)
"""

VOLUME = """
-- Append-only: a row for each batch, cell and kind, summed by the controller. No hot counters.
-- `decided` (into the outbox), `sent` (handed to its channel), `dropped` (late, or given up),
-- `critical` (a critical one handed to its channel). In flight: decided - sent - dropped.
-- Critical deliveries write only `critical`.
CREATE TABLE volume (
    day date NOT NULL,
    experiment_group text NOT NULL,
    segment text NOT NULL,
    channel smallint NOT NULL,
    kind text NOT NULL,
    count integer NOT NULL,
    record_time timestamptz NOT NULL,
    CONSTRAINT volume_kind_check CHECK (kind IN ('decided', 'sent', 'dropped', 'critical')),
    CONSTRAINT volume_count_check CHECK (count > 0)
) PARTITION BY RANGE (day)
"""

FEED = """
-- Read in the order (xid, seq) and only below the oldest open transaction, so that a reader's
-- cursor never passes an entry that commits later.
CREATE TABLE feed (
    -- UTC day on which the row was written.
    day date NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    -- To find a user's rows when the user is erased.
    user_id text NOT NULL,
    -- The FeedEntry message.
    entry bytea NOT NULL
) PARTITION BY RANGE (day)
"""

ENGAGEMENTS = """
CREATE TABLE engagements (
    -- The decision's day, from its id.
    day date NOT NULL,
    engagement_id text NOT NULL,
    decision_id text NOT NULL,
    user_id text NOT NULL,
    -- The proto's number.
    kind smallint NOT NULL,
    engage_time timestamptz NOT NULL,
    -- A report counts once, however often it comes.
    CONSTRAINT engagements_pkey PRIMARY KEY (day, engagement_id)
) PARTITION BY RANGE (day)
"""

SESSIONS = """
CREATE TABLE sessions (
    -- UTC day of start_time.
    day date NOT NULL,
    user_id text NOT NULL,
    session_id text NOT NULL,
    start_time timestamptz NOT NULL,
    duration interval,
    app_deleted boolean NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (day, user_id, session_id)
) PARTITION BY RANGE (day)
"""

CONTROL = """
CREATE TABLE targets (
    experiment_group text NOT NULL,
    segment text NOT NULL,
    channel smallint NOT NULL,
    per_day double precision NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT targets_pkey PRIMARY KEY (experiment_group, segment, channel),
    CONSTRAINT targets_per_day_check CHECK (per_day >= 0 AND per_day <= 1e12)
);

CREATE TABLE objectives (
    segment text NOT NULL,
    -- Three columns of one table: the proto's numbers of head and channel, and the weight.
    heads smallint[] NOT NULL,
    channels smallint[] NOT NULL,
    weights double precision[] NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT objectives_pkey PRIMARY KEY (segment),
    CONSTRAINT objectives_weights_check CHECK (
        cardinality(heads) = cardinality(weights) AND cardinality(channels) = cardinality(weights)
    )
);

CREATE TABLE thresholds (
    experiment_group text NOT NULL,
    segment text NOT NULL,
    channel smallint NOT NULL,
    -- NULL until the first offers show what utility the quantile is.
    threshold double precision,
    -- Utilities between which a share of decisions is randomised.
    band_low double precision,
    band_high double precision,
    -- State of the controller: see `controller.py`.
    quantile double precision NOT NULL,
    integral double precision NOT NULL,
    error double precision NOT NULL,
    step_time timestamptz,
    step_count bigint NOT NULL DEFAULT 0,
    -- Compare-and-set: a step is stored only on the version it was computed from.
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT thresholds_pkey PRIMARY KEY (experiment_group, segment, channel),
    -- The controller never stores what it could not compute.
    CONSTRAINT thresholds_finite_check CHECK (
        threshold BETWEEN -1e300 AND 1e300 AND quantile BETWEEN 0 AND 1
        AND (threshold IS NULL) = (band_low IS NULL) AND (threshold IS NULL) = (band_high IS NULL)
        AND integral BETWEEN -1e300 AND 1e300 AND error BETWEEN -1e300 AND 1e300
    )
)
"""

CONTROLLER_STEPS = """
CREATE TABLE controller_steps (
    day date NOT NULL,
    experiment_group text NOT NULL,
    segment text NOT NULL,
    channel smallint NOT NULL,
    step_count bigint NOT NULL,
    step_time timestamptz NOT NULL,
    -- `MOVED`, or why it held.
    outcome text NOT NULL,
    target_per_day double precision NOT NULL,
    paced_target double precision NOT NULL,
    volume bigint NOT NULL,
    offer_count integer NOT NULL,
    error double precision NOT NULL,
    integral double precision NOT NULL,
    quantile double precision NOT NULL,
    -- NULL while nothing was offered.
    threshold double precision,
    CONSTRAINT controller_steps_pkey
        PRIMARY KEY (day, experiment_group, segment, channel, step_count)
) PARTITION BY RANGE (day)
"""

OFFERS = """
-- What slots offered: a row for each batch and cell. The controller reads thresholds off the recent
-- ones, each user's newest counted once.
CREATE TABLE offers (
    -- UTC day of record_time.
    day date NOT NULL,
    experiment_group text NOT NULL,
    segment text NOT NULL,
    channel smallint NOT NULL,
    record_time timestamptz NOT NULL,
    -- Offers made; the arrays hold a sample of them by user.
    offer_count integer NOT NULL,
    user_hashes bigint[] NOT NULL,
    -- Utility of the slot's best option in the channel.
    utilities double precision[] NOT NULL,
    CONSTRAINT offers_sample_check CHECK (cardinality(user_hashes) = cardinality(utilities))
) PARTITION BY RANGE (day)
"""

CONFIGURATION = """
-- The whole configuration of experiments, one row for each change; the newest is in force.
CREATE TABLE experiment_versions (
    version bigint NOT NULL,
    -- List of experiments by name: see `experiments.py`.
    experiments jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    -- Two concurrent changes can't both follow the same version.
    CONSTRAINT experiment_versions_pkey PRIMARY KEY (version)
);

CREATE TABLE stop_switches (
    -- `all`, `channel`, `event_type` or `campaign`.
    scope text NOT NULL,
    -- Number of the channel, name of the type, or the campaign; empty for `all`.
    value text NOT NULL,
    reason text NOT NULL,
    pause_time timestamptz NOT NULL,
    CONSTRAINT stop_switches_pkey PRIMARY KEY (scope, value),
    CONSTRAINT stop_switches_scope_check CHECK (
        scope IN ('all', 'channel', 'event_type', 'campaign') AND (scope = 'all') = (value = '')
    )
);

-- Answers of configuration calls, so that a replayed request id gets the first answer.
CREATE TABLE requests (
    method text NOT NULL,
    request_id text NOT NULL,
    -- Hash of the request: the same id with other content is refused.
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT requests_pkey PRIMARY KEY (method, request_id)
);

-- Keyed hashes of erased users: late reports about them are refused.
CREATE TABLE erased_users (
    user_key bytea NOT NULL,
    erase_time timestamptz NOT NULL,
    CONSTRAINT erased_users_pkey PRIMARY KEY (user_key)
)
"""

INDEXES = """
-- Leasing reads the open deliveries in order and never meets ended ones.
CREATE INDEX outbox_open ON outbox (due_time, delivery_id) WHERE end_time IS NULL;
CREATE INDEX outbox_user ON outbox (user_id);
CREATE INDEX feed_user ON feed (user_id);
CREATE INDEX feed_order ON feed (xid, seq);
CREATE INDEX engagements_decision ON engagements (decision_id);
CREATE INDEX engagements_user ON engagements (user_id);
CREATE INDEX offers_time ON offers (record_time)
"""


def upgrade() -> None:
    """Create all tables."""
    for table, statement in (
        ("recipients", RECIPIENTS),
        ("endpoints", ENDPOINTS),
        ("fatigue", FATIGUE),
        ("decided_events", DECIDED_EVENTS),
    ):
        op.execute(statement)
        for index in range(HASH_PARTITIONS):
            op.execute(
                f"CREATE TABLE {table}_{index} PARTITION OF {table} "
                f"FOR VALUES WITH (MODULUS {HASH_PARTITIONS}, REMAINDER {index})"
            )
    for log in (DECISIONS, OUTBOX, VOLUME, FEED, ENGAGEMENTS, SESSIONS, CONTROLLER_STEPS, OFFERS):
        op.execute(log)
    for statements in (CONTROL, CONFIGURATION, INDEXES):
        op.execute(statements)
