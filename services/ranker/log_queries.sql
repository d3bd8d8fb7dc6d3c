-- name: find_snapshot
-- The features that one Rank call used for one user.
SELECT snapshot_time, model_version, features FROM snapshots
WHERE day = :day AND user_id = :user_id AND rank_id = :rank_id;

-- name: latest_snapshots
-- Of the snapshots in the last 128 pages of a day's partition the newest ones with events: what was
-- written last stands there, and no index by time is kept up for this alone.
SELECT features, cardinality(event_ids) AS event_count, events FROM snapshots
WHERE day = :day AND event_ids <> '{}' AND ctid >= (
    SELECT CAST(format('(%s,0)', greatest(0, pg_relation_size(CAST(:partition AS regclass))
        / CAST(current_setting('block_size') AS bigint) - 128)) AS tid)
)
ORDER BY snapshot_time DESC LIMIT :most;

-- name: insert_decisions
-- Decisions of the feed; one that is known stays as it is.
INSERT INTO decisions
    (day, decision_id, user_id, decide_time, rank_id, event_id, channel, push_disabled)
SELECT * FROM unnest(
    CAST(:days AS date[]), CAST(:decision_ids AS text[]), CAST(:user_ids AS text[]),
    CAST(:times AS timestamptz[]), CAST(:rank_ids AS text[]), CAST(:event_ids AS text[]),
    CAST(:channels AS smallint[]), CAST(:push_disabled AS boolean[])
)
ON CONFLICT DO NOTHING;

-- name: insert_outcomes
-- What became of decisions; a report that is known stays as it is.
INSERT INTO outcomes (day, decision_id, outcome_id, user_id, kind, outcome_time)
SELECT * FROM unnest(
    CAST(:days AS date[]), CAST(:decision_ids AS text[]), CAST(:outcome_ids AS text[]),
    CAST(:user_ids AS text[]), CAST(:kinds AS smallint[]), CAST(:times AS timestamptz[])
)
ON CONFLICT DO NOTHING;

-- name: insert_sessions
-- Sessions and app deletes; a report that is known stays as it is.
INSERT INTO sessions (day, session_id, user_id, session_time, app_deleted)
SELECT * FROM unnest(
    CAST(:days AS date[]), CAST(:session_ids AS text[]), CAST(:user_ids AS text[]),
    CAST(:times AS timestamptz[]), CAST(:app_deleted AS boolean[])
)
ON CONFLICT DO NOTHING;

-- name: decided
-- Ranked decisions of one day with their snapshots, and all outcomes, after a key, in key order.
SELECT made.decision_id, made.user_id, made.decide_time, made.event_id, made.channel,
       made.push_disabled, kept.features, kept.event_ids, kept.events,
       ends.kinds, ends.times
FROM decisions AS made
JOIN snapshots AS kept
    ON kept.rank_id = made.rank_id AND kept.user_id = made.user_id
    AND kept.day IN (made.day - 1, made.day, made.day + 1)
LEFT JOIN LATERAL (
    SELECT array_agg(kind) AS kinds, array_agg(outcome_time) AS times FROM outcomes
    WHERE outcomes.day = made.day AND outcomes.user_id = made.user_id
    AND outcomes.decision_id = made.decision_id
) AS ends ON true
WHERE made.day = :day AND made.rank_id <> ''
    AND made.decide_time >= :start AND made.decide_time < :end
    AND (made.user_id, made.decision_id) > (:user_id, :decision_id)
ORDER BY made.user_id, made.decision_id
LIMIT :most;

-- name: sessions_of
-- Sessions of users in an interval of time, in order.
SELECT user_id, session_time, app_deleted FROM sessions
WHERE day >= :first_day AND day <= :last_day AND user_id = ANY(CAST(:user_ids AS text[]))
ORDER BY user_id, session_time;

-- name: promoted
-- The model version that serves; no row before the first promotion.
SELECT version FROM promotions ORDER BY seq DESC LIMIT 1;

-- name: promotion_by_request
SELECT version FROM promotions WHERE request_id = :request_id;

-- name: insert_promotion
INSERT INTO promotions (request_id, version, promote_time)
VALUES (:request_id, :version, :promote_time);

-- name: erase_snapshots
DELETE FROM snapshots WHERE user_id = :user_id;

-- name: erase_decisions
DELETE FROM decisions WHERE user_id = :user_id;

-- name: erase_outcomes
DELETE FROM outcomes WHERE user_id = :user_id;

-- name: erase_sessions
DELETE FROM sessions WHERE user_id = :user_id;
