"""A new SQLite database for Prefect's server, made in a quarter of the time that the server itself takes.

Prefect makes one by all its migrations since 2022, whose 34,000 small questions each wait for another thread; here the
same migrations run in this thread and in memory.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


def make_database() -> None:
    """Make the database that Prefect's settings name, if it is a file of SQLite that there is not yet.

    Where that is not possible, nothing is left behind: the server then makes its database itself, or says why not.
    """
    path = _missing_file()
    if path is None:
        return
    begun = path.with_name(f"{path.name}.new")
    try:
        _write(begun)
        os.link(begun, path)  # fails if there is one by now
    except Exception:  # noqa: BLE001  (whatever it is, the server does the same again, and says what is wrong)
        pass
    finally:
        with suppress(OSError):
            begun.unlink()


def _missing_file() -> Path | None:
    from prefect.settings import get_current_settings
    from sqlalchemy import make_url

    settings = get_current_settings().server.database
    if settings.connection_url is None or not settings.migrate_on_start:
        return None
    url = make_url(settings.connection_url.get_secret_value())
    if url.get_backend_name() != "sqlite" or url.query or not url.database or url.database.startswith((":", "file:")):
        return None
    path = Path(url.database)
    return None if os.path.lexists(path) or not path.parent.is_dir() else path


def _write(path: Path) -> None:
    """Write a database in the newest form to a new file."""
    with _migrated() as connection, closing(sqlite3.connect(path)) as file:
        cast("sqlite3.Connection", connection.connection.driver_connection).backup(file)


@contextmanager
def _migrated() -> Iterator[Connection]:
    """A database in memory after all of Prefect's migrations, configured as its `_migrations/env.py` does."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from prefect.server.database import provide_database_interface
    from prefect.server.database.alembic_commands import alembic_config
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE

    interface = provide_database_interface()
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    script.version_locations = [str(interface.orm.versions_dir)]

    def all_of_them(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)  # as `alembic upgrade head` does

    mode, engine = SQLITE_BEGIN_MODE.set("IMMEDIATE"), _in_memory()
    try:
        with (
            warnings.catch_warnings(),
            engine.connect() as connection,
            EnvironmentContext(config, script, fn=all_of_them, destination_rev="head") as environment,
        ):
            warnings.simplefilter("ignore")
            environment.configure(
                connection=connection,
                target_metadata=interface.Base.metadata,
                include_schemas=True,
                render_as_batch=True,
                transaction_per_migration=True,
                template_args={"dialect": "sqlite"},
            )
            with environment.begin_transaction():
                environment.run_migrations()
            connection.commit()
            yield connection
    finally:
        engine.dispose()
        SQLITE_BEGIN_MODE.reset(mode)


def _in_memory() -> Engine:
    """An engine that keeps one connection, and begins transactions as Prefect's does."""
    from prefect.server.database.configurations import SQLITE_BEGIN_MODE
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", paramstyle="named", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # else the driver begins transactions of its own
        connection.execute("PRAGMA legacy_alter_table=OFF")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if (mode := SQLITE_BEGIN_MODE.get()) is not None:
            connection.exec_driver_sql(f"BEGIN {mode}")

    return engine
