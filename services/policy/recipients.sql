-- name: upsert_recipients
-- Replaces what was given and keeps preferences and activity. An unknown join time keeps the stored
-- one. Locks in the order of user_id.
INSERT INTO recipients (
    user_id, time_zone, locale, create_time, update_time, opt_ins, reachable, slot_hours
)
SELECT
    given.user_id, given.time_zone, given.locale, coalesce(given.create_time, :now), :now,
    given.opt_ins, given.reachable, given.slot_hours
FROM unnest(
    CAST(:user_ids AS text[]), CAST(:time_zones AS text[]), CAST(:locales AS text[]),
    CAST(:create_times AS timestamptz[]), CAST(:opt_ins AS smallint[]),
    CAST(:reachable AS smallint[]), CAST(:slot_hours AS integer[])
) AS given (user_id, time_zone, locale, create_time, opt_ins, reachable, slot_hours)
ORDER BY given.user_id
ON CONFLICT (user_id) DO UPDATE SET
    time_zone = excluded.time_zone,
    locale = excluded.locale,
    create_time = CASE
        WHEN recipients.user_id = ANY (CAST(:without_create_time AS text[]))
        THEN recipients.create_time ELSE excluded.create_time
    END,
    update_time = excluded.update_time,
    opt_ins = excluded.opt_ins,
    reachable = excluded.reachable,
    slot_hours = excluded.slot_hours

-- name: delete_other_endpoints
-- Endpoints of these users that are not among those given.
DELETE FROM endpoints
WHERE user_id = ANY (CAST(:all_user_ids AS text[]))
    AND NOT EXISTS (
        SELECT FROM unnest(
            CAST(:user_ids AS text[]), CAST(:channels AS smallint[]),
            CAST(:address_keys AS bytea[])
        ) AS given (user_id, channel, address_key)
        WHERE given.user_id = endpoints.user_id AND given.channel = endpoints.channel
            AND given.address_key = endpoints.address_key
    )

-- name: upsert_endpoints
-- An address that is there already keeps its sealed form.
INSERT INTO endpoints (user_id, channel, address_key, sealed_address, unreachable)
SELECT given.*
FROM unnest(
    CAST(:user_ids AS text[]), CAST(:channels AS smallint[]), CAST(:address_keys AS bytea[]),
    CAST(:sealed_addresses AS bytea[]), CAST(:unreachable AS boolean[])
) AS given (user_id, channel, address_key, sealed_address, unreachable)
ON CONFLICT (user_id, channel, address_key) DO UPDATE SET unreachable = excluded.unreachable
WHERE endpoints.unreachable <> excluded.unreachable

-- name: insert_fatigue
-- The row that deciders of a user lock.
INSERT INTO fatigue (user_id)
SELECT user_id FROM unnest(CAST(:user_ids AS text[])) AS given (user_id)
ORDER BY user_id
ON CONFLICT (user_id) DO NOTHING

-- name: read_states
-- What contexts are made of.
SELECT user_id, time_zone, locale, create_time, activity, activity_day, hour_counts, slot_hours
FROM recipients
WHERE user_id = ANY (CAST(:user_ids AS text[]))

-- name: lock_preferences
SELECT muted_topics, muted_channels, quiet_start, quiet_end, unsubscribed_topics
FROM recipients
WHERE user_id = :user_id
FOR UPDATE

-- name: store_preferences
UPDATE recipients
SET muted_topics = CAST(:muted_topics AS text[]), muted_channels = :muted_channels,
    quiet_start = :quiet_start, quiet_end = :quiet_end,
    unsubscribed_topics = CAST(:unsubscribed_topics AS text[]), update_time = :now
WHERE user_id = :user_id

-- name: snooze
UPDATE recipients
SET snooze_until = CAST(:until_time AS timestamptz), update_time = :now
WHERE user_id = :user_id
RETURNING user_id
