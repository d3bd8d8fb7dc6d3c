-- Statements on campaigns and daily generation.

-- name: get_campaign
-- One campaign.
SELECT campaign_id, digest, body, state, audience_size, event_count, next_position, expected,
    spread_omitted, quota_omitted, refused
FROM campaigns WHERE campaign_id = :campaign_id

-- name: lock_campaign
-- One campaign, held until the end of the transaction.
SELECT campaign_id, digest, body, state, audience_size, event_count, next_position
FROM campaigns WHERE campaign_id = :campaign_id FOR UPDATE

-- name: campaign_of_request
-- The campaign that a request launched.
SELECT campaign_id, digest FROM campaigns WHERE request_id = :request_id

-- name: insert_campaign
-- Store a campaign that is about to make its events.
INSERT INTO campaigns (campaign_id, request_id, digest, body, state, audience_size, launch_time)
VALUES (:campaign_id, :request_id, :digest, :body, 1, :audience_size, :now)

-- name: insert_members
-- Store the audience of a campaign, by position from 0.
INSERT INTO campaign_members (campaign_id, position, user_id, score)
SELECT :campaign_id, place - 1, user_id, score
FROM unnest(CAST(:user_ids AS text[]), CAST(:scores AS float8[]))
    WITH ORDINALITY AS member(user_id, score, place)

-- name: next_members
-- The part of the audience that comes next.
SELECT position, user_id, score FROM campaign_members
WHERE campaign_id = :campaign_id AND position >= :position ORDER BY position LIMIT :count

-- name: advance_campaign
-- Record how far a campaign has come.
UPDATE campaigns SET next_position = :position, event_count = event_count + :events, state = :state,
    expected = expected + :expected, spread_omitted = spread_omitted + :spread_omitted,
    quota_omitted = quota_omitted + :quota_omitted, refused = refused + :refused
WHERE campaign_id = :campaign_id

-- name: cancel_campaign
-- End a campaign.
UPDATE campaigns SET state = 3 WHERE campaign_id = :campaign_id

-- name: running_campaigns
-- Campaigns that were launched before a time and still make events.
SELECT campaign_id FROM campaigns WHERE state = 1 AND launch_time <= :before ORDER BY launch_time

-- name: lock_item
-- Let batches of campaigns about one item wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('campaign about ' || :item_id, 0))

-- name: told_users
-- How many users campaigns have told of an item since a time, and which of these users are among
-- them. What ended without a send doesn't count.
SELECT count(DISTINCT user_id) AS total, coalesce(array_agg(DISTINCT user_id)
    FILTER (WHERE user_id = ANY(CAST(:user_ids AS text[]))), '{}') AS again
FROM events
WHERE item_ids[1] = :item_id AND campaign_id <> '' AND accept_time > :since
    AND (end_kind IS NULL OR end_kind IN (1, 2))

-- name: team_quota
-- The limit of a team, and what it has used on a day.
SELECT events_per_day, coalesce(team_usage.events, 0) AS used FROM team_quotas
LEFT JOIN team_usage ON team_usage.team = team_quotas.team AND team_usage.day = :day
WHERE team_quotas.team = :team

-- name: lock_team
-- Let batches of one team's campaigns wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('campaigns of ' || :team, 0))

-- name: use_quota
-- Count events that a team's campaigns make.
INSERT INTO team_usage (team, day, events) VALUES (:team, :day, :events)
ON CONFLICT (team, day) DO UPDATE SET events = team_usage.events + excluded.events

-- name: put_team_quota
-- Set the limit of a team.
INSERT INTO team_quotas (team, events_per_day) VALUES (:team, :events_per_day)
ON CONFLICT (team) DO UPDATE SET events_per_day = excluded.events_per_day

-- name: list_team_quotas
-- Limits by team with what is used on a day, after a team.
SELECT team_quotas.team, events_per_day, coalesce(team_usage.events, 0) AS used FROM team_quotas
LEFT JOIN team_usage ON team_usage.team = team_quotas.team AND team_usage.day = :day
WHERE team_quotas.team > :after ORDER BY team_quotas.team LIMIT :count

-- name: delete_old_usage
-- Bounded deletion of what teams used on past days.
DELETE FROM team_usage USING (
    SELECT team, day FROM team_usage WHERE day < :before ORDER BY day LIMIT :count
) AS old
WHERE team_usage.team = old.team AND team_usage.day = old.day

-- name: delete_user_memberships
-- Remove a user from all audiences.
DELETE FROM campaign_members WHERE user_id = :user_id

-- name: insert_run
-- Begin a generation run.
INSERT INTO generation_runs (day, shard, shard_count, sources, start_time)
VALUES (:day, :shard, :shard_count, CAST(:sources AS text[]), :now) RETURNING run_id

-- name: finish_run
-- Record what a generation run did.
UPDATE generation_runs SET end_time = :now, user_count = :users, event_count = :events
WHERE run_id = :run_id

-- name: past_yields
-- What the runs of the days before one yielded, by day, source and group of users.
SELECT runs.day, yields.source, yields.segment,
    CAST(sum(yields.asked) AS float8) AS asked,
    CAST(sum(yields.productive) AS float8) AS productive,
    CAST(sum(yields.accepted) AS float8) AS accepted,
    CAST(sum(yields.accepted_squares) AS float8) AS accepted_squares,
    CAST(sum(yields.skipped) AS float8) AS skipped,
    sum(yields.seconds) AS seconds
FROM generation_yields AS yields JOIN generation_runs AS runs USING (run_id)
WHERE runs.day < :day AND runs.day >= :since
GROUP BY runs.day, yields.source, yields.segment

-- name: add_yields
-- Count what one chunk of a run yielded.
INSERT INTO generation_yields (run_id, source, segment, asked, productive, accepted,
    accepted_squares, skipped, seconds)
SELECT :run_id, new.* FROM unnest(CAST(:sources AS text[]), CAST(:segments AS smallint[]),
    CAST(:asked AS bigint[]), CAST(:productive AS bigint[]), CAST(:accepted AS bigint[]),
    CAST(:accepted_squares AS bigint[]), CAST(:skipped AS bigint[]), CAST(:seconds AS float8[]))
    AS new
ON CONFLICT (run_id, source, segment) DO UPDATE SET
    asked = generation_yields.asked + excluded.asked,
    productive = generation_yields.productive + excluded.productive,
    accepted = generation_yields.accepted + excluded.accepted,
    accepted_squares = generation_yields.accepted_squares + excluded.accepted_squares,
    skipped = generation_yields.skipped + excluded.skipped,
    seconds = generation_yields.seconds + excluded.seconds

-- name: delete_old_runs
-- Bounded deletion of runs of past days, with what they yielded.
DELETE FROM generation_runs USING (
    SELECT run_id FROM generation_runs WHERE day < :before ORDER BY day LIMIT :count
) AS old
WHERE generation_runs.run_id = old.run_id

-- name: generated_sources
-- Which sources were asked for these users on a day.
SELECT user_id, sources FROM generated
WHERE day = :day AND user_id = ANY(CAST(:user_ids AS text[]))

-- name: mark_generated
-- Record which sources were asked for these users on a day.
INSERT INTO generated (day, user_id, sources)
SELECT CAST(:day AS date), user_id, CAST(sources AS text[])
FROM unnest(CAST(:user_ids AS text[]), CAST(:sources AS text[])) AS new(user_id, sources)
ON CONFLICT (day, user_id) DO UPDATE SET sources = ARRAY(
    SELECT DISTINCT unnest(generated.sources || excluded.sources)
)

-- name: delete_old_generated
-- Bounded deletion of the marks of past days.
DELETE FROM generated USING (
    SELECT day, user_id FROM generated WHERE day < :before ORDER BY day LIMIT :count
) AS old
WHERE generated.day = old.day AND generated.user_id = old.user_id

-- name: delete_user_generated
-- Remove a user's marks.
DELETE FROM generated WHERE user_id = :user_id
