"""Locks and leases end with their holders, however these end."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from artifacts import locks
from artifacts.errors import StoreBusy


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


def test_readers_share_and_keep_a_lone_holder_out(lock: Path) -> None:
    with (
        locks.shared(lock),
        locks.shared(lock),
        pytest.raises(StoreBusy, match="in use"),
        locks.exclusive(lock, timeout_s=0.05),
    ):
        pass
    with locks.exclusive(lock, timeout_s=0.05):
        assert not locks.is_free(lock)
    assert locks.is_free(lock)


def test_a_lone_holder_is_waited_for(lock: Path) -> None:
    order: list[str] = []

    def read() -> None:
        with locks.shared(lock):
            order.append("read")

    with locks.exclusive(lock):
        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.05)
        order.append("done")
    thread.join()
    assert order == ["done", "read"]


def test_a_lock_is_let_go_when_the_work_fails(lock: Path) -> None:
    with pytest.raises(ValueError, match="work"), locks.exclusive(lock):
        raise ValueError("work")
    assert locks.is_free(lock)


def test_a_lease_lists_what_its_process_holds(tmp_path: Path) -> None:
    lease = locks.Lease(tmp_path)
    lease.hold(["b", "a"])
    lease.hold(["a", "c"])
    assert lease.path.read_text() == "a\nb\nc\n"
    assert locks.living(tmp_path) == {lease.id: {"a", "b", "c"}}
    lease.close()
    assert list(tmp_path.iterdir()) == []


def test_a_lease_ends_with_its_last_reference(tmp_path: Path) -> None:
    lease = locks.Lease(tmp_path)
    assert len(locks.living(tmp_path)) == 1
    del lease
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        lease = locks.Lease(tmp_path)
        lease.hold(["x"])
        signal.pause()
    while not any(path.read_text() for path in tmp_path.iterdir()):
        time.sleep(0.01)
    assert [set(names) for names in locks.living(tmp_path).values()] == [{"x"}]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert locks.living(tmp_path) == {}
    assert len(list(tmp_path.iterdir())) == 1  # for the collector


def test_a_forked_child_does_not_end_its_parents_lease(tmp_path: Path) -> None:
    lease = locks.Lease(tmp_path)
    child = os.fork()
    if child == 0:
        lease.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert lease.path.exists()
    assert lease.id in locks.living(tmp_path)


def test_only_free_locks_are_removed(lock: Path) -> None:
    with locks.shared(lock):
        assert not locks.remove_if_free(lock)
        assert lock.exists()
    assert locks.remove_if_free(lock)
    assert not lock.exists()
