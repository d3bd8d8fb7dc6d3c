-- name: due_deliveries
-- Takes the oldest open deliveries that nobody holds, with their receivers as they are now. A row
-- that another lease has locked is passed over; one whose lease was committed meanwhile is checked
-- again and found not due.
WITH due AS MATERIALIZED (
    SELECT * FROM outbox
    WHERE end_time IS NULL AND due_time <= :now
    ORDER BY due_time, delivery_id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
SELECT
    due.day, due.delivery_id, due.decision_id, due.user_id, due.event_id, due.event_type,
    due.topic, due.campaign_id, due.critical, due.event, due.channel, due.locale, due.segment,
    due.experiment_group, due.copy_style, due.decide_time, due.expire_time, due.state,
    due.due_time, due.owner, due.attempt, due.variant_id, due.style, due.error, due.end_time,
    due.unreported,
    endpoint.address_key, endpoint.sealed_address,
    recipients.opt_ins, recipients.muted_channels, recipients.muted_topics,
    recipients.unsubscribed_topics, recipients.snooze_until, recipients.time_zone,
    recipients.quiet_start, recipients.quiet_end
FROM due
LEFT JOIN recipients ON recipients.user_id = due.user_id
LEFT JOIN LATERAL (
    SELECT address_key, sealed_address FROM endpoints
    WHERE endpoints.user_id = due.user_id AND endpoints.channel = due.channel
        AND NOT endpoints.unreachable
    ORDER BY address_key
    LIMIT 1
) AS endpoint ON true
ORDER BY due.due_time, due.delivery_id

-- name: lease_deliveries
UPDATE outbox
SET state = 'leased', unreported = unreported OR state = 'leased', owner = :owner,
    attempt = attempt + 1, due_time = :lease_end, address_key = given.address_key
FROM unnest(CAST(:days AS date[]), CAST(:delivery_ids AS text[]), CAST(:address_keys AS bytea[]))
    AS given (day, delivery_id, address_key)
WHERE outbox.day = given.day AND outbox.delivery_id = given.delivery_id
    AND outbox.day = ANY (CAST(:days AS date[]))

-- name: lock_deliveries
-- Deliveries by id, locked in one order for everyone.
SELECT
    day, delivery_id, decision_id, user_id, event_id, event_type, topic, campaign_id, critical,
    event, channel, locale, segment, experiment_group, copy_style, decide_time, expire_time, state,
    due_time, owner, attempt, address_key, variant_id, style, error, end_time,
    unreported
FROM outbox
WHERE day = ANY (CAST(:days AS date[])) AND delivery_id = ANY (CAST(:delivery_ids AS text[]))
ORDER BY day, delivery_id
FOR UPDATE

-- name: store_states
-- States after reports or late drops, and times after quiet hours.
UPDATE outbox
SET state = given.state, due_time = given.due_time, variant_id = given.variant_id,
    style = given.style, error = given.error, end_time = given.end_time
FROM unnest(
    CAST(:days AS date[]), CAST(:delivery_ids AS text[]), CAST(:states AS text[]),
    CAST(:due_times AS timestamptz[]), CAST(:variant_ids AS text[]), CAST(:styles AS text[]),
    CAST(:errors AS text[]), CAST(:end_times AS timestamptz[])
) AS given (day, delivery_id, state, due_time, variant_id, style, error, end_time)
WHERE outbox.day = given.day AND outbox.delivery_id = given.delivery_id
    AND outbox.day = ANY (CAST(:days AS date[]))

-- name: append_volume
INSERT INTO volume (day, experiment_group, segment, channel, kind, count, record_time)
SELECT given.*, CAST(:now AS timestamptz)
FROM unnest(
    CAST(:days AS date[]), CAST(:groups AS text[]), CAST(:segments AS text[]),
    CAST(:channels AS smallint[]), CAST(:kinds AS text[]), CAST(:counts AS integer[])
) AS given (day, experiment_group, segment, channel, kind, count)

-- name: lock_fatigue
-- In the order of user_id, as everyone who changes these rows.
SELECT user_id FROM fatigue
WHERE user_id = ANY (CAST(:user_ids AS text[]))
ORDER BY user_id
FOR UPDATE

-- name: give_caps_back
-- Takes deliveries out of their users' sends; one that is not there changes nothing.
UPDATE fatigue
SET (send_times, send_channels, send_deliveries) = (
    SELECT
        coalesce(array_agg(kept.send_time ORDER BY kept.position), '{}'),
        coalesce(array_agg(kept.channel ORDER BY kept.position), '{}'),
        coalesce(array_agg(kept.delivery_id ORDER BY kept.position), '{}')
    FROM unnest(fatigue.send_times, fatigue.send_channels, fatigue.send_deliveries)
        WITH ORDINALITY AS kept (send_time, channel, delivery_id, position)
    WHERE NOT kept.delivery_id = ANY (CAST(:delivery_ids AS text[]))
)
WHERE user_id = ANY (CAST(:user_ids AS text[]))
    AND send_deliveries && CAST(:delivery_ids AS text[])

-- name: lock_recipients
SELECT user_id FROM recipients
WHERE user_id = ANY (CAST(:user_ids AS text[]))
ORDER BY user_id
FOR UPDATE

-- name: mark_unreachable
UPDATE endpoints SET unreachable = true
FROM unnest(
    CAST(:user_ids AS text[]), CAST(:channels AS smallint[]), CAST(:address_keys AS bytea[])
) AS given (user_id, channel, address_key)
WHERE endpoints.user_id = given.user_id AND endpoints.channel = given.channel
    AND endpoints.address_key = given.address_key

-- name: refresh_reachable
-- The channels with an endpoint left that is not marked unreachable.
UPDATE recipients
SET reachable = (
    SELECT coalesce(bit_or(1 << (endpoints.channel - 1)), 0) FROM endpoints
    WHERE endpoints.user_id = recipients.user_id AND NOT endpoints.unreachable
)
WHERE user_id = ANY (CAST(:user_ids AS text[]))
