"""Transactions of Prefect's server on SQLite that wait for their turn instead of failing with "database is locked".

Prefect begins most transactions as DEFERRED. One that reads first, as the counting of events for an alarm does, fails
when another has written in between, whatever the busy time-out is: SQLite cannot let it write on what it has read
(SQLITE_BUSY_SNAPSHOT), and the event is lost. Begun as IMMEDIATE, it waits before it reads.
Pages that only read begin no transaction, and wait for nobody.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


def wait_to_write() -> None:
    """From now on, transactions of this process on SQLite take the right to write when they begin."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def immediate(
        self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = True
    ) -> AbstractAsyncContextManager[Any]:
        del with_for_update  # also where Prefect would not
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = immediate  # type: ignore[method-assign,assignment]
