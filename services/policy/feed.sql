-- name: append_entries
-- Adds entries in the order given; xid and seq come by default.
INSERT INTO feed (day, user_id, entry)
SELECT CAST(:day AS date), given.user_id, given.entry
FROM unnest(CAST(:user_ids AS text[]), CAST(:entries AS bytea[]))
    WITH ORDINALITY AS given (user_id, entry, position)
ORDER BY given.position

-- name: read_entries
-- Entries after a cursor, only of transactions older than every open one: what is still open, and
-- may commit an entry with a smaller xid later, holds the reader back instead of being skipped.
SELECT CAST(CAST(xid AS text) AS bigint) AS xid, seq, entry
FROM feed
WHERE (xid, seq) > (CAST(CAST(:xid AS text) AS xid8), CAST(:seq AS bigint))
    AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY feed.xid, feed.seq
LIMIT :limit

-- name: check_cursor
-- Whether entries after a cursor were dropped with their days, and whether the cursor lies ahead of
-- every transaction so far.
SELECT
    EXISTS (
        SELECT FROM feed_horizon
        WHERE (xid, seq) > (CAST(CAST(:xid AS text) AS xid8), CAST(:seq AS bigint))
    ) AS expired,
    CAST(CAST(:xid AS text) AS xid8) >= pg_snapshot_xmax(pg_current_snapshot()) AS ahead

-- name: raise_horizon
-- Remembers the last entry of the days that are about to be dropped.
INSERT INTO feed_horizon (xid, seq)
SELECT xid, seq FROM feed
WHERE day < CAST(:day AS date)
ORDER BY feed.xid DESC, feed.seq DESC
LIMIT 1
ON CONFLICT (only_row) DO UPDATE SET xid = excluded.xid, seq = excluded.seq
WHERE (feed_horizon.xid, feed_horizon.seq) < (excluded.xid, excluded.seq)
