-- Statements on vectors of items.

-- name: take_turn
-- Whether no other process makes vectors now, until the transaction ends; and the oldest
-- transaction that still runs: what older ones wrote is there for all to see.
SELECT pg_try_advisory_xact_lock(hashtextextended('item_vectors', 0)) AS mine,
    CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS horizon

-- name: items_without_vector
-- Items, in the order of their changes, whose content as it is now has no vector of this model.
SELECT CAST(items.xid AS text) AS xid, items.seq, items.item_id, items.content_version, items.body
FROM items LEFT JOIN item_vectors ON item_vectors.item_id = items.item_id
    AND item_vectors.content_version = items.content_version AND item_vectors.model = :model
WHERE (items.xid, items.seq) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
    AND NOT items.deleted AND item_vectors.item_id IS NULL
ORDER BY items.xid, items.seq LIMIT :count

-- name: put_vectors
-- Store vectors of items.
INSERT INTO item_vectors (item_id, content_version, model, vector)
SELECT item_id, content_version, :model, vector
FROM unnest(CAST(:item_ids AS text[]), CAST(:versions AS bigint[]), CAST(:vectors AS bytea[]))
    AS new(item_id, content_version, vector)
ORDER BY item_id
ON CONFLICT (item_id) DO UPDATE SET content_version = excluded.content_version,
    model = excluded.model, vector = excluded.vector, xid = pg_current_xact_id(),
    seq = nextval('change_seq')

-- name: changed_vectors
-- Vectors of a model that a snapshot did not see.
SELECT item_id, vector FROM item_vectors
WHERE model = :model AND xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))
