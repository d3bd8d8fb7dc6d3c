"""Roles that can touch only their own schema, and migrations that run once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.runtime import migrations
from services.runtime.database import Database
from services.runtime.migrations import drop_database, migrate
from services.runtime.roles import role_name, service_url

FIRST = """
revision = "0001"
down_revision = None

from alembic import op

def upgrade() -> None:
    op.execute("CREATE TABLE steps (step int CONSTRAINT step_once PRIMARY KEY)")
    op.execute("INSERT INTO steps VALUES (1)")
"""
SECOND = """
revision = "0002"
down_revision = "0001"

from alembic import op

def upgrade() -> None:
    op.execute("INSERT INTO steps VALUES (2)")
"""


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations of candidate that this test writes; the other services have none."""
    folder = tmp_path / "migrations" / "versions"
    folder.mkdir(parents=True)
    monkeypatch.setattr(
        migrations, "_versions", lambda service: folder if service == "candidate" else None
    )
    (folder / "0001_steps.py").write_text(FIRST)
    return folder


@pytest.fixture
def empty_url(postgres: str) -> Iterator[str]:
    """URL of a database that does not exist yet."""
    name = f"test_{secrets.token_hex(6)}"
    yield str(migrations._in_database(postgres, name).render_as_string(hide_password=False))
    drop_database(postgres, name)


def steps(url: str, secret_key: SecretStr) -> list[int]:
    with psycopg.connect(service_url(url, "candidate", secret_key)) as connection:
        return [step for (step,) in connection.execute("SELECT step FROM steps ORDER BY step")]


def test_migrations_run_once_and_forward(
    versions: Path, empty_url: str, secret_key: SecretStr
) -> None:
    at_first = {"candidate": "0001", "ranker": None, "policy": None, "copygen": None, "pacer": None}
    assert migrate(empty_url, secret_key) == at_first
    assert migrate(empty_url, secret_key) == at_first
    assert steps(empty_url, secret_key) == [1]
    (versions / "0002_more.py").write_text(SECOND)
    assert migrate(empty_url, secret_key, ["candidate"]) == {"candidate": "0002"}
    assert steps(empty_url, secret_key) == [1, 2]


def test_concurrent_migrators_wait_for_one_another(
    versions: Path, empty_url: str, secret_key: SecretStr
) -> None:
    (versions / "0002_more.py").write_text(SECOND)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: migrate(empty_url, secret_key), range(4)))
    assert [revisions["candidate"] for revisions in done] == ["0002"] * 4
    assert steps(empty_url, secret_key) == [1, 2]


def test_concurrent_migrators_in_processes(
    empty_url: str, secret_key: SecretStr, tmp_path: Path
) -> None:
    """Threads share Alembic's lock; only processes meet in the database."""
    script = tmp_path / "migrator.py"
    script.write_text(
        "import sys, pydantic\nfrom services.runtime.migrations import migrate\n"
        "migrate(sys.argv[1], pydantic.SecretStr(sys.argv[2]))\n"
    )

    async def run() -> list[int]:
        import sys

        command = [sys.executable, str(script), empty_url, secret_key.get_secret_value()]
        started = [await asyncio.create_subprocess_exec(*command) for _ in range(3)]
        return [await process.wait() for process in started]

    assert asyncio.run(run()) == [0, 0, 0]


def test_failed_migration_leaves_nothing(
    versions: Path, empty_url: str, secret_key: SecretStr
) -> None:
    migrate(empty_url, secret_key)
    (versions / "0002_more.py").write_text(SECOND + '    op.execute("SELECT 1 / 0")\n')
    with pytest.raises(DBAPIError, match="division by zero"):
        migrate(empty_url, secret_key)
    assert steps(empty_url, secret_key) == [1]
    (versions / "0002_more.py").write_text(SECOND)
    migrate(empty_url, secret_key)
    assert steps(empty_url, secret_key) == [1, 2]


def test_tables_belong_to_the_services_role(
    versions: Path, empty_url: str, secret_key: SecretStr
) -> None:
    migrate(empty_url, secret_key)
    with psycopg.connect(empty_url) as connection:
        owners = connection.execute(
            "SELECT schemaname, tablename, tableowner FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY tablename"
        ).fetchall()
    assert owners == [
        ("candidate", "alembic_version", "heliograph_candidate"),
        ("candidate", "steps", "heliograph_candidate"),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM candidate.secret_events",
        "INSERT INTO candidate.secret_events VALUES (1)",
        "CREATE TABLE candidate.mine (id int)",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (id int)",
        "SET ROLE heliograph_candidate",
        "SET ROLE postgres",
        "SELECT * FROM pg_authid",
    ],
)
async def test_a_role_touches_only_its_own_schema(
    open_database: Callable[[str], Database], statement: str
) -> None:
    """Both services in this one process, each with its own pool."""
    candidate, policy = open_database("candidate"), open_database("policy")
    async with candidate.unit_of_work() as work:
        await work.execute(text("CREATE TABLE secret_events (id int)"))
        await work.commit()
    async with policy.unit_of_work() as work:
        with pytest.raises(DBAPIError, match="permission denied"):
            await work.execute(text(statement))
    async with policy.unit_of_work() as work:
        await work.execute(text("CREATE TABLE policy_events (id int)"))
        shown = await work.rows(text("SELECT current_user, current_schema"))
    assert tuple(shown[0]) == ("heliograph_policy", "policy")


def test_role_needs_its_password(database_url: str, secret_key: SecretStr) -> None:
    wrong = service_url(database_url, "policy", SecretStr("another key"))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)


def test_new_secret_key_changes_the_passwords(empty_url: str, secret_key: SecretStr) -> None:
    renewed = SecretStr(secrets.token_hex(32))
    migrate(empty_url, renewed)
    try:
        psycopg.connect(service_url(empty_url, "pacer", renewed)).close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(service_url(empty_url, "pacer", secret_key))
    finally:
        migrate(empty_url, secret_key)


def test_an_admin_without_superuser_rights_can_migrate(
    versions: Path, postgres: str, secret_key: SecretStr
) -> None:
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
        for service in migrations.SERVICES:
            role = role_name(service)
            found = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            if found.fetchone():
                connection.execute(f"GRANT {role} TO {name} WITH ADMIN OPTION")
    url = migrations._in_database(postgres, name).set(username=name, password="x")
    try:
        migrate(url.render_as_string(hide_password=False), secret_key)
        assert steps(url.render_as_string(hide_password=False), secret_key) == [1]
    finally:
        drop_database(postgres, name)
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {name}")
            connection.execute(f"DROP ROLE {name}")
