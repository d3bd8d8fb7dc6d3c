-- name: lock_fatigue
-- Invariant 5: deciders of one user wait here for one another, always in the order of user_id.
SELECT user_id, send_times, send_channels, send_deliveries, arm_day, arm_likelihoods
FROM fatigue
WHERE user_id = ANY (CAST(:user_ids AS text[]))
ORDER BY user_id
FOR UPDATE

-- name: read_fatigue
-- The same for a dry run, which changes nothing and waits for nobody.
SELECT user_id, send_times, send_channels, send_deliveries, arm_day, arm_likelihoods
FROM fatigue
WHERE user_id = ANY (CAST(:user_ids AS text[]))

-- name: read_recipients
SELECT
    user_id, time_zone, locale, create_time, opt_ins, reachable, slot_hours, muted_channels,
    muted_topics, unsubscribed_topics, quiet_start, quiet_end, snooze_until, activity, activity_day
FROM recipients
WHERE user_id = ANY (CAST(:user_ids AS text[]))

-- name: stored_decisions
-- Answers given before for these slots. Here and below, LATERAL … OFFSET 0 looks each key up by its
-- index: the planner would rather read whole partitions once they are large.
SELECT given.user_id, given.slot_id, found.answer
FROM unnest(CAST(:days AS date[]), CAST(:user_ids AS text[]), CAST(:slot_ids AS text[]))
    AS given (day, user_id, slot_id)
CROSS JOIN LATERAL (
    SELECT answer FROM decisions
    WHERE decisions.day = given.day AND decisions.user_id = given.user_id
        AND decisions.slot_id = given.slot_id
    OFFSET 0
) AS found

-- name: stored_ready_decisions
-- Answers given before for these ready events, whatever slot time they had then.
SELECT given.user_id, given.slot_id, found.answer
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]), CAST(:slot_ids AS text[]))
    AS given (user_id, event_id, slot_id)
CROSS JOIN LATERAL (
    SELECT day, decision_id FROM decided_events
    WHERE decided_events.user_id = given.user_id AND decided_events.event_id = given.event_id
    OFFSET 0
) AS ended
CROSS JOIN LATERAL (
    SELECT answer FROM decisions
    WHERE decisions.day = ended.day AND decisions.decision_id = ended.decision_id
        AND decisions.slot_id = given.slot_id
    OFFSET 0
) AS found

-- name: decided_events
-- Which of these events have ended. Invariant 3. The event ids of a user come as one text, for
-- unnest would flatten arrays; ids hold no control characters.
SELECT given.user_id, found.event_id
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[])) AS given (user_id, event_ids)
CROSS JOIN LATERAL (
    SELECT event_id FROM decided_events
    WHERE decided_events.user_id = given.user_id
        AND decided_events.event_id = ANY (string_to_array(given.event_ids, chr(31)))
    OFFSET 0
) AS found

-- name: store_fatigue
-- Of locked users. Arrays of arrays come as text, for unnest would flatten them.
UPDATE fatigue
SET send_times = CAST(given.send_times AS timestamptz[]),
    send_channels = CAST(given.send_channels AS smallint[]),
    send_deliveries = CAST(given.send_deliveries AS text[]),
    arm_day = given.arm_day,
    arm_likelihoods = CAST(given.arm_likelihoods AS double precision[])
FROM unnest(
    CAST(:user_ids AS text[]), CAST(:send_times AS text[]), CAST(:send_channels AS text[]),
    CAST(:send_deliveries AS text[]), CAST(:arm_days AS date[]), CAST(:arm_likelihoods AS text[])
) AS given (user_id, send_times, send_channels, send_deliveries, arm_day, arm_likelihoods)
WHERE fatigue.user_id = given.user_id AND fatigue.user_id = ANY (CAST(:user_ids AS text[]))
