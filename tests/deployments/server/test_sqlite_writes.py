"""Two transactions of Prefect's server that read before they write, on a real SQLite file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from deployments.server.sqlite_writes import wait_to_write


async def count_twice(database: Path, wait_s: float | None) -> int:
    """Both read the count and write it increased; each waits `wait_s` (None: without end) for the other to have read,
    before it writes."""
    config = AioSqliteConfiguration(f"sqlite+aiosqlite:///{database}")
    engine = await config.engine()
    async with engine.begin() as connection:
        await connection.execute(sa.text("CREATE TABLE counted (n INTEGER)"))
        await connection.execute(sa.text("INSERT INTO counted VALUES (0)"))
    begun = [asyncio.Event(), asyncio.Event()]

    async def one_more(own: int) -> None:
        session = await config.session(engine)
        async with session, config.begin_transaction(session):
            count = (await session.execute(sa.text("SELECT n FROM counted"))).scalar_one()
            begun[own].set()
            await asyncio.wait([asyncio.ensure_future(begun[1 - own].wait())], timeout=wait_s)
            await session.execute(sa.text("UPDATE counted SET n = :n"), {"n": count + 1})

    try:
        await asyncio.gather(one_more(0), one_more(1))
        async with engine.connect() as connection:
            return int((await connection.execute(sa.text("SELECT n FROM counted"))).scalar_one())
    finally:
        await engine.dispose()


def test_a_transaction_that_reads_first_waits_instead_of_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction
    )  # so that it is put back
    with pytest.raises(OperationalError, match="database is locked"):
        asyncio.run(count_twice(tmp_path / "before.db", wait_s=None))
    wait_to_write()
    assert asyncio.run(count_twice(tmp_path / "after.db", wait_s=0.05)) == 2
