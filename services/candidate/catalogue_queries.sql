-- Statements on event types, users, items and interactions.

-- name: get_event_types
-- Registered types of these names.
SELECT name, version, body FROM event_types WHERE name = ANY(CAST(:names AS text[]))

-- name: list_event_types
-- Types by name, after a name.
SELECT name, version, body FROM event_types WHERE name > :after ORDER BY name LIMIT :count

-- name: put_event_type
-- Register a type, or change it; a put without a change keeps the version.
INSERT INTO event_types (name, version, body) VALUES (:name, 1, :body)
ON CONFLICT (name) DO UPDATE SET body = excluded.body, version = event_types.version + 1,
    xid = pg_current_xact_id(), seq = nextval('change_seq')
WHERE event_types.body <> excluded.body

-- name: lock_request
-- Let calls with one request id wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended(:method || ':' || :request_id, 0))

-- name: get_request
-- The answer that a request id got.
SELECT digest, answer FROM requests WHERE method = :method AND request_id = :request_id

-- name: put_request
-- Keep the answer of a request id.
INSERT INTO requests (method, request_id, digest, answer, answer_time)
VALUES (:method, :request_id, :digest, :answer, :now)

-- name: upsert_users
-- Store users; a time of creation that is not given stays what it was.
INSERT INTO users (user_id, body, create_time)
SELECT user_id, body, coalesce(create_time, CAST(:now AS timestamptz))
FROM unnest(CAST(:ids AS text[]), CAST(:bodies AS bytea[]), CAST(:create_times AS timestamptz[]))
    AS new(user_id, body, create_time)
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE SET body = excluded.body,
    create_time = CASE WHEN users.user_id = ANY(CAST(:undated AS text[]))
        THEN users.create_time ELSE excluded.create_time END,
    xid = pg_current_xact_id()
WHERE users.body <> excluded.body OR (users.create_time <> excluded.create_time
    AND NOT users.user_id = ANY(CAST(:undated AS text[])))

-- name: upsert_items
-- Store items; the content version grows with each change. Returns nothing of unchanged ones.
INSERT INTO items (item_id, body, create_time, deleted)
SELECT item_id, body, coalesce(create_time, CAST(:now AS timestamptz)), deleted
FROM unnest(CAST(:ids AS text[]), CAST(:bodies AS bytea[]), CAST(:create_times AS timestamptz[]),
    CAST(:deleted AS boolean[])) AS new(item_id, body, create_time, deleted)
ORDER BY item_id
ON CONFLICT (item_id) DO UPDATE SET body = excluded.body, deleted = excluded.deleted,
    create_time = CASE WHEN items.item_id = ANY(CAST(:undated AS text[]))
        THEN items.create_time ELSE excluded.create_time END,
    content_version = items.content_version + 1,
    xid = pg_current_xact_id(), seq = nextval('change_seq')
WHERE items.body <> excluded.body OR items.deleted <> excluded.deleted
    OR (items.create_time <> excluded.create_time
        AND NOT items.item_id = ANY(CAST(:undated AS text[])))

-- name: attribute_types
-- The types of all attributes.
SELECT owner, name, type, set_time FROM attribute_types

-- name: attribute_types_of
-- The types of the attributes of users, or of items.
SELECT owner, name, type, set_time FROM attribute_types WHERE owner = :owner

-- name: insert_attribute_types
-- Decide types of attributes; one that is decided already stays. Waits for whoever is deciding.
INSERT INTO attribute_types (owner, name, type, set_time)
SELECT CAST(:owner AS text), name, type, CAST(:now AS timestamptz)
FROM unnest(CAST(:names AS text[]), CAST(:types AS text[])) AS new(name, type)
ORDER BY name COLLATE "C"
ON CONFLICT (owner, name) DO NOTHING

-- name: set_attribute_type
-- Decide an attribute's type, or change it; what it is already, it has been since it became so.
INSERT INTO attribute_types (owner, name, type, set_time)
VALUES (:owner, :name, :type, CAST(:now AS timestamptz))
ON CONFLICT (owner, name) DO UPDATE SET type = excluded.type, set_time = excluded.set_time,
    xid = pg_current_xact_id()
WHERE attribute_types.type <> excluded.type

-- name: list_attribute_types
-- Types of attributes by owner and name, after one.
SELECT owner, name, type, set_time FROM attribute_types
WHERE (owner, name) > (CAST(:owner AS text) COLLATE "C", CAST(:name AS text) COLLATE "C")
ORDER BY owner, name LIMIT :count

-- name: share_users
-- Which of the users exist; none of them is removed before this transaction ends.
SELECT user_id FROM users WHERE user_id = ANY(CAST(:user_ids AS text[]))
ORDER BY user_id FOR KEY SHARE

-- name: known_users
-- Which of the users exist.
SELECT user_id FROM users WHERE user_id = ANY(CAST(:user_ids AS text[]))

-- name: known_items
-- Which of the items are stored.
SELECT item_id FROM items WHERE item_id = ANY(CAST(:item_ids AS text[]))

-- name: deleted_items
-- Which of the items are deleted.
SELECT item_id FROM items WHERE deleted AND item_id = ANY(CAST(:item_ids AS text[]))

-- name: get_item_bodies
-- Content of items.
SELECT item_id, body FROM items WHERE item_id = ANY(CAST(:item_ids AS text[]))

-- name: insert_interactions
-- Store interactions; the same user, item and time is stored once.
INSERT INTO interactions (user_id, item_id, interact_time, weight, kind, recommendation_id)
SELECT * FROM unnest(CAST(:user_ids AS text[]), CAST(:item_ids AS text[]),
    CAST(:times AS timestamptz[]), CAST(:weights AS real[]), CAST(:kinds AS text[]),
    CAST(:recommendation_ids AS text[]))
ON CONFLICT (user_id, item_id, interact_time) DO NOTHING

-- name: get_user_bodies
-- Content of users.
SELECT user_id, body FROM users WHERE user_id = ANY(CAST(:user_ids AS text[]))

-- name: changed_items
-- Items changed after the cursor, of transactions older than every running one.
SELECT CAST(xid AS text) AS xid, seq, body, create_time, deleted, content_version FROM items
WHERE (xid, seq) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
    AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY items.xid, seq LIMIT :count

-- name: changed_items_without_embedding
-- The same, of items whose content as it is has no embedding in front of every running transaction.
SELECT CAST(items.xid AS text) AS xid, items.seq, body, create_time, deleted, content_version
FROM items
WHERE (items.xid, items.seq) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
    AND items.xid < pg_snapshot_xmin(pg_current_snapshot())
    AND NOT EXISTS (
        SELECT FROM item_vectors AS made
        WHERE made.item_id = items.item_id AND made.content_version = items.content_version
            AND made.xid < pg_snapshot_xmin(pg_current_snapshot())
    )
ORDER BY items.xid, items.seq LIMIT :count

-- name: changed_embeddings
-- Items by when the embeddings of their content as it is were made, after the cursor, by
-- transactions older than every running one.
SELECT CAST(made.xid AS text) AS xid, made.seq, body, create_time, deleted,
    items.content_version, made.model, made.vector
FROM item_vectors AS made JOIN items USING (item_id, content_version)
WHERE (made.xid, made.seq) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
    AND made.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY made.xid, made.seq LIMIT :count

-- name: changed_event_types
-- Event types changed after the cursor, of transactions older than every running one.
SELECT CAST(xid AS text) AS xid, seq, body, version FROM event_types
WHERE (xid, seq) > (CAST(:xid AS xid8), CAST(:seq AS bigint))
    AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY event_types.xid, seq LIMIT :count

-- name: current_snapshot
-- Which transactions this one sees.
SELECT CAST(pg_current_snapshot() AS text)

-- name: changed_since
-- Whether there is anything in the user index's tables that a snapshot did not see.
SELECT EXISTS (
    SELECT 1 FROM (
        SELECT xid FROM users UNION ALL SELECT xid FROM items
        UNION ALL SELECT xid FROM interactions UNION ALL SELECT xid FROM relations
        UNION ALL SELECT xid FROM item_vectors UNION ALL SELECT xid FROM erasures
        UNION ALL SELECT xid FROM removed_relations UNION ALL SELECT xid FROM attribute_types
    ) AS changes
    WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
        AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))
)

-- name: changed_users
-- Users that a snapshot did not see as they are, with microseconds since 1970.
SELECT user_id, body, NOT pg_visible_in_snapshot(born, CAST(:snapshot AS pg_snapshot)),
    CAST(extract(epoch FROM create_time) * 1000000 AS bigint)
FROM users
WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))

-- name: changed_items_since
-- Items that a snapshot did not see as they are, with microseconds since 1970.
SELECT item_id, body, false, CAST(extract(epoch FROM create_time) * 1000000 AS bigint), NOT deleted
FROM items
WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))

-- name: changed_interactions
-- Interactions that a snapshot did not see, with seconds since 1970.
SELECT user_id, item_id, CAST(extract(epoch FROM interact_time) AS double precision), weight
FROM interactions
WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))

-- name: erased_since
-- Whether anyone was removed that a snapshot may have seen.
SELECT EXISTS (
    SELECT 1 FROM erasures
    WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
        AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))
)

-- name: all_user_ids
-- Everyone.
SELECT user_id FROM users

-- name: changed_relations
-- Relations that a snapshot did not see as they are.
SELECT user_id, kind, target_id, strength FROM relations
WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))

-- name: removed_relations
-- Relations whose removal a snapshot did not see; what is stored again by now is changed as well.
SELECT user_id, kind, target_id, CAST(0 AS real) FROM removed_relations
WHERE xid >= pg_snapshot_xmin(CAST(:snapshot AS pg_snapshot))
    AND NOT pg_visible_in_snapshot(xid, CAST(:snapshot AS pg_snapshot))

-- name: count_relations
-- How many relations there are.
SELECT count(*) FROM relations

-- name: friends_of
-- Friends of users, from whichever side the friendship is stored.
SELECT user_id, target_id AS friend_id, strength FROM relations
WHERE kind = 2 AND user_id = ANY(CAST(:user_ids AS text[]))
UNION ALL SELECT target_id, user_id, strength FROM relations
WHERE kind = 2 AND target_id = ANY(CAST(:user_ids AS text[]))

-- name: liked_since
-- What users like and interacted with after a time, with the seconds since 1970 of the last time.
SELECT user_id, item_id, CAST(extract(epoch FROM max(interact_time)) AS double precision) AS last
FROM interactions WHERE user_id = ANY(CAST(:user_ids AS text[]))
GROUP BY user_id, item_id HAVING sum(weight) > 0 AND max(interact_time) > :since

-- name: upsert_relations
-- Store relations; what is stored already gets the new strength.
INSERT INTO relations (user_id, kind, target_id, strength, create_time)
SELECT user_id, kind, target_id, strength, CAST(:now AS timestamptz)
FROM unnest(CAST(:user_ids AS text[]), CAST(:kinds AS smallint[]), CAST(:target_ids AS text[]),
    CAST(:strengths AS real[])) AS new(user_id, kind, target_id, strength)
ORDER BY user_id COLLATE "C", kind, target_id COLLATE "C"
ON CONFLICT (user_id, kind, target_id) DO UPDATE SET strength = excluded.strength,
    xid = pg_current_xact_id()
WHERE relations.strength <> excluded.strength

-- name: delete_relations
-- Remove relations, and remember that they were there.
WITH ended AS (
    SELECT relations.user_id, relations.kind, relations.target_id
    FROM unnest(CAST(:user_ids AS text[]), CAST(:kinds AS smallint[]), CAST(:target_ids AS text[]))
        AS ended(user_id, kind, target_id)
    JOIN relations USING (user_id, kind, target_id)
    ORDER BY relations.user_id, relations.kind, relations.target_id FOR UPDATE OF relations
), deleted AS (
    DELETE FROM relations USING ended
    WHERE relations.user_id = ended.user_id AND relations.kind = ended.kind
        AND relations.target_id = ended.target_id
    RETURNING relations.user_id, relations.kind, relations.target_id
)
INSERT INTO removed_relations (user_id, kind, target_id, remove_time)
SELECT user_id, kind, target_id, CAST(:now AS timestamptz) FROM deleted
ORDER BY user_id, kind, target_id
ON CONFLICT (user_id, kind, target_id) DO UPDATE SET remove_time = excluded.remove_time,
    xid = pg_current_xact_id()

-- name: delete_user_relations
-- Remove a user's relations, in both directions.
DELETE FROM relations WHERE user_id = :user_id OR target_id = :user_id

-- name: delete_user_removed_relations
-- Forget a user's relations of the past, in both directions.
DELETE FROM removed_relations WHERE user_id = :user_id OR target_id = :user_id

-- name: delete_old_removed_relations
-- Bounded deletion of removals that every index has read long ago.
DELETE FROM removed_relations WHERE (user_id, kind, target_id) IN (
    SELECT user_id, kind, target_id FROM removed_relations
    WHERE remove_time < :before ORDER BY remove_time LIMIT :count
)

-- name: delete_user_interactions
-- Remove a user's interactions.
DELETE FROM interactions WHERE user_id = :user_id

-- name: delete_user
-- Remove a user.
DELETE FROM users WHERE user_id = :user_id

-- name: lock_user
-- Wait for everyone who writes something of a user.
SELECT 1 FROM users WHERE user_id = :user_id FOR UPDATE

-- name: insert_erasure
-- Make the user index notice a removal.
INSERT INTO erasures (erase_time) VALUES (:now)
