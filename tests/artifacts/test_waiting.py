"""Whoever waits for a lock says for what, who holds it since when and in which state, and how to stop waiting."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifacts import locks, waiting
from artifacts.errors import StoreBusy

HOLD = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(file, getattr(fcntl, sys.argv[2]))
if sys.argv[2] == "LOCK_EX":
    os.utime(file)
if sys.argv[3:]:  # leave the lock to a child
    if os.fork():
        os._exit(0)
print(os.getpid(), flush=True)
time.sleep(600)
"""
Child = Callable[..., int]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


@pytest.fixture
def child(lock: Path) -> Iterator[Child]:
    """`child(kind, *more)`: a process that holds the lock; its number."""
    started: list[subprocess.Popen[str]] = []
    pids: list[int] = []

    def start(kind: str = "LOCK_EX", *more: str) -> int:
        command = [sys.executable, "-c", HOLD, str(lock), kind, *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        pids.append(int(process.stdout.readline()))
        if more:  # its child may be the first to be heard of
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        return pids[-1]

    yield start
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.communicate()


def waited(monkeypatch: pytest.MonkeyPatch, lock: Path, events: dict[float, Callable[[], object]]) -> list[str]:
    """What is said by whoever waits for the lock by a clock of the test's own, until the last of the events."""
    now, said, left = 0.0, [], sorted(events)
    last = left[-1]

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        while left and now >= left[0]:
            events[left.pop(0)]()

    monkeypatch.setattr(locks, "_clock", lambda: now)
    monkeypatch.setattr(locks, "_sleep", sleep)
    file = os.open(lock, os.O_RDONLY)
    try:
        assert not locks.wait(file, lock, "the cake", timeout_s=last, say=said.append)
    finally:
        os.close(file)
    return said


def nothing() -> None:
    pass


def test_after_two_seconds_it_is_said_once(monkeypatch: pytest.MonkeyPatch, lock: Path, child: Child) -> None:
    pid = child()
    assert waited(monkeypatch, lock, {1.9: nothing}) == []
    (said,) = waited(monkeypatch, lock, {300.0: nothing})
    assert said.startswith(f"waiting for the cake ({lock}): held by process {pid} ({Path(sys.executable)} -c import")
    assert ") since 20" in said
    assert said.endswith("; Ctrl-C, or cancelling the run, stops waiting")
    assert "\n" not in said


def test_a_holder_that_is_stopped_is_told_apart(monkeypatch: pytest.MonkeyPatch, lock: Path, child: Child) -> None:
    pid = child()

    def stop() -> None:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # until the kernel says so

    running, stopped = waited(monkeypatch, lock, {5.0: stop, 30.0: nothing})
    assert "which is stopped" not in running
    assert f"which is stopped; `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it; Ctrl-C" in stopped


def test_a_holder_that_has_ended_and_left_the_lock_to_its_child(
    monkeypatch: pytest.MonkeyPatch, lock: Path, child: Child
) -> None:
    pid = child("LOCK_EX", "leave")
    (said,) = waited(monkeypatch, lock, {3.0: nothing})
    assert ", which has ended; process " in said
    assert f"; process {pid} (" in said


def test_readers_are_named_with_when_they_began(monkeypatch: pytest.MonkeyPatch, lock: Path, child: Child) -> None:
    """Nothing says when a lock that many hold was taken by one of them."""
    pids = [child("LOCK_SH") for _ in range(5)]
    (said,) = waited(monkeypatch, lock, {3.0: nothing})
    assert said.count(") running since ") == 3
    assert " and 2 more; " in said
    assert sum(f"process {pid} " in said for pid in pids) == 3


def test_a_lock_that_is_let_go_is_taken(monkeypatch: pytest.MonkeyPatch, lock: Path) -> None:
    held = os.open(lock, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.utime(lock, (0, 0))
    monkeypatch.setattr(locks, "_sleep", lambda _: os.close(held))
    file = os.open(lock, os.O_RDONLY)
    assert locks.wait(file, lock, "the cake")
    assert os.fstat(file).st_mtime > 0
    os.close(file)


def test_what_cannot_be_seen_is_said(monkeypatch: pytest.MonkeyPatch, lock: Path, child: Child, tmp_path: Path) -> None:
    """Another container's processes, and a system without /proc."""
    child()
    monkeypatch.setattr(waiting, "_PROC", tmp_path / "none")
    (said,) = waited(monkeypatch, lock, {3.0: nothing})
    assert f"held by {waiting._UNSEEN}; Ctrl-C" in said


def test_another_users_process_is_said_to_be(monkeypatch: pytest.MonkeyPatch, lock: Path, child: Child) -> None:
    """Its command may be hidden; its name and when it began are not."""
    pid = child()
    real = Path.read_bytes

    def hidden(path: Path) -> bytes:
        if path.name == "cmdline":
            raise PermissionError
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", hidden)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    (said,) = waited(monkeypatch, lock, {3.0: nothing})
    assert f"process {pid} (python" in said
    assert ", of user " in said


def test_control_characters_of_a_command_are_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stat").write_text(f"7 (x) S {' '.join('1' for _ in range(40))}")
    (folder / "cmdline").write_bytes(b"a\x1b[31m\0b\nc\0" + b"d" * 5000)
    monkeypatch.setattr(waiting, "_PROC", tmp_path)
    assert waiting._describe(7, None).command == "a [31m b c ..."


def test_who_gives_up_says_who_held_it(lock: Path, child: Child) -> None:
    pid = child("LOCK_SH")
    with pytest.raises(StoreBusy, match=rf"in use for all of 0 s, by process {pid} "), locks.exclusive(lock, 0):
        raise AssertionError
