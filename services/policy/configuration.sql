-- name: close_switch
-- Closes a switch; an already closed one keeps its reason and time.
INSERT INTO stop_switches (scope, value, reason, pause_time)
VALUES (:scope, :value, :reason, :now)
ON CONFLICT (scope, value) DO UPDATE SET reason = stop_switches.reason
RETURNING scope, value, reason, pause_time

-- name: open_switch
DELETE FROM stop_switches WHERE scope = :scope AND value = :value RETURNING scope

-- name: closed_switches
-- All closed switches, for decisions and leases.
SELECT scope, value FROM stop_switches

-- name: list_switches
-- Newest first, after a position. Times are compared in whole microseconds.
SELECT scope, value, reason, pause_time
FROM stop_switches
WHERE CAST(:after_time AS timestamptz) IS NULL
    OR pause_time < CAST(:after_time AS timestamptz)
    OR (
        pause_time = CAST(:after_time AS timestamptz)
        AND (scope, value) > (CAST(:after_scope AS text), CAST(:after_value AS text))
    )
ORDER BY pause_time DESC, scope, value
LIMIT :limit

-- name: newest_experiment_version
SELECT version FROM experiment_versions ORDER BY version DESC LIMIT 1

-- name: experiment_version
SELECT experiments FROM experiment_versions WHERE version = :version

-- name: insert_experiment_version
-- The next configuration; its primary key refuses a second one after the same version.
INSERT INTO experiment_versions (version, experiments, create_time)
VALUES (:version, CAST(:experiments AS jsonb), :now)
