"""The lock of a step: one holder over threads and processes, free when its holder is gone, nothing left behind."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from artifacts.store.store import Store, activate
from tasks.runs.step_lock import StepLock, _held
from tasks.runs.steps import StepCache
from tests.processes import open_files

KEY = "a" * 64
HOLD = """
import sys, time
from artifacts.store.store import Store, activate
from tasks.runs.step_lock import StepLock
with activate(Store.open(sys.argv[1])):
    StepLock().acquire_lock(sys.argv[2], "other")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def lock(store: Store) -> Iterator[StepLock]:
    assert store.root
    before = open_files("/locks/")
    yield StepLock()
    assert not _held
    assert open_files("/locks/") == before


def files(store: Store) -> list[str]:
    return [path.name for path in (store.root / "locks").iterdir()]


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start `work` in a thread that sees the same active store; its results."""
    results: list[Any] = []
    thread = threading.Thread(target=copy_context().run, args=[lambda: results.append(work())])
    thread.start()
    return thread, results


@pytest.fixture
def other_process(store: Store) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of KEY."""
    command = [sys.executable, "-c", HOLD, str(store.root), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_one_holder_and_no_file_left(lock: StepLock, store: Store) -> None:
    assert lock.acquire_lock(KEY, "me")
    assert lock.acquire_lock("b" * 64, "me")
    assert (lock.is_locked(KEY), lock.is_lock_holder(KEY, "me"), lock.is_lock_holder(KEY, "you")) == (True, True, False)
    assert sorted(files(store)) == [KEY, "b" * 64]
    with pytest.raises(ValueError, match="you does not hold"):
        lock.release_lock(KEY, "you")
    lock.release_lock(KEY, "me")
    assert not lock.is_locked(KEY)
    assert files(store) == ["b" * 64]
    lock.release_lock("b" * 64, "me")
    assert files(store) == []
    with pytest.raises(ValueError, match="me does not hold"):
        lock.release_lock(KEY, "me")


def test_threads_take_turns(lock: StepLock) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(30):
            holder = f"{threading.get_ident()}"
            assert lock.acquire_lock(KEY, holder)
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.0005)
            inside.pop()
            lock.release_lock(KEY, holder)

    threads = [in_thread(work)[0] for _ in range(4)]
    for thread in threads:
        thread.join(60)
    assert len(most) == 120
    assert max(most) == 1


def test_a_killed_holder_frees_it_and_waiting_costs_nothing(
    lock: StepLock, store: Store, other_process: subprocess.Popen[str]
) -> None:
    assert not lock.acquire_lock(KEY, "me", acquire_timeout=0)
    assert not lock.acquire_lock(KEY, "me", acquire_timeout=0.2)
    assert not lock.wait_for_lock(KEY, timeout=0.2)
    thread, results = in_thread(lambda: lock.acquire_lock(KEY, "me"))
    before = time.process_time()
    thread.join(1)
    assert thread.is_alive()
    assert time.process_time() - before < 0.3
    other_process.kill()
    thread.join(10)
    assert results == [True]
    lock.release_lock(KEY, "me")
    assert files(store) == []


def test_what_a_dead_holder_left_is_taken(lock: StepLock, store: Store, other_process: subprocess.Popen[str]) -> None:
    other_process.kill()
    other_process.wait()
    assert files(store) == [KEY]
    assert lock.wait_for_lock(KEY)
    assert lock.acquire_lock(KEY, "me")
    lock.release_lock(KEY, "me")
    assert files(store) == []


def test_a_file_that_went_while_we_waited_is_made_again(lock: StepLock, store: Store) -> None:
    """gc, or the holder itself, removes the file: a lock on what is no longer there would keep nobody out."""
    assert lock.acquire_lock(KEY, "first")
    thread, results = in_thread(lambda: lock.acquire_lock(KEY, "second"))
    thread.join(0.3)
    assert thread.is_alive()
    lock.release_lock(KEY, "first")
    thread.join(10)
    assert results == [True]
    assert files(store) == [KEY]
    assert not lock.acquire_lock(KEY, "third", acquire_timeout=0)
    lock.release_lock(KEY, "second")


def test_waiting_does_not_take(lock: StepLock, store: Store) -> None:
    assert lock.wait_for_lock(KEY)
    assert files(store) == []
    assert lock.acquire_lock(KEY, "me")
    assert lock.wait_for_lock(KEY, timeout=5)  # our own: it would wait for itself
    thread, results = in_thread(lambda: lock.wait_for_lock(KEY))
    thread.join(0.3)
    assert thread.is_alive()
    lock.release_lock(KEY, "me")
    thread.join(10)
    assert results == [True]
    assert not lock.is_locked(KEY)


def test_left_over_by_a_failed_read(lock: StepLock) -> None:
    """Prefect does not release when reading a result fails that it has just found; the same thread tries again."""
    assert lock.acquire_lock(KEY, "failed")
    assert lock.acquire_lock(KEY, "again", acquire_timeout=5)
    assert not lock.is_lock_holder(KEY, "failed")
    lock.release_lock(KEY, "again")


def test_stores_do_not_share_locks(lock: StepLock, tmp_path: Path) -> None:
    assert lock.acquire_lock(KEY, "me")
    with activate(Store.open(tmp_path / "other")):
        assert lock.acquire_lock(KEY, "you", acquire_timeout=0)
        lock.release_lock(KEY, "you")
    lock.release_lock(KEY, "me")


def test_policies_are_copied_and_pickled_while_locks_are_held(lock: StepLock) -> None:
    policy = StepCache(step="s", version=1)
    assert policy.lock_manager.acquire_lock(KEY, "me")
    for made in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy)), policy.configure()):
        assert made == policy or made.step == "s"
        assert made.lock_manager.is_lock_holder(KEY, "me")
    lock.release_lock(KEY, "me")


def test_in_a_coroutine(lock: StepLock) -> None:
    async def work() -> list[bool]:
        taken = await lock.aacquire_lock(KEY, "me")
        again = await lock.aacquire_lock(KEY, "you", acquire_timeout=0)
        lock.release_lock(KEY, "me")
        return [taken, again, await lock.await_for_lock(KEY)]

    assert asyncio.run(work()) == [True, False, True]
