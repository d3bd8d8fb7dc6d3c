-- name: read_decision
SELECT answer, explanation FROM decisions WHERE day = :day AND decision_id = :decision_id

-- name: read_deliveries
SELECT delivery_id, state, error FROM outbox
WHERE day = ANY (CAST(:days AS date[])) AND delivery_id = ANY (CAST(:delivery_ids AS text[]))

-- name: read_engagements
SELECT engagement_id, user_id, kind, engage_time
FROM engagements
WHERE day = :day AND decision_id = :decision_id
ORDER BY engage_time, engagement_id

-- name: list_decisions
-- A user's decisions, newest slot first, after a position. The day bounds which partitions are
-- looked at.
SELECT slot_time, slot_id, answer
FROM decisions
WHERE user_id = :user_id
    AND (
        CAST(:after_day AS date) IS NULL
        OR (
            day <= CAST(:after_day AS date)
            AND (slot_time, slot_id) < (CAST(:after_time AS timestamptz), CAST(:after_slot AS text))
        )
    )
ORDER BY day DESC, slot_time DESC, slot_id DESC
LIMIT :limit
