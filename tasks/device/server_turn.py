"""The one slot of a global limit of the Prefect server, and finding out that its holder is dead.

Prefect gives a slot for a lease of 60 s at least, so a killed holder would keep others waiting for that long after its
last renewal. Holders therefore give signs of life in a variable of the server; who waits and sees none for SILENCE_S,
by its own clock, ends the lease that the variable names. No clocks are compared.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.context import ConcurrencyContext
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from artifacts.errors import DeviceTurnError
from tasks.runs.run_log import say

LEASE_S = 60
"""The shortest that Prefect has."""
BEAT_S = 8.0
SILENCE_S = 40.0
"""A few signs may be late or lost. A holder that is wrongly taken for dead shares the device, and is not stopped."""
_ASK_S = 2.0


@contextmanager
def server_slot(name: str, api: str, file: int, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the one slot of the limit `name` for the block.

    Its lease is noted in `file`, the lock of the host that the caller holds, for whoever takes that next and so knows
    at once that we are gone. `waiting` is called when another has the slot.

    Raises:
        DeviceTurnError: the server does not answer, or the limit cannot be used.
    """
    with ConcurrencyContext() as held, ExitStack() as slot:
        try:
            with get_client(sync_client=True) as client:
                _give_back_what_was_left(client, api, file)
                with suppress(ObjectAlreadyExists):  # another made it just now
                    client.upsert_global_concurrency_limit_by_name(name, 1)
                _take(client, name, slot, waiting)
        except (httpx.HTTPError, ConcurrencySlotAcquisitionError) as error:
            raise DeviceTurnError(
                f"the server does not say whether another benchmark uses the device: {error.__cause__ or error}",
                where=f"the limit {name} of {api}",
                expected="a Prefect server that answers, and a limit that is active",
                fix="see to the server and start the run again: what was computed is found in the cache",
            ) from error
        lease = held.cleanup_lease_ids[-1]
        with suppress(OSError):  # not in a file of another user: the server finds out by itself that we are gone
            os.ftruncate(file, 0)
            os.pwrite(file, f"{api} {lease}".encode(), 0)
        try:
            with _signs_of_life(name, lease):
                yield
        finally:
            try:
                slot.close()
            except httpx.HTTPError:  # the block is done, and its result counts
                held.cleanup_lease_ids.clear()
                say(f"the server does not answer: the device is free for other hosts in {LEASE_S} s")


def _take(client: SyncPrefectClient, name: str, slot: ExitStack, waiting: Callable[[], None]) -> None:
    """Ask until we have it: whoever lets Prefect wait cannot look after the holder meanwhile."""
    watch = HolderWatch(name)
    while client.read_global_concurrency_limit_by_name(name).active_slots or not _taken(name, slot):
        waiting()
        watch.look(client)
        time.sleep(_ASK_S)


def _taken(name: str, slot: ExitStack) -> bool:
    """Whether we have it now; another may have been quicker. Prefect logs every refusal as an error."""
    held = concurrency(name, max_retries=0, lease_duration=LEASE_S, strict=True, raise_on_lease_renewal_failure=False)
    try:
        slot.enter_context(held)
    except ConcurrencySlotAcquisitionError as error:
        cause = error.__cause__
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == httpx.codes.LOCKED:
            return False
        raise
    return True


# --- the holder is alive ---------------------------------------------------------------------------------


def variable_name(limit: str) -> str:
    """The variable with the signs of life of who has the slot of `limit`."""
    return re.sub(r"[^a-z0-9_]", "_", limit.lower())


@contextmanager
def _signs_of_life(name: str, lease: UUID) -> Iterator[None]:
    """Give them from a thread of their own, which ends before the slot is given back."""
    end = threading.Event()
    beats = threading.Thread(target=copy_context().run, args=(_beat, variable_name(name), lease, end), daemon=True)
    beats.start()
    try:
        yield
    finally:
        end.set()
        beats.join(BEAT_S)  # a server that does not answer keeps nobody


def _beat(variable: str, lease: UUID, end: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        count = 0
        while True:
            with suppress(httpx.HTTPError):
                _write(client, variable, f"{lease} {count}")
            count += 1
            if end.wait(BEAT_S):
                break
        with suppress(httpx.HTTPError, ObjectNotFound):
            client.delete_variable_by_name(variable)


def _write(client: SyncPrefectClient, variable: str, value: str) -> None:
    try:
        client.update_variable(VariableUpdate(name=variable, value=value))
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise
        client.create_variable(VariableCreate(name=variable, value=value))


class HolderWatch:
    """Ends the lease of a holder of the limit `name` that has given no sign of life for SILENCE_S."""

    def __init__(self, name: str) -> None:
        self._variable = variable_name(name)
        self._sign: object = None
        self._since = time.monotonic()

    def look(self, client: SyncPrefectClient) -> None:
        """Call this again and again."""
        variable = client.read_variable_by_name(self._variable)
        sign = None if variable is None else variable.value
        now = time.monotonic()
        if sign != self._sign:
            self._sign, self._since = sign, now
        elif isinstance(sign, str) and now - self._since > SILENCE_S:
            self._since = now
            with suppress(ValueError):
                client.release_concurrency_slots_with_lease(UUID(sign.partition(" ")[0]))


# --- the next on the same host ---------------------------------------------------------------------------


def _give_back_what_was_left(client: SyncPrefectClient, api: str, file: int) -> None:
    """End the lease of the last holder on this host, which is dead: we have its lock. An orderly end left no lease."""
    where, _, lease = os.pread(file, 1024, 0).decode(errors="replace").partition(" ")
    with suppress(ValueError):
        if where == api:
            client.release_concurrency_slots_with_lease(UUID(lease))
