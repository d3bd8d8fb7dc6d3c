-- name: read_cursor
SELECT cursor FROM arrivals

-- name: move_cursor
-- Compare and set: of two pacers that read the same arrivals one finds no row. The other waits here
-- until the first has committed.
UPDATE arrivals SET cursor = :after WHERE cursor = :before RETURNING 1

-- name: flag_waiting
-- Tells the waiting slots of users, in user order, that something has come; their users.
WITH waiting AS (
    SELECT user_id, slot_id FROM slots
    WHERE user_id = ANY(CAST(:user_ids AS text[])) AND process_time IS NULL
    ORDER BY user_id
    FOR UPDATE
)
UPDATE slots SET arrived = true
FROM waiting
WHERE slots.user_id = waiting.user_id AND slots.slot_id = waiting.slot_id
    AND slots.process_time IS NULL
RETURNING slots.user_id

-- name: open_slots
-- For each user the earliest offered slot that has not been opened before. A user who waits
-- already keeps the slot there is.
INSERT INTO slots (user_id, slot_id, slot_time)
SELECT DISTINCT ON (offered.user_id) offered.user_id, offered.slot_id, offered.slot_time
FROM unnest(
    CAST(:user_ids AS text[]), CAST(:slot_ids AS text[]), CAST(:slot_times AS timestamptz[])
) AS offered (user_id, slot_id, slot_time)
WHERE NOT EXISTS (
    SELECT FROM slots AS past
    WHERE past.user_id = offered.user_id AND past.slot_id = offered.slot_id
)
ORDER BY offered.user_id, offered.slot_time
ON CONFLICT DO NOTHING

-- name: lease_due
-- The oldest due slots that nobody holds. The flag is cleared: what came before this moment is in
-- the pool that the leaser reads next.
WITH due AS (
    SELECT user_id, slot_id FROM slots
    WHERE process_time IS NULL AND slot_time <= :now
        AND (lease_until IS NULL OR lease_until <= :now)
    ORDER BY slot_time
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE slots SET lease_owner = :owner, lease_until = :until, arrived = false
FROM due
WHERE slots.user_id = due.user_id AND slots.slot_id = due.slot_id AND slots.process_time IS NULL
RETURNING slots.user_id, slots.slot_id, slots.slot_time

-- name: lease_users
-- The waiting slots of these users that nobody holds, due or not.
WITH named AS (
    SELECT user_id, slot_id FROM slots
    WHERE user_id = ANY(CAST(:user_ids AS text[])) AND process_time IS NULL
        AND (lease_until IS NULL OR lease_until <= :now)
    ORDER BY user_id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE slots SET lease_owner = :owner, lease_until = :until, arrived = false
FROM named
WHERE slots.user_id = named.user_id AND slots.slot_id = named.slot_id
    AND slots.process_time IS NULL
RETURNING slots.user_id, slots.slot_id, slots.slot_time

-- name: release_slots
UPDATE slots SET lease_owner = NULL, lease_until = NULL
WHERE lease_owner = :owner AND process_time IS NULL AND user_id = ANY(CAST(:user_ids AS text[]))

-- name: close_slots
-- Closes leased slots, in user order; a slot whose lease another pacer has taken over is left to
-- it. Answers whether something came while the slot was held.
WITH ended AS (
    SELECT slots.user_id, slots.slot_id, given.decision_id
    FROM slots
    JOIN unnest(
        CAST(:user_ids AS text[]), CAST(:slot_ids AS text[]), CAST(:decision_ids AS text[])
    ) AS given (user_id, slot_id, decision_id)
        ON slots.user_id = given.user_id AND slots.slot_id = given.slot_id
    WHERE slots.lease_owner = :owner AND slots.process_time IS NULL
    ORDER BY slots.user_id
    FOR UPDATE OF slots
)
UPDATE slots
SET process_time = :now, decision_id = ended.decision_id, lease_owner = NULL, lease_until = NULL
FROM ended
WHERE slots.user_id = ended.user_id AND slots.slot_id = ended.slot_id
    AND slots.lease_owner = :owner AND slots.process_time IS NULL
RETURNING slots.user_id, slots.arrived

-- name: list_slots
SELECT user_id, slot_id, slot_time, process_time, decision_id FROM slots
WHERE user_id = :user_id AND (slot_time, slot_id) < (:before_time, :before_id)
ORDER BY slot_time DESC, slot_id DESC
LIMIT :limit

-- name: slot_backlog
SELECT
    count(*) FILTER (WHERE slot_time <= :now AND (lease_until IS NULL OR lease_until <= :now))
        AS due_count,
    count(*) FILTER (WHERE lease_until > :now) AS leased_count,
    min(slot_time) FILTER (
        WHERE slot_time <= :now AND (lease_until IS NULL OR lease_until <= :now)
    ) AS oldest_time
FROM slots
WHERE process_time IS NULL AND (slot_time <= :now OR lease_until IS NOT NULL)

-- name: prune_slots
DELETE FROM slots
WHERE (user_id, slot_id) IN (
    SELECT user_id, slot_id FROM slots WHERE process_time < :before LIMIT :limit
)

-- name: add_messages
-- A delivery that is there already stays as it is. In key order, so that two batches that share
-- keys don't wait for one another.
INSERT INTO inbox (
    delivery_id, decision_id, user_id, event_id, event_type, item_ids, channel, title, body,
    variant_id, deliver_time, preview
)
SELECT given.*
FROM unnest(
    CAST(:delivery_id AS text[]), CAST(:decision_id AS text[]), CAST(:user_id AS text[]),
    CAST(:event_id AS text[]), CAST(:event_type AS text[]), CAST(:item_ids AS jsonb[]),
    CAST(:channel AS text[]), CAST(:title AS text[]), CAST(:body AS text[]),
    CAST(:variant_id AS text[]), CAST(:deliver_time AS timestamptz[]), CAST(:preview AS boolean[])
) AS given (
    delivery_id, decision_id, user_id, event_id, event_type, item_ids, channel, title, body,
    variant_id, deliver_time, preview
)
ORDER BY given.delivery_id
ON CONFLICT (delivery_id) DO NOTHING

-- name: list_messages
SELECT * FROM inbox
WHERE user_id = :user_id AND (deliver_time, delivery_id) < (:before_time, :before_id)
ORDER BY deliver_time DESC, delivery_id DESC
LIMIT :limit

-- name: prune_messages
DELETE FROM inbox WHERE deliver_time < :before

-- name: count_attempts
SELECT delivery_id, count(*) AS made FROM attempts
WHERE day = ANY(CAST(:days AS date[])) AND delivery_id = ANY(CAST(:delivery_ids AS text[]))
GROUP BY delivery_id

-- name: add_attempts
-- Numbered on from the attempts there are. Two pacers that hold one delivery, the first one's lease
-- having run out, count as one attempt.
INSERT INTO attempts (
    day, delivery_id, attempt, user_id, adapter, attempt_time, delivered, error
)
SELECT
    made.day, made.delivery_id, coalesce(past.attempt, 0) + 1, made.user_id, made.adapter, :now,
    made.delivered, made.error
FROM unnest(
    CAST(:days AS date[]), CAST(:delivery_ids AS text[]), CAST(:user_ids AS text[]),
    CAST(:adapters AS text[]), CAST(:delivered AS boolean[]), CAST(:errors AS text[])
) AS made (day, delivery_id, user_id, adapter, delivered, error)
LEFT JOIN LATERAL (
    SELECT max(attempt) AS attempt FROM attempts
    WHERE attempts.day = made.day AND attempts.delivery_id = made.delivery_id
) AS past ON true
ON CONFLICT DO NOTHING

-- name: list_attempts
SELECT delivery_id, attempt, adapter, attempt_time, delivered, error FROM attempts
WHERE day = ANY(CAST(:days AS date[])) AND delivery_id = ANY(CAST(:delivery_ids AS text[]))
ORDER BY delivery_id, attempt

-- name: begin_erasure
-- Takes up an erasure where it was left; one that is complete but for the sweep begins again.
INSERT INTO erasures (user_id) VALUES (:user_id)
ON CONFLICT (user_id) DO UPDATE SET
    done = CASE WHEN erasures.sweep_time IS NULL THEN erasures.done ELSE '{}' END,
    sweep_time = NULL
RETURNING done

-- name: note_erased
UPDATE erasures SET done = CAST(:done AS text[]), sweep_time = :sweep_time
WHERE user_id = :user_id

-- name: pending_erasures
SELECT user_id FROM erasures WHERE sweep_time IS NULL LIMIT 100

-- name: due_sweeps
SELECT user_id FROM erasures WHERE sweep_time <= :now LIMIT 100

-- name: end_erasure
DELETE FROM erasures WHERE user_id = :user_id

-- name: erase_slots
DELETE FROM slots WHERE user_id = :user_id

-- name: erase_messages
DELETE FROM inbox WHERE user_id = :user_id

-- name: erase_attempts
DELETE FROM attempts WHERE user_id = :user_id
