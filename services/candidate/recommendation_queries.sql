-- Statements on recommendations that were given, scenarios and exposure.

-- name: insert_recommendations
-- Store pages of answers; a page that was given again is stored once.
INSERT INTO recommendations (recommendation_id, page, direction, subject, scenario, answer_time,
    returned)
SELECT recommendation_id, page, direction, subject, scenario, answer_time,
    CAST(returned AS text[])
FROM unnest(CAST(:recommendation_ids AS text[]), CAST(:pages AS integer[]),
    CAST(:directions AS smallint[]), CAST(:subjects AS text[]), CAST(:scenarios AS text[]),
    CAST(:times AS timestamptz[]), CAST(:returned AS text[]))
    AS new(recommendation_id, page, direction, subject, scenario, answer_time, returned)
ON CONFLICT (recommendation_id, page) DO NOTHING

-- name: recently_returned
-- What other answers to a question returned in a time, and when last.
SELECT id, max(answer_time) AS last_time
FROM recommendations CROSS JOIN unnest(returned) AS entry(id)
WHERE subject = :subject AND direction = :direction AND scenario = :scenario
    AND answer_time > :since AND answer_time <= :until
    AND recommendation_id <> :recommendation_id
GROUP BY id

-- name: get_recommendation
-- What an answer was about. Without its first page it is beyond its retention; about a user who was
-- removed, nothing is told.
SELECT direction, subject, scenario, answer_time, page_count, returned_count
FROM recommendations CROSS JOIN (
    SELECT count(*) AS page_count, sum(cardinality(returned)) AS returned_count
    FROM recommendations WHERE recommendation_id = :recommendation_id
) AS whole
WHERE recommendation_id = :recommendation_id AND page = 0
    AND (direction IN (1, 4) OR EXISTS (SELECT FROM users WHERE user_id = subject))

-- name: returned_ids
-- What an answer returned, in its order, after a place in a page.
SELECT page, place, id
FROM recommendations CROSS JOIN unnest(returned) WITH ORDINALITY AS entry(id, place)
WHERE recommendation_id = :recommendation_id AND page >= :page AND (page, place) > (:page, :place)
ORDER BY page, place LIMIT :count

-- name: interactions_naming
-- The newest interactions that name an answer, each with its rank there, and how many there are.
-- The index, of those that name one, is used as the last condition says so.
WITH answer AS (
    SELECT id, min(place) AS rank
    FROM (
        SELECT id, row_number() OVER (ORDER BY page, place) AS place
        FROM recommendations CROSS JOIN unnest(returned) WITH ORDINALITY AS entry(id, place)
        WHERE recommendation_id = :recommendation_id
    ) AS returned
    GROUP BY id
)
SELECT user_id, item_id, interact_time, weight, kind, coalesce(rank, 0) AS rank,
    count(*) OVER () AS named_count, count(rank) OVER () AS ranked_count
FROM interactions LEFT JOIN answer
    ON id = CASE WHEN CAST(:direction AS integer) IN (1, 2) THEN user_id ELSE item_id END
    AND CASE CAST(:direction AS integer) WHEN 1 THEN item_id = :subject
        WHEN 3 THEN user_id = :subject ELSE true END
WHERE recommendation_id = :recommendation_id AND recommendation_id <> ''
ORDER BY interact_time DESC, user_id, item_id LIMIT :count

-- name: delete_old_recommendations
-- Bounded deletion of answers given long ago.
DELETE FROM recommendations USING (
    SELECT recommendation_id, page FROM recommendations WHERE answer_time < :before
    ORDER BY answer_time LIMIT :count
) AS old
WHERE recommendations.recommendation_id = old.recommendation_id
    AND recommendations.page = old.page

-- name: delete_user_recommendations
-- Remove the answers about a user.
DELETE FROM recommendations WHERE subject = :user_id AND direction IN (2, 3)

-- name: leave_recommendations
-- Remove a user from the answers of others.
UPDATE recommendations SET returned = array_remove(returned, :user_id)
WHERE direction IN (1, 2) AND returned @> ARRAY[CAST(:user_id AS text)]

-- name: get_scenario
-- One stored scenario.
SELECT body FROM scenarios WHERE name = :name

-- name: put_scenario
-- Store a scenario, or change it.
INSERT INTO scenarios (name, body) VALUES (:name, :body)
ON CONFLICT (name) DO UPDATE SET body = excluded.body

-- name: delete_scenario
-- Remove a stored scenario.
DELETE FROM scenarios WHERE name = :name RETURNING body

-- name: list_scenarios
-- Stored scenarios by name, after a name.
SELECT name, body FROM scenarios WHERE name > :after ORDER BY name LIMIT :count

-- name: sends_per_user
-- How many users got how many sends in a time.
SELECT sends, count(*) AS users FROM (
    SELECT user_id, count(*) AS sends FROM events
    WHERE end_kind = 1 AND end_time > :since AND end_time <= :until GROUP BY user_id
) AS reached
GROUP BY sends

-- name: count_users
-- How many users there are.
SELECT count(*) AS users FROM users

-- name: user_blocks
-- Of how many blocks the table of users is.
SELECT pg_relation_size('users') / CAST(current_setting('block_size') AS integer) AS blocks

-- name: pool_bounds
-- How many events at most wait in pools, of users between two places in the table, with any: names
-- by bound, one a line. A transaction that goes through all places sees each user once.
SELECT pool_bound, string_agg(user_id, chr(10)) AS user_ids
FROM users
WHERE pool_bound > 0 AND ctid >= CAST(:first AS tid) AND ctid < CAST(:end AS tid)
GROUP BY pool_bound
