"""Users' pools are locked, and their bounds raised, in one statement."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# An update locks the rows that it joins in the order in which it meets them: here that of the
# array, whatever the statistics say, as no other way to join is left to the planner.
CLAIMING = """
CREATE FUNCTION claim_pools(ids text[], counts integer[])
RETURNS TABLE (user_ids text[], pool_bounds integer[]) LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY WITH claimed AS (
        UPDATE users SET pool_bound = users.pool_bound + arriving.count
        FROM unnest(ids, counts) AS arriving(id, count) WHERE users.user_id = arriving.id
        RETURNING users.user_id, users.pool_bound
    )
    SELECT array_agg(claimed.user_id), array_agg(claimed.pool_bound) FROM claimed;
END $$;
COMMENT ON FUNCTION claim_pools IS
    'Locks users, whose ids are ascending, in this order, and adds to the bounds of their pools.';
"""


def upgrade() -> None:
    """Add the function."""
    op.execute(CLAIMING)
