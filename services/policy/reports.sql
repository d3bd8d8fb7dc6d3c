-- name: find_decisions
-- Decisions by id with their deliveries. Without a delivery the event type stands in for the topic.
SELECT
    decisions.day, decisions.decision_id, decisions.user_id, decisions.send, decisions.event_id,
    decisions.event_type, decisions.item_ids, decisions.channel, decisions.decide_time,
    decisions.segment, decisions.delivery_id,
    coalesce(outbox.topic, decisions.event_type) AS topic, outbox.attempt
FROM decisions
LEFT JOIN outbox
    ON outbox.day = decisions.day AND outbox.delivery_id = decisions.delivery_id
    AND outbox.day = ANY (CAST(:days AS date[]))
WHERE decisions.day = ANY (CAST(:days AS date[]))
    AND decisions.decision_id = ANY (CAST(:decision_ids AS text[]))

-- name: insert_engagements
-- Those that are new; inserted in one order, so that concurrent repeats wait and never deadlock.
INSERT INTO engagements (day, engagement_id, decision_id, user_id, kind, engage_time)
SELECT given.*
FROM unnest(
    CAST(:days AS date[]), CAST(:engagement_ids AS text[]), CAST(:decision_ids AS text[]),
    CAST(:user_ids AS text[]), CAST(:kinds AS smallint[]), CAST(:engage_times AS timestamptz[])
) AS given (day, engagement_id, decision_id, user_id, kind, engage_time)
ORDER BY given.day, given.engagement_id
ON CONFLICT (day, engagement_id) DO NOTHING
RETURNING day, engagement_id

-- name: insert_sessions
-- Those that are new.
INSERT INTO sessions (day, user_id, session_id, start_time, duration, app_deleted)
SELECT given.*
FROM unnest(
    CAST(:days AS date[]), CAST(:user_ids AS text[]), CAST(:session_ids AS text[]),
    CAST(:start_times AS timestamptz[]), CAST(:durations AS interval[]),
    CAST(:app_deleted AS boolean[])
) AS given (day, user_id, session_id, start_time, duration, app_deleted)
ORDER BY given.day, given.user_id, given.session_id
ON CONFLICT (day, user_id, session_id) DO NOTHING
RETURNING day, user_id, session_id

-- name: lock_activity
SELECT user_id, time_zone, activity, activity_day, hour_counts
FROM recipients
WHERE user_id = ANY (CAST(:user_ids AS text[]))
ORDER BY user_id
FOR UPDATE

-- name: store_activity
UPDATE recipients
SET activity = given.activity, activity_day = given.activity_day, hour_counts = given.hour_counts
FROM unnest(
    CAST(:user_ids AS text[]), CAST(:activities AS bigint[]), CAST(:activity_days AS date[]),
    CAST(:hour_counts AS bytea[])
) AS given (user_id, activity, activity_day, hour_counts)
WHERE recipients.user_id = given.user_id
    AND recipients.user_id = ANY (CAST(:user_ids AS text[]))

-- name: end_opt_ins
UPDATE recipients
SET opt_ins = opt_ins & ~given.disabled
FROM unnest(CAST(:user_ids AS text[]), CAST(:disabled AS smallint[])) AS given (user_id, disabled)
WHERE recipients.user_id = given.user_id
    AND recipients.user_id = ANY (CAST(:user_ids AS text[]))

-- name: unsubscribe
UPDATE recipients
SET unsubscribed_topics = (
    SELECT array_agg(DISTINCT topic ORDER BY topic)
    FROM (
        SELECT unnest(recipients.unsubscribed_topics) AS topic
        UNION ALL
        SELECT given.topic
        FROM unnest(CAST(:user_ids AS text[]), CAST(:topics AS text[])) AS given (user_id, topic)
        WHERE given.user_id = recipients.user_id
    ) AS topics
)
WHERE user_id = ANY (CAST(:user_ids AS text[]))
