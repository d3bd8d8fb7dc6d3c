-- name: put_target
INSERT INTO targets (experiment_group, segment, channel, per_day, update_time)
VALUES (:group, :segment, :channel, :per_day, :now)
ON CONFLICT (experiment_group, segment, channel) DO UPDATE
SET per_day = excluded.per_day, update_time = excluded.update_time

-- name: put_threshold
-- The state that goes with a target: it acts at once, not at the next tick.
INSERT INTO thresholds (
    experiment_group, segment, channel, threshold, band_low, band_high, quantile, integral, error
)
VALUES (
    :group, :segment, :channel, :threshold, :band_low, :band_high, :quantile, :integral, :error
)
ON CONFLICT (experiment_group, segment, channel) DO UPDATE
SET threshold = excluded.threshold, band_low = excluded.band_low, band_high = excluded.band_high,
    quantile = excluded.quantile, integral = excluded.integral, error = excluded.error,
    version = thresholds.version + 1

-- name: lock_cell
SELECT
    experiment_group, segment, channel, per_day, threshold, band_low, band_high, quantile,
    integral, error, step_time, step_count, version
FROM targets JOIN thresholds USING (experiment_group, segment, channel)
WHERE experiment_group = :group AND segment = :segment AND channel = :channel
FOR UPDATE

-- name: read_cells
-- Cells under a target, with their controller's state.
SELECT
    experiment_group, segment, channel, per_day, threshold, band_low, band_high, quantile,
    integral, error, step_time, step_count, version
FROM targets JOIN thresholds USING (experiment_group, segment, channel)
ORDER BY experiment_group, segment, channel

-- name: open_thresholds
-- First thresholds, read off the first offers; who was first stands.
UPDATE thresholds
SET threshold = given.threshold, band_low = given.band_low, band_high = given.band_high,
    version = version + 1
FROM unnest(
    CAST(:groups AS text[]), CAST(:segments AS text[]), CAST(:channels AS smallint[]),
    CAST(:thresholds AS double precision[]), CAST(:band_lows AS double precision[]),
    CAST(:band_highs AS double precision[])
) AS given (experiment_group, segment, channel, threshold, band_low, band_high)
WHERE thresholds.experiment_group = given.experiment_group
    AND thresholds.segment = given.segment AND thresholds.channel = given.channel
    AND thresholds.threshold IS NULL

-- name: try_own
-- One controller at a time, until the transaction ends.
SELECT pg_try_advisory_xact_lock(hashtextextended('controller:' || current_schema, 0)) AS owned

-- name: store_steps
-- Compare-and-set: only on the version that the step was computed from.
UPDATE thresholds
SET threshold = given.threshold, band_low = given.band_low, band_high = given.band_high,
    quantile = given.quantile, integral = given.integral, error = given.error,
    step_time = :now, step_count = given.step_count,
    version = thresholds.version + 1
FROM unnest(
    CAST(:groups AS text[]), CAST(:segments AS text[]), CAST(:channels AS smallint[]),
    CAST(:versions AS bigint[]), CAST(:thresholds AS double precision[]),
    CAST(:band_lows AS double precision[]), CAST(:band_highs AS double precision[]),
    CAST(:quantiles AS double precision[]), CAST(:integrals AS double precision[]),
    CAST(:errors AS double precision[]), CAST(:step_counts AS bigint[])
) AS given (
    experiment_group, segment, channel, version, threshold, band_low, band_high, quantile,
    integral, error, step_count
)
WHERE thresholds.experiment_group = given.experiment_group
    AND thresholds.segment = given.segment AND thresholds.channel = given.channel
    AND thresholds.version = given.version
RETURNING
    thresholds.experiment_group, thresholds.segment, thresholds.channel

-- name: sum_volume
-- A day's volume by cell and kind.
SELECT experiment_group, segment, channel, kind, sum(count) AS total
FROM volume
WHERE day = :day
GROUP BY experiment_group, segment, channel, kind

-- name: recent_offers
-- What was offered lately, newest batches first.
SELECT experiment_group, segment, channel, record_time, offer_count, user_hashes, utilities
FROM offers
WHERE day >= CAST(:first_day AS date) AND record_time > CAST(:since AS timestamptz)
ORDER BY record_time DESC
LIMIT :limit

-- name: offers_by_bin
-- Offers of past days by cell and bin of five minutes of the UTC day.
SELECT
    day, experiment_group, segment, channel,
    CAST(floor(extract(epoch FROM record_time - CAST(day AS timestamp) AT TIME ZONE 'UTC') / 300)
        AS integer) AS bin,
    sum(offer_count) AS total
FROM offers
WHERE day >= CAST(:first_day AS date) AND day < CAST(:day AS date)
GROUP BY 1, 2, 3, 4, 5

-- name: slot_groups
-- How many recipients share time zone and slot hours.
SELECT time_zone, slot_hours, count(*) AS total FROM recipients GROUP BY time_zone, slot_hours

-- name: sample_recipients
-- Users in the order of their hash partitions: any first thousands are a fair sample.
SELECT
    user_id, CAST(create_time AT TIME ZONE 'UTC' AS date) AS create_day, activity, activity_day,
    slot_hours,
    opt_ins & reachable & ~muted_channels AS channels
FROM recipients
LIMIT :limit

-- name: count_recipients
SELECT count(*) AS total FROM recipients

-- name: put_objective
INSERT INTO objectives (segment, heads, channels, weights, update_time)
VALUES (
    :segment, CAST(:heads AS smallint[]), CAST(:channels AS smallint[]),
    CAST(:weights AS double precision[]), :now
)
ON CONFLICT (segment) DO UPDATE
SET heads = excluded.heads, channels = excluded.channels, weights = excluded.weights,
    update_time = excluded.update_time

-- name: read_objectives
SELECT segment, heads, channels, weights FROM objectives ORDER BY segment
