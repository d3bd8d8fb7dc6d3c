-- Statements of StreamSendability.

-- name: partitions
-- The numbers of the partitions of recipients; each has the users of the same one of fatigue.
SELECT CAST(substring(child.relname FROM '[0-9]+$') AS integer) AS number
FROM pg_catalog.pg_inherits AS link JOIN pg_catalog.pg_class AS child ON child.oid = link.inhrelid
WHERE link.inhparent = CAST('recipients' AS regclass)
ORDER BY number

-- name: users_alike
-- The users of one partition, those whom no rule tells apart together. Partitions are read from
-- end to end: in the order of user_id each row would have to be looked up, which takes four times
-- as long where users didn't come in that order. One text to group by takes half as long as nine
-- columns, which are sorted. send_times ascend, so that width_bucket says how many don't count any
-- more.
SELECT
    concat(
        opt_ins, ',', reachable, ',', muted_channels, ',', quiet_start, ',', quiet_end, ',',
        coalesce(snooze_until > :now, false), ',', sends, ',', in_gap, ',', time_zone
    ) AS kind,
    string_agg(user_id, chr(10)) AS user_ids
FROM recipients_{number} LEFT JOIN (
    SELECT user_id,
        array_to_string(
            send_channels[1 + width_bucket(:counted_since, send_times):], ''
        ) AS sends,
        send_times[cardinality(send_times)] > :gap_since AS in_gap
    FROM fatigue_{number} WHERE send_times[cardinality(send_times)] > :counted_since
) AS sent USING (user_id)
GROUP BY kind
