-- Statements on the event pool and the ready queue.

-- name: lock_users
-- Which of the users exist; each is locked, in one order, so that a user's pool has one writer.
SELECT user_id FROM users
WHERE user_id = ANY(CAST(:user_ids AS text[])) ORDER BY user_id FOR NO KEY UPDATE

-- name: claim_pools
-- The same, with the bounds of their pools after they were raised. To lock by raising takes six
-- tenths of the time of both, one after the other, and one row of arrays is read several times
-- faster than a row for each.
SELECT user_ids, pool_bounds
FROM claim_pools(CAST(:user_ids AS text[]), CAST(:counts AS integer[]))

-- name: stored_digests
-- Events of these keys that were accepted before. Each is looked up by its key, however few events
-- there seem to be: a join would read all of them.
SELECT asked.user_id, asked.event_id, known.digest
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[])) AS asked(user_id, event_id)
CROSS JOIN LATERAL (
    SELECT digest FROM events
    WHERE events.user_id = asked.user_id AND events.event_id = asked.event_id OFFSET 0
) AS known

-- name: mergeable_events
-- For each user, type and aggregation key the waiting event accepted last, locked.
SELECT events.body, events.actor_sketch, events.accept_time,
    CASE WHEN events.held THEN events.ready_time END AS held_until
FROM (
    SELECT DISTINCT ON (events.user_id, events.event_type, events.aggregation_key)
        events.user_id, events.event_id
    FROM unnest(CAST(:user_ids AS text[]), CAST(:event_types AS text[]), CAST(:keys AS text[]))
        AS asked(user_id, event_type, aggregation_key)
    JOIN events ON events.user_id = asked.user_id AND events.event_type = asked.event_type
        AND events.aggregation_key = asked.aggregation_key
    WHERE events.end_kind IS NULL AND events.route = 3 AND events.expire_time > :now
    ORDER BY events.user_id, events.event_type, events.aggregation_key, events.accept_time DESC,
        events.event_id
) AS latest
JOIN events ON events.user_id = latest.user_id AND events.event_id = latest.event_id
WHERE events.end_kind IS NULL
ORDER BY events.user_id, events.event_id FOR UPDATE OF events

-- name: grow_events
-- Store the new content of waiting events that others were merged into, and the new time of digests
-- that became ready by it.
UPDATE events SET body = grown.body, item_ids = CAST(grown.item_ids AS text[]),
    source_score = grown.source_score, expire_time = grown.expire_time,
    actor_sketch = grown.actor_sketch, held = events.held AND grown.ready_time IS NULL,
    ready_time = coalesce(grown.ready_time, events.ready_time)
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]), CAST(:bodies AS bytea[]),
    CAST(:item_ids AS text[]), CAST(:scores AS float8[]), CAST(:expire_times AS timestamptz[]),
    CAST(:actor_sketches AS bytea[]), CAST(:ready_times AS timestamptz[]))
    AS grown(user_id, event_id, body, item_ids, source_score, expire_time, actor_sketch, ready_time)
WHERE events.user_id = grown.user_id AND events.event_id = grown.event_id
    AND events.end_kind IS NULL

-- name: announce_digests
-- Tell the reader of arrivals about some digests that got ready, each once. What another call has
-- locked is left to it, or to the next run.
WITH due AS (
    SELECT user_id, event_id FROM events
    WHERE held AND end_kind IS NULL AND ready_time <= :now AND expire_time > :now
    ORDER BY ready_time LIMIT :count FOR UPDATE SKIP LOCKED
), ready AS (
    UPDATE events SET held = false FROM due
    WHERE events.user_id = due.user_id AND events.event_id = due.event_id
    RETURNING events.user_id
), told AS (
    INSERT INTO arrivals (user_ids, arrive_time)
    SELECT array_agg(user_id), CAST(:now AS timestamptz)
    FROM (SELECT user_id, row_number() OVER () AS place FROM ready GROUP BY user_id) AS new
    GROUP BY (place - 1) / 64
)
SELECT count(*) AS digests FROM ready

-- name: past_contents
-- For each user and type the latest events that wait or were sent since a time.
SELECT asked.user_id, asked.event_type, past.item_ids, past.content
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_types AS text[]),
    CAST(:since AS timestamptz[])) AS asked(user_id, event_type, since)
CROSS JOIN LATERAL (
    SELECT item_ids, content FROM events
    WHERE events.user_id = asked.user_id AND events.event_type = asked.event_type
        AND content IS NOT NULL AND (end_kind IS NULL OR end_kind = 1)
        AND ((end_kind IS NULL AND expire_time > :now) OR end_time > asked.since)
    ORDER BY accept_time DESC LIMIT :count
) AS past

-- name: queue_ready
-- Put immediate and scheduled events into the ready queue.
INSERT INTO ready (user_id, event_id, available_time, expire_time)
SELECT * FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]),
    CAST(:available_times AS timestamptz[]), CAST(:expire_times AS timestamptz[]))

-- name: insert_arrivals
-- Tell the reader of arrivals that something came into these users' pools.
INSERT INTO arrivals (user_ids, arrive_time)
SELECT array_agg(user_id), CAST(:now AS timestamptz)
FROM unnest(CAST(:user_ids AS text[])) WITH ORDINALITY AS new(user_id, place)
GROUP BY (place - 1) / 64 ORDER BY min(place)

-- name: count_pools
-- How many events wait in these users' pools.
SELECT user_id, count(*) AS waiting FROM events
WHERE user_id = ANY(CAST(:user_ids AS text[])) AND end_kind IS NULL AND route = 3
GROUP BY user_id

-- name: settle_pool_bounds
-- Store how many events at most wait in the pools of users who are locked.
UPDATE users SET pool_bound = settled.pool_bound
FROM unnest(CAST(:user_ids AS text[]), CAST(:pool_bounds AS integer[]))
    AS settled(user_id, pool_bound)
WHERE users.user_id = settled.user_id

-- name: lock_pools
-- Lock some users in whose pools events may wait, after an id, as `lock_users` does; the last one.
SELECT max(user_id) AS last FROM (
    SELECT user_id FROM users WHERE pool_bound > 0 AND user_id > :after
    ORDER BY user_id LIMIT :count FOR NO KEY UPDATE
) AS locked

-- name: lower_pool_bounds
-- Make exact the bounds of users after one id up to another, who are locked. Whose first event came
-- after they were is not: where a row has changed since it was read, which its place tells, the
-- count may be too low and the bound stays.
WITH bounded AS MATERIALIZED (
    SELECT user_id, pool_bound, ctid AS place FROM users
    WHERE pool_bound > 0 AND user_id > :after AND user_id <= :last
), counted AS MATERIALIZED (
    SELECT user_id, count(*) AS waiting FROM events
    WHERE user_id = ANY(ARRAY(SELECT user_id FROM bounded)) AND end_kind IS NULL AND route = 3
    GROUP BY user_id
)
UPDATE users SET pool_bound = coalesce(waiting, 0)
FROM bounded LEFT JOIN counted USING (user_id)
WHERE users.user_id = bounded.user_id AND users.ctid = bounded.place
    AND coalesce(waiting, 0) < bounded.pool_bound

-- name: evict_events
-- Bring the pools of these users down to their size: what has expired first (recorded as expired),
-- then the least promising, then the soonest expiry. Held digests are events as all others.
WITH places AS (
    SELECT user_id, event_id, expire_time <= :now AS expired,
        row_number() OVER (
            PARTITION BY user_id
            ORDER BY expire_time <= :now, source_score DESC, expire_time DESC, event_id
        ) AS place
    FROM events
    WHERE user_id = ANY(CAST(:user_ids AS text[])) AND end_kind IS NULL AND route = 3
)
UPDATE events SET end_kind = CASE WHEN places.expired THEN 3 ELSE 4 END, end_time = :now,
    end_reason = CASE WHEN places.expired THEN 'EXPIRED' ELSE 'POOL_FULL' END
FROM places
WHERE places.place > :pool_size AND events.user_id = places.user_id
    AND events.event_id = places.event_id AND events.end_kind IS NULL
RETURNING events.user_id, events.event_id, events.end_kind

-- name: read_pool
-- Waiting, unexpired events, most promising first; digests only when they are ready.
SELECT user_id, event_id, event_type, body, item_ids FROM (
    SELECT user_id, event_id, event_type, body, item_ids, row_number() OVER (
        PARTITION BY user_id ORDER BY source_score DESC, expire_time, event_id
    ) AS place
    FROM events
    WHERE user_id = ANY(CAST(:user_ids AS text[])) AND end_kind IS NULL AND route = 3
        AND expire_time > :now AND (NOT held OR ready_time <= :now)
) AS ranked
WHERE place <= :per_user ORDER BY user_id, place

-- name: end_events
-- Record the end of waiting events of the given routes; what has ended already stays as it is.
WITH asked AS (
    SELECT * FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]),
        CAST(:ends AS smallint[]), CAST(:reasons AS text[]), CAST(:decision_ids AS text[]))
        AS asked(user_id, event_id, end_kind, end_reason, decision_id)
), locked AS (
    SELECT events.user_id, events.event_id FROM events
    JOIN asked ON events.user_id = asked.user_id AND events.event_id = asked.event_id
    WHERE events.end_kind IS NULL AND events.route = ANY(CAST(:routes AS smallint[]))
    ORDER BY events.user_id, events.event_id FOR UPDATE OF events
)
UPDATE events SET end_kind = asked.end_kind, end_time = :now, end_reason = asked.end_reason,
    decision_id = asked.decision_id
FROM asked JOIN locked ON locked.user_id = asked.user_id AND locked.event_id = asked.event_id
WHERE events.user_id = asked.user_id AND events.event_id = asked.event_id
    AND events.end_kind IS NULL
RETURNING events.user_id, events.event_id

-- name: leave_ready
-- Take ended events out of the ready queue.
DELETE FROM ready USING unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]))
    AS ended(user_id, event_id)
WHERE ready.user_id = ended.user_id AND ready.event_id = ended.event_id

-- name: return_ready
-- Give leased events back, not before the given times.
UPDATE ready SET lease_owner = NULL, available_time = back.available_time
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]),
    CAST(:available_times AS timestamptz[])) AS back(user_id, event_id, available_time)
WHERE ready.user_id = back.user_id AND ready.event_id = back.event_id

-- name: lease_ready
-- Lease what is due and not leased; concurrent callers get different events.
WITH due AS (
    SELECT user_id, event_id, available_time, seq FROM ready
    WHERE available_time <= :now AND expire_time > :now
    ORDER BY available_time, seq LIMIT :count FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE ready SET lease_owner = :owner, available_time = :lease_until
    FROM due WHERE ready.user_id = due.user_id AND ready.event_id = due.event_id
    RETURNING due.user_id, due.event_id, due.available_time, due.seq
)
SELECT events.user_id, events.event_id, events.event_type, events.body, events.item_ids FROM leased
JOIN events ON events.user_id = leased.user_id AND events.event_id = leased.event_id
WHERE events.end_kind IS NULL
ORDER BY leased.available_time, leased.seq

-- name: waiting_about
-- Waiting events about any of these items or of any of these campaigns.
SELECT user_id, event_id FROM events
WHERE end_kind IS NULL AND item_ids[1] = ANY(CAST(:item_ids AS text[]))
UNION
SELECT user_id, event_id FROM events
WHERE end_kind IS NULL AND cardinality(item_ids) > 1 AND item_ids && CAST(:item_ids AS text[])
UNION
SELECT user_id, event_id FROM events
WHERE end_kind IS NULL AND campaign_id <> '' AND campaign_id = ANY(CAST(:campaign_ids AS text[]))

-- name: waiting_without_item
-- Waiting events about any of these items whose items are all deleted. Unknown items aren't.
SELECT user_id, event_id FROM events
WHERE end_kind IS NULL AND item_ids[1] = ANY(CAST(:item_ids AS text[]))
    AND NOT EXISTS (
        SELECT FROM unnest(events.item_ids) AS own(item_id) LEFT JOIN items USING (item_id)
        WHERE items.deleted IS NOT TRUE
    )
UNION
SELECT user_id, event_id FROM events
WHERE end_kind IS NULL AND cardinality(item_ids) > 1 AND item_ids && CAST(:item_ids AS text[])
    AND NOT EXISTS (
        SELECT FROM unnest(events.item_ids) AS own(item_id) LEFT JOIN items USING (item_id)
        WHERE items.deleted IS NOT TRUE
    )

-- name: put_withdrawals
-- Record that all events so far about these items, or of these campaigns, are withdrawn.
INSERT INTO withdrawals (subject, user_id, name, withdraw_time)
SELECT :subject, '', name, CAST(:now AS timestamptz)
FROM unnest(CAST(:names AS text[])) AS new(name) ORDER BY name
ON CONFLICT (subject, user_id, name) DO UPDATE
SET withdraw_time = greatest(withdrawals.withdraw_time, excluded.withdraw_time)

-- name: withdraw_sent
-- Record the withdrawal of those of these events that were sent.
INSERT INTO withdrawals (subject, user_id, name, withdraw_time)
SELECT 1, events.user_id, events.event_id, CAST(:now AS timestamptz)
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[])) AS asked(user_id, event_id)
JOIN events ON events.user_id = asked.user_id AND events.event_id = asked.event_id
WHERE events.end_kind = 1 ORDER BY events.user_id, events.event_id
ON CONFLICT (subject, user_id, name) DO NOTHING

-- name: withdrawn_events
-- Which of these events must not go out: cancelled, withdrawn by key, item or campaign after they
-- were accepted, or with a deleted one among the items that the message names.
SELECT DISTINCT events.user_id, events.event_id
FROM unnest(CAST(:user_ids AS text[]), CAST(:event_ids AS text[]), CAST(:item_ids AS text[]))
    AS asked(user_id, event_id, item_ids)
JOIN events ON events.user_id = asked.user_id AND events.event_id = asked.event_id
WHERE events.end_kind = 6
    OR EXISTS (
        SELECT FROM withdrawals
        WHERE subject = 1 AND user_id = events.user_id AND name = events.event_id
    )
    OR EXISTS (
        SELECT FROM withdrawals
        WHERE subject = 2 AND user_id = '' AND name = ANY(events.item_ids)
            AND withdraw_time >= events.accept_time
    )
    OR EXISTS (
        SELECT FROM withdrawals
        WHERE subject = 3 AND user_id = '' AND name = events.campaign_id
            AND withdraw_time >= events.accept_time
    )
    OR EXISTS (
        SELECT FROM items WHERE item_id = ANY(CAST(asked.item_ids AS text[])) AND deleted
    )

-- name: expired_events
-- Some waiting events whose expiry has passed, locked.
SELECT user_id, event_id FROM events WHERE end_kind IS NULL AND expire_time <= :now
ORDER BY expire_time LIMIT :count FOR UPDATE SKIP LOCKED

-- name: delete_ended_events
-- Bounded deletion of what ended long ago.
DELETE FROM events USING (
    SELECT user_id, event_id FROM events
    WHERE end_kind IS NOT NULL AND end_time < :before
    ORDER BY end_time LIMIT :count FOR UPDATE SKIP LOCKED
) AS old
WHERE events.user_id = old.user_id AND events.event_id = old.event_id

-- name: delete_old_arrivals
-- Bounded deletion of arrivals that nobody reads any more.
DELETE FROM arrivals USING (
    SELECT xid, seq FROM arrivals ORDER BY xid, seq LIMIT :count
) AS old
WHERE arrivals.xid = old.xid AND arrivals.seq = old.seq AND arrivals.arrive_time < :before

-- name: delete_old_withdrawals
-- Bounded deletion of withdrawals of events that have all expired.
DELETE FROM withdrawals USING (
    SELECT subject, user_id, name FROM withdrawals WHERE withdraw_time < :before
    ORDER BY withdraw_time LIMIT :count
) AS old
WHERE withdrawals.subject = old.subject AND withdrawals.user_id = old.user_id
    AND withdrawals.name = old.name

-- name: delete_old_requests
-- Bounded deletion of stored answers.
DELETE FROM requests USING (
    SELECT method, request_id FROM requests WHERE answer_time < :before
    ORDER BY answer_time LIMIT :count
) AS old
WHERE requests.method = old.method AND requests.request_id = old.request_id

-- name: delete_old_erasures
-- Forget removals that every user index has noticed.
DELETE FROM erasures WHERE erase_time < :before

-- name: read_arrivals
-- Arrivals after the cursor, of transactions older than every running one.
SELECT CAST(blocks.xid AS text) AS xid, blocks.first + place AS seq, user_id
FROM (
    SELECT xid, seq, user_ids, seq - cardinality(user_ids) AS first FROM arrivals
    WHERE (xid, seq) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
        AND xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY arrivals.xid, seq LIMIT :count
) AS blocks
CROSS JOIN LATERAL unnest(blocks.user_ids) WITH ORDINALITY AS one(user_id, place)
WHERE (blocks.xid, blocks.first + place) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
ORDER BY blocks.xid, blocks.seq, place LIMIT :count

-- name: next_transaction
-- The first transaction number that nobody has yet.
SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text)

-- name: list_user_events
-- Events of a user, newest first, before the given position.
SELECT event_id, body, accept_time, end_kind, end_time, end_reason, merged_into, ready_time
FROM events
WHERE user_id = :user_id AND (:event_id = '' OR event_id = :event_id)
    AND (accept_time, event_id) < (CAST(:before_time AS timestamptz), CAST(:before_id AS text))
ORDER BY accept_time DESC, event_id DESC LIMIT :count

-- name: waiting_of_user
-- Waiting events of one user.
SELECT user_id, event_id FROM events WHERE user_id = :user_id AND end_kind IS NULL

-- name: delete_user_events
-- Remove a user's events, which all have their end.
DELETE FROM events WHERE user_id = :user_id

-- name: delete_user_withdrawals
-- Remove the withdrawals of a user's events.
DELETE FROM withdrawals WHERE subject = 1 AND user_id = :user_id

-- name: delete_user_arrivals
-- Remove a user's arrivals; the others of a block keep their numbers.
UPDATE arrivals SET user_ids = array_replace(user_ids, :user_id, NULL)
WHERE :user_id = ANY(user_ids)

-- name: recent_items
-- Items that events of these users were about, of events accepted since a time.
SELECT DISTINCT user_id, unnest(item_ids) AS item_id FROM events
WHERE user_id = ANY(CAST(:user_ids AS text[])) AND accept_time > CAST(:since AS timestamptz)
