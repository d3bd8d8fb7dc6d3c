-- name: read_cursor
-- Where a log has been read up to.
SELECT cursor FROM cursors WHERE log = :log;

-- name: lock_cursor
-- The same, and nobody else reads on until this transaction ends.
SELECT cursor FROM cursors WHERE log = :log FOR UPDATE;

-- name: write_cursor
-- Effects and cursor commit together.
UPDATE cursors SET cursor = :cursor WHERE log = :log;

-- name: changed_states
-- States of users whose version is not the one known (0: none); users without state are left out.
SELECT asked.user_id, kept.version,
       CASE WHEN kept.version <> asked.version THEN kept.state END AS state
FROM unnest(CAST(:user_ids AS text[]), CAST(:versions AS bigint[])) AS asked (user_id, version)
JOIN feature_states AS kept USING (user_id);

-- name: lock_states
-- States to be changed, locked in user order.
SELECT user_id, state FROM feature_states
WHERE user_id = ANY(CAST(:user_ids AS text[])) ORDER BY user_id FOR UPDATE;

-- name: put_states
-- Store states, each under a version of its own.
INSERT INTO feature_states (user_id, state)
SELECT * FROM unnest(CAST(:user_ids AS text[]), CAST(:states AS bytea[]))
ON CONFLICT (user_id) DO UPDATE
SET state = excluded.state, version = nextval('feature_state_versions');

-- name: put_contents
-- Keep contents; what a reference stands for never changes.
INSERT INTO item_contents (content_ref, item_id, content_version, vector)
SELECT * FROM unnest(
    CAST(:refs AS bigint[]), CAST(:item_ids AS text[]),
    CAST(:versions AS bigint[]), CAST(:vectors AS bytea[])
)
ON CONFLICT (content_ref) DO NOTHING;

-- name: put_items
-- Point items at the content that stands in the log now. Needs the lock on the cursor 'items'.
INSERT INTO items AS kept (item_key, content_ref, content_version)
SELECT * FROM unnest(
    CAST(:keys AS bigint[]), CAST(:refs AS bigint[]), CAST(:versions AS bigint[])
)
ON CONFLICT (item_key) DO UPDATE
SET content_ref = excluded.content_ref, content_version = excluded.content_version,
    change = nextval('item_changes')
WHERE kept.content_ref <> excluded.content_ref;

-- name: count_items
-- Add to items' history. Needs the lock on the cursor 'items'.
INSERT INTO items AS kept (item_key, sends, opens, scored, scores)
SELECT * FROM unnest(
    CAST(:keys AS bigint[]), CAST(:sends AS bigint[]), CAST(:opens AS bigint[]),
    CAST(:scored AS bigint[]), CAST(:scores AS bigint[])
)
ON CONFLICT (item_key) DO UPDATE
SET sends = kept.sends + excluded.sends, opens = kept.opens + excluded.opens,
    scored = kept.scored + excluded.scored, scores = kept.scores + excluded.scores,
    change = nextval('item_changes');

-- name: changed_items
-- Items changed after a change number, oldest change first.
SELECT items.item_key, items.content_ref, items.sends, items.opens, items.scored, items.scores,
    items.change, contents.vector
FROM items LEFT JOIN item_contents AS contents USING (content_ref)
WHERE items.change > :change ORDER BY items.change LIMIT :most;

-- name: read_contents
-- Content vectors by reference, also of versions that have been replaced.
SELECT content_ref, vector FROM item_contents
WHERE content_ref = ANY(CAST(:refs AS bigint[]));

-- name: erase_states
DELETE FROM feature_states WHERE user_id = :user_id;
