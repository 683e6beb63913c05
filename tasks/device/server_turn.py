"""The single slot of a global concurrency limit of the Prefect server, and detecting that its holder is dead.

Prefect gives a slot for a lease of at least 60 s, so after a killed holder's last renewal others would wait that long.
So holders write heartbeats into a variable of the server. A waiting process that sees no change for SILENCE_S, by its
own clock, ends the lease that the variable names. Clocks of different machines are never compared.
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
"""The length of a lease in seconds: the shortest that Prefect allows."""
BEAT_S = 8.0
SILENCE_S = 40.0
"""Seconds without a heartbeat after which a holder counts as dead: a few may be late or lost. A holder that is wrongly
taken for dead is not stopped; it shares the device."""
_ASK_S = 2.0


@contextmanager
def server_slot(name: str, api: str, file: int, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the single slot of the limit `name` inside the block.

    Its lease is noted in `file`, the host's lock file, which the caller holds: the next process that gets that lock
    knows that we are gone, and can end the lease. `waiting` is called repeatedly while another holds the slot.

    Raises:
        DeviceTurnError: the server does not answer, or the limit cannot be used.
    """
    with ConcurrencyContext() as held, ExitStack() as slot:
        try:
            with get_client(sync_client=True) as client:
                _give_back_what_was_left(client, api, file)
                with suppress(ObjectAlreadyExists):  # another process has just created it
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
        with suppress(OSError):  # fails for another user's file; then missing heartbeats tell that we are gone
            os.ftruncate(file, 0)
            os.pwrite(file, f"{api} {lease}".encode(), 0)
        try:
            with _signs_of_life(name, lease):
                yield
        finally:
            try:
                slot.close()
            except httpx.HTTPError:  # the block is done, and its result is valid
                held.cleanup_lease_ids.clear()
                say(f"the server does not answer: the device is free for other hosts in {LEASE_S} s")


def _take(client: SyncPrefectClient, name: str, slot: ExitStack, waiting: Callable[[], None]) -> None:
    """Ask repeatedly until we have the slot. (Prefect could wait for us, but then we could not watch the holder.)"""
    watch = HolderWatch(name)
    while client.read_global_concurrency_limit_by_name(name).active_slots or not _taken(name, slot):
        waiting()
        watch.look(client)
        time.sleep(_ASK_S)


def _taken(name: str, slot: ExitStack) -> bool:
    """Try to take the slot; False if another process was faster. As Prefect logs each refusal as an error, call it only
    if the slot looks free."""
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
    """The name of the variable with the heartbeats of the holder of `limit`."""
    return re.sub(r"[^a-z0-9_]", "_", limit.lower())


@contextmanager
def _signs_of_life(name: str, lease: UUID) -> Iterator[None]:
    """Write heartbeats from a thread, which ends before the slot is returned."""
    end = threading.Event()
    beats = threading.Thread(target=copy_context().run, args=(_beat, variable_name(name), lease, end), daemon=True)
    beats.start()
    try:
        yield
    finally:
        end.set()
        beats.join(BEAT_S)  # do not wait longer for a server that does not answer


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
    """Ends the lease of a holder of the limit `name` that has written no heartbeat for SILENCE_S."""

    def __init__(self, name: str) -> None:
        self._variable = variable_name(name)
        self._sign: object = None
        self._since = time.monotonic()

    def look(self, client: SyncPrefectClient) -> None:
        """Check the holder; call this repeatedly."""
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
    """End the lease noted by the last holder on this host, which is dead, as we have its lock. A holder that ended
    normally leaves no note."""
    where, _, lease = os.pread(file, 1024, 0).decode(errors="replace").partition(" ")
    with suppress(ValueError):
        if where == api:
            client.release_concurrency_slots_with_lease(UUID(lease))
