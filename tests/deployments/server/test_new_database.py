"""The database that our servers begin with is the one that Prefect would make."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deployments.server import new_database
from deployments.server.new_database import make_database
from tests.processes import own_environment

MIGRATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""
Content = tuple[list[tuple[str, str, list[str]]], dict[str, list[tuple[object, ...]]]]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """Where Prefect's settings say that its database is."""
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

    path = tmp_path / "prefect.db"
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{path}"}):
        yield path


def content(path: Path) -> Content:
    """The definitions, whose constraints Prefect writes in another order each time, and all rows."""
    with closing(sqlite3.connect(path)) as connection:
        definitions = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        tables = [name for kind, name, _ in definitions if kind == "table"]
        rows = {name: connection.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall() for name in tables}
    lines = [
        (kind, name, sorted(line.strip().rstrip(",") for line in (sql or "").splitlines()))
        for kind, name, sql in definitions
    ]
    return lines, rows


def own_migrations(database: Path) -> None:
    """What Prefect's server does when it starts, in a process of its own: Prefect keeps the first database of each."""
    environment = own_environment(PREFECT_API_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{database}")
    subprocess.run([sys.executable, "-P", "-c", MIGRATE], env=environment, check=True, timeout=300)


@pytest.mark.heavy
def test_it_is_the_one_that_prefect_makes(database: Path, tmp_path: Path) -> None:
    own_migrations(database)
    theirs = content(database)
    for file in tmp_path.iterdir():
        file.unlink()
    make_database()
    assert [path.name for path in tmp_path.iterdir()] == ["prefect.db"]
    ours = content(database)
    assert len(ours[0]) > 100
    assert ours[1]["alembic_version"] == theirs[1]["alembic_version"] != []
    assert ours == theirs


def test_the_server_finds_nothing_left_to_do(database: Path) -> None:
    make_database()
    before = content(database)
    own_migrations(database)
    assert content(database) == before


def test_a_database_that_is_there_is_left_alone(database: Path) -> None:
    database.write_bytes(b"of somebody")
    make_database()
    assert database.read_bytes() == b"of somebody"


def test_one_that_comes_meanwhile_is_left_alone(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_database, "_write", lambda begun: begun.touch() or database.write_bytes(b"of somebody"))
    make_database()
    assert [path.name for path in database.parent.iterdir()] == ["prefect.db"]
    assert database.read_bytes() == b"of somebody"


def test_where_it_fails_the_server_makes_it(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(begun: Path) -> None:
        begun.write_bytes(b"half of it")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(new_database, "_write", full)
    make_database()
    assert [*tmp_path.iterdir()] == [] and not database.exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+asyncpg://somebody@127.0.0.1/prefect",
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true",
        "sqlite+aiosqlite:////no/such/folder/prefect.db",
    ],
)
def test_other_databases_are_left_to_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

    monkeypatch.setattr(new_database, "_write", lambda begun: pytest.fail(f"{begun} is written"))
    with temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: url}):
        make_database()


def test_none_is_made_where_prefect_is_told_not_to(database: Path) -> None:
    from prefect.settings import PREFECT_API_DATABASE_MIGRATE_ON_START, temporary_settings

    with temporary_settings({PREFECT_API_DATABASE_MIGRATE_ON_START: False}):
        make_database()
    assert not database.exists()
