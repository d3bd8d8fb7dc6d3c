-- Statements of StreamSendability.

-- name: users_alike
-- The next users after one of them, those whom no rule tells apart together. Both tables are read
-- in the order of user_id: to look each user's sends up takes three times as long.
WITH page AS (
    SELECT user_id, time_zone, opt_ins, reachable, muted_channels, quiet_start, quiet_end,
        coalesce(snooze_until > :now, false) AS snoozed
    FROM recipients WHERE user_id > :after ORDER BY user_id LIMIT :limit
),
page_end AS (SELECT max(user_id) AS last_user FROM page),
sent AS (
    SELECT user_id, counted.*
    FROM fatigue CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE channel = 1) AS push,
            count(*) FILTER (WHERE channel = 2) AS email,
            count(*) FILTER (WHERE channel = 3) AS in_app, max(time) AS last_time
        FROM unnest(send_times, send_channels) AS send (time, channel)
        WHERE time > :counted_since
    ) AS counted
    WHERE user_id > :after AND user_id <= (SELECT last_user FROM page_end)
        AND cardinality(send_times) > 0
)
SELECT time_zone, opt_ins, reachable, muted_channels, quiet_start, quiet_end, snoozed,
    coalesce(push, 0) AS push, coalesce(email, 0) AS email, coalesce(in_app, 0) AS in_app,
    coalesce(last_time > :gap_since, false) AS in_gap, max(last_time) AS last_time,
    array_agg(user_id) AS user_ids, (SELECT last_user FROM page_end) AS last_user
FROM page LEFT JOIN sent USING (user_id)
GROUP BY time_zone, opt_ins, reachable, muted_channels, quiet_start, quiet_end, snoozed,
    coalesce(push, 0), coalesce(email, 0), coalesce(in_app, 0),
    coalesce(last_time > :gap_since, false)
