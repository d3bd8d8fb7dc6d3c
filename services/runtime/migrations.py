"""Roles, schemas and schema migrations.

Each service has one role `heliograph_<name>` that owns one schema `<name>` and can touch nothing
else. Migrations are Alembic revisions at `services/<name>/migrations/versions/`, run forward only
under that role; the schema holds its own version table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text

from services.runtime.database import DRIVER
from services.runtime.roles import role_name, role_password

SERVICES = ("candidate", "ranker", "policy", "copygen", "pacer")
MAINTENANCE_DATABASE = "postgres"
VERSION_TABLE = "alembic_version"
ROLE_ATTEMPTS = 20
ROLE_RETRY_SECONDS = 0.05

_LOCK_KEY = 0x68656C696F  # "helio", any constant will do
# Alembic's `op` is one per process.
_alembic = threading.Lock()


def migrate(
    admin_url: str, secret_key: SecretStr, services: Iterable[str] = SERVICES
) -> dict[str, str | None]:
    """Create what is missing (database, roles, schemas) and migrate each service to its newest.

    `admin_url` names the database and a role that may create databases and roles. Idempotent;
    concurrent callers wait for one another; the services' migrations take effect together or not
    at all. Returns the revision each service is at, None for one without migrations.
    """
    names = list(services)
    _create_missing_database(admin_url)
    engine = create_engine(make_url(admin_url).set(drivername=DRIVER), poolclass=NullPool)
    with _alembic, _psycopg_connection(admin_url) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [_LOCK_KEY])  # until this connection closes
        _create_roles(admin, names, secret_key)
        _restrict_database(admin)
        admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        with engine.begin() as connection:
            return {name: _migrate_service(connection, name) for name in names}


def create_database(admin_url: str, name: str, template: str | None = None) -> str:
    """Create a database, as a copy of `template` if given, and return its URL for the admin.

    A template that someone is connected to can't be copied.
    """
    with _psycopg_connection(_in_database(admin_url, MAINTENANCE_DATABASE)) as connection:
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        connection.execute(statement)
    url = _in_database(admin_url, name)
    if template is not None:  # privileges on the database itself are not copied
        with _psycopg_connection(url) as connection:
            _restrict_database(connection)
    return url.render_as_string(hide_password=False)


def drop_database(admin_url: str, name: str) -> None:
    """Drop a database if it exists, with whoever is connected to it."""
    with _psycopg_connection(_in_database(admin_url, MAINTENANCE_DATABASE)) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


def _in_database(url: str, name: str) -> URL:
    return make_url(url).set(database=name)


def _psycopg_connection(url: str | URL) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql")
    return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)


def _create_missing_database(admin_url: str) -> None:
    name = make_url(admin_url).database
    if name is None:
        raise ValueError("the database URL names no database")
    try:
        _psycopg_connection(admin_url).close()
    except psycopg.OperationalError:  # not there, or else the next line fails as well
        with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            create_database(admin_url, name)


def _create_roles(
    connection: psycopg.Connection, services: Iterable[str], secret_key: SecretStr
) -> None:
    """Create each role, or bring its password up to date.

    Roles belong to the whole server, where no lock of one database reaches, so a concurrent
    change of the same role is answered by trying again.
    """
    for service in services:
        for attempt in range(ROLE_ATTEMPTS):
            try:
                _create_role(connection, service, role_password(service, secret_key))
                break
            except (
                psycopg.errors.DuplicateObject,
                psycopg.errors.UniqueViolation,
                psycopg.errors.InternalError_,  # "tuple concurrently updated"
            ):
                if attempt == ROLE_ATTEMPTS - 1:
                    raise
                time.sleep(ROLE_RETRY_SECONDS)


def _create_role(connection: psycopg.Connection, service: str, password: str) -> None:
    role = sql.Identifier(role_name(service))
    found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role_name(service)])
    verb = sql.SQL("CREATE" if found.fetchone() is None else "ALTER")
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, sql.Literal(password))
    )
    connection.execute(
        sql.SQL("ALTER ROLE {} SET search_path = {}").format(role, sql.Identifier(service))
    )
    membership = connection.execute(
        "SELECT pg_has_role(current_user, %s, 'SET')", [role_name(service)]
    ).fetchone()
    if membership == (False,):  # an admin that is no superuser
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))


def _restrict_database(connection: psycopg.Connection) -> None:
    """Let only the services' roles connect to the database, and do nothing else with it."""
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    known = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'heliograph\\_%'")
    roles = [sql.Identifier(name) for (name,) in known]
    connection.execute(
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.SQL(", ").join(roles))
    )


def _migrate_service(connection: Connection, service: str) -> str | None:
    role = role_name(service)
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {service} AUTHORIZATION {role}"))
    versions = _versions(service)
    if versions is None:
        return None
    connection.execute(text(f"SET LOCAL ROLE {role}"))
    connection.execute(text(f"SET LOCAL search_path = {service}"))
    revision = _upgrade(connection, service, versions)
    connection.execute(text("RESET ROLE"))
    return revision


def _versions(service: str) -> Path | None:
    package = find_spec(f"services.{service}")
    for location in (package and package.submodule_search_locations) or ():
        versions = Path(location) / "migrations" / "versions"
        if any(versions.glob("*.py")):
            return versions
    return None


def _upgrade(connection: Connection, service: str, versions: Path) -> str | None:
    script = ScriptDirectory(str(versions.parent), version_locations=[str(versions)])

    def forward(revision: str, _context: MigrationContext) -> list[object]:
        return list(script._upgrade_revs("head", revision))

    with EnvironmentContext(Config(), script, fn=forward, destination_rev="head") as environment:
        environment.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            version_table_schema=service,
        )
        environment.run_migrations()
    return script.get_current_head()
