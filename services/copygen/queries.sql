-- name: read_cursor
SELECT cursor FROM cursors WHERE log = :log

-- name: lock_cursor
-- One reader at a time applies a log; the others wait and find it moved on.
INSERT INTO cursors (log, cursor) VALUES (:log, '')
ON CONFLICT (log) DO UPDATE SET cursor = cursors.cursor
RETURNING cursor

-- name: write_cursor
UPDATE cursors SET cursor = :cursor WHERE log = :log

-- name: put_items
-- The newest version of each stands, whatever the order.
INSERT INTO items (item_id, content_version, item)
SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:versions AS bigint[]), CAST(:items AS bytea[]))
ON CONFLICT (item_id) DO UPDATE
SET content_version = excluded.content_version, item = excluded.item
WHERE items.content_version < excluded.content_version

-- name: put_event_types
INSERT INTO event_types (name, version, event_type)
SELECT * FROM unnest(CAST(:names AS text[]), CAST(:versions AS bigint[]), CAST(:types AS bytea[]))
ON CONFLICT (name) DO UPDATE SET version = excluded.version, event_type = excluded.event_type
WHERE event_types.version < excluded.version

-- name: read_items
SELECT item_id, item FROM items WHERE item_id = ANY(CAST(:ids AS text[]))

-- name: read_event_types
SELECT name, event_type FROM event_types WHERE name = ANY(CAST(:names AS text[]))

-- name: read_choices
-- Stored choices of deliveries; the days keep it to their partitions.
SELECT delivery_id, variant_id, style, title, body, propensity
FROM choices
WHERE day = ANY(CAST(:days AS date[])) AND delivery_id = ANY(CAST(:ids AS text[]))

-- name: insert_choices
-- The first choice of a delivery stands.
INSERT INTO choices (day, delivery_id, user_id, variant_id, style, title, body, propensity)
SELECT * FROM unnest(
    CAST(:days AS date[]), CAST(:ids AS text[]), CAST(:user_ids AS text[]),
    CAST(:variant_ids AS text[]), CAST(:styles AS text[]), CAST(:titles AS text[]),
    CAST(:bodies AS text[]), CAST(:propensities AS double precision[])
)
ON CONFLICT DO NOTHING

-- name: live_variants
-- Variants that deliveries about these items may carry.
SELECT variant_id, event_type, item_id, channel, locale, style, title, body
FROM variants
WHERE event_type = ANY(CAST(:event_types AS text[]))
  AND (item_id = '' OR item_id = ANY(CAST(:item_ids AS text[])))
  AND state = 2

-- name: insert_variant
INSERT INTO variants (
    variant_id, event_type, item_id, channel, locale, style, title, body,
    state, reward, writer, create_time
)
VALUES (
    :variant_id, :event_type, :item_id, :channel, :locale, :style, :title, :body,
    :state, :reward, :writer, :create_time
)

-- name: list_variants
-- Newest first, from before a position.
SELECT variant_id, event_type, item_id, channel, locale, style, title, body,
       state, reward, writer, create_time, seq
FROM variants
WHERE event_type = :event_type
  AND (:item_id = '' OR item_id = :item_id)
  AND (CAST(:before AS bigint) IS NULL OR seq < :before)
ORDER BY seq DESC
LIMIT :limit

-- name: review_variant
UPDATE variants SET state = :state WHERE variant_id = :variant_id
RETURNING variant_id, event_type, item_id, channel, locale, style, title, body,
          state, reward, writer, create_time, seq

-- name: insert_review
INSERT INTO reviews (variant_id, state, note, review_time)
VALUES (:variant_id, :state, :note, :review_time)

-- name: read_request
SELECT digest, answer FROM requests WHERE request_id = :request_id

-- name: insert_request
INSERT INTO requests (request_id, digest, answer) VALUES (:request_id, :digest, :answer)
ON CONFLICT DO NOTHING

-- name: record_sends
INSERT INTO outcomes (day, decision_id, user_id, variant_id, style, event_type, send_time)
SELECT * FROM unnest(
    CAST(:days AS date[]), CAST(:decision_ids AS text[]), CAST(:user_ids AS text[]),
    CAST(:variant_ids AS text[]), CAST(:styles AS text[]), CAST(:event_types AS text[]),
    CAST(:send_times AS timestamptz[])
)
ON CONFLICT (day, decision_id) DO UPDATE
SET variant_id = excluded.variant_id, style = excluded.style, send_time = excluded.send_time

-- name: record_engagements
-- An engagement may be read before its send: the row then waits for the variant.
INSERT INTO outcomes (
    day, decision_id, user_id, variant_id, style, event_type, engaged, dismissed, unsubscribed
)
SELECT day, decision_id, min(user_id), '', '', min(event_type),
       bool_or(engaged), bool_or(dismissed), bool_or(unsubscribed)
FROM unnest(
    CAST(:days AS date[]), CAST(:decision_ids AS text[]), CAST(:user_ids AS text[]),
    CAST(:event_types AS text[]), CAST(:engaged AS boolean[]), CAST(:dismissed AS boolean[]),
    CAST(:unsubscribed AS boolean[])
) AS reported (day, decision_id, user_id, event_type, engaged, dismissed, unsubscribed)
GROUP BY day, decision_id
ON CONFLICT (day, decision_id) DO UPDATE
SET engaged = outcomes.engaged OR excluded.engaged,
    dismissed = outcomes.dismissed OR excluded.dismissed,
    unsubscribed = outcomes.unsubscribed OR excluded.unsubscribed

-- name: erase_choices
DELETE FROM choices WHERE user_id = :user_id

-- name: erase_outcomes
DELETE FROM outcomes WHERE user_id = :user_id
