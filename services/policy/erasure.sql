-- name: lock_open_deliveries
-- Nobody leases these any more while the user is erased.
SELECT
    day, delivery_id, decision_id, user_id, event_id, event_type, topic, campaign_id, critical,
    event, channel, locale, segment, experiment_group, copy_style, decide_time, expire_time, state,
    due_time, owner, attempt, address_key, variant_id, style, error, end_time,
    unreported
FROM outbox
WHERE user_id = :user_id AND end_time IS NULL
ORDER BY day, delivery_id
FOR UPDATE

-- name: delete_recipient
DELETE FROM recipients WHERE user_id = :user_id

-- name: delete_endpoints
DELETE FROM endpoints WHERE user_id = :user_id

-- name: delete_fatigue
DELETE FROM fatigue WHERE user_id = :user_id

-- name: delete_decided_events
DELETE FROM decided_events WHERE user_id = :user_id

-- name: delete_decisions
DELETE FROM decisions WHERE user_id = :user_id

-- name: delete_outbox
DELETE FROM outbox WHERE user_id = :user_id

-- name: delete_engagements
DELETE FROM engagements WHERE user_id = :user_id

-- name: delete_sessions
DELETE FROM sessions WHERE user_id = :user_id

-- name: delete_feed
DELETE FROM feed WHERE user_id = :user_id

-- name: insert_tombstone
INSERT INTO erased_users (user_key, erase_time) VALUES (:user_key, :now)
ON CONFLICT (user_key) DO NOTHING

-- name: find_tombstones
SELECT user_key FROM erased_users WHERE user_key = ANY (CAST(:user_keys AS bytea[]))
