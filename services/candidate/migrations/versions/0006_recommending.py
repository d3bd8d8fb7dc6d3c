"""Recommendations given, scenarios, spread caps and quotas of campaigns."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RECOMMENDING = """
CREATE TABLE recommendations (
    recommendation_id text COLLATE "C" NOT NULL,
    page integer NOT NULL,
    direction smallint NOT NULL
        CONSTRAINT recommendation_direction_known CHECK (direction BETWEEN 1 AND 4),
    subject text COLLATE "C" NOT NULL,
    scenario text COLLATE "C" NOT NULL,
    answer_time timestamptz NOT NULL,
    returned text[] NOT NULL,
    CONSTRAINT recommendation_given_once PRIMARY KEY (recommendation_id, page)
);
CREATE INDEX recommendations_subject
    ON recommendations (subject, direction, scenario, answer_time);
CREATE INDEX recommendations_age ON recommendations (answer_time);
-- To find the answers that a removed user stands in; items are not removed.
CREATE INDEX recommendations_users ON recommendations USING gin (returned)
    WHERE direction IN (1, 2);

ALTER TABLE interactions ADD COLUMN recommendation_id text NOT NULL DEFAULT '';

CREATE TABLE scenarios (
    name text COLLATE "C" CONSTRAINT scenario_named_once PRIMARY KEY,
    body bytea NOT NULL
);

ALTER TABLE campaigns
    ADD COLUMN expected double precision NOT NULL DEFAULT 0,
    ADD COLUMN spread_omitted integer NOT NULL DEFAULT 0,
    ADD COLUMN quota_omitted integer NOT NULL DEFAULT 0,
    ADD COLUMN refused integer NOT NULL DEFAULT 0;
-- Who was told of an item by campaigns, for spread caps.
CREATE INDEX events_told ON events ((item_ids[1]), accept_time) WHERE campaign_id <> '';

CREATE TABLE team_quotas (
    team text COLLATE "C" CONSTRAINT team_quota_once PRIMARY KEY,
    events_per_day integer
);
COMMENT ON COLUMN team_quotas.events_per_day IS 'NULL: no limit.';

-- Committed with the events that it counts.
CREATE TABLE team_usage (
    team text COLLATE "C" NOT NULL,
    day date NOT NULL,
    events integer NOT NULL,
    CONSTRAINT team_day_counted_once PRIMARY KEY (team, day)
);
CREATE INDEX team_usage_day ON team_usage (day);

-- For the exposure report.
CREATE INDEX events_sent ON events (end_time, user_id) WHERE end_kind = 1;
"""


def upgrade() -> None:
    """Add the tables."""
    op.execute(RECOMMENDING)
