-- name: current
-- What was named last; an empty version means that none shadows.
SELECT seq, version, share FROM shadows ORDER BY seq DESC LIMIT 1;

-- name: by_request
SELECT version, share FROM shadows WHERE request_id = :request_id;

-- name: insert_shadow
INSERT INTO shadows (request_id, version, share, name_time)
VALUES (:request_id, :version, :share, :name_time);

-- name: add_scores
-- Sums of calls, added to what is there.
INSERT INTO shadow_scores AS known
    (shadow, served_version, head, events, served, shadowed, difference, calls, correlation)
SELECT * FROM unnest(
    CAST(:shadows AS bigint[]), CAST(:served_versions AS text[]), CAST(:heads AS smallint[]),
    CAST(:events AS bigint[]), CAST(:served AS float8[]), CAST(:shadowed AS float8[]),
    CAST(:difference AS float8[]), CAST(:calls AS bigint[]), CAST(:correlation AS float8[])
)
ON CONFLICT (shadow, served_version, head) DO UPDATE SET
    events = known.events + excluded.events,
    served = known.served + excluded.served,
    shadowed = known.shadowed + excluded.shadowed,
    difference = known.difference + excluded.difference,
    calls = known.calls + excluded.calls,
    correlation = known.correlation + excluded.correlation;

-- name: scores
-- What came of the last time that each version was named, in order.
SELECT named.version, sums.served_version, sums.head,
       sums.events, sums.served, sums.shadowed, sums.difference, sums.calls, sums.correlation
FROM (SELECT version, max(seq) AS seq FROM shadows GROUP BY version) AS named
JOIN shadow_scores AS sums ON sums.shadow = named.seq
ORDER BY named.version, sums.served_version, sums.head;
