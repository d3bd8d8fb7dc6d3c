-- name: oldest_open_day
-- The day of the oldest delivery that has not ended; NULL when there is none.
SELECT min(day) AS day FROM outbox WHERE end_time IS NULL

-- name: delete_old_decided_events
-- Bounded deletion; what another process is deleting is passed over.
DELETE FROM decided_events USING (
    SELECT user_id, event_id FROM decided_events
    WHERE day < CAST(:day AS date)
    ORDER BY day LIMIT :count FOR UPDATE SKIP LOCKED
) AS old
WHERE decided_events.user_id = old.user_id AND decided_events.event_id = old.event_id
