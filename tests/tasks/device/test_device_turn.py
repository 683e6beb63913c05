"""Turns at a device: one at a time over threads and processes, free when the holder is gone, and usable by everyone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from artifacts import locks, waiting
from artifacts.errors import DeviceTurnError
from tasks.device import device_turn as module
from tasks.device.device_turn import EMBEDDED_API, device_key, device_turn, while_nobody_benchmarks
from tests.processes import new_mark, own_environment

HOLD = """
import sys, time
from tasks.device.device_turn import device_turn
with device_turn(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""
TAKE_TURNS = """
import os, sys, time
from tasks.device.device_turn import device_turn
key, inside = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    with device_turn(key):
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails when another is inside
        time.sleep(0.005)
        os.unlink(inside)
    time.sleep(0.001)
"""


@pytest.fixture
def key() -> Iterator[str]:
    """A device that only this test knows."""
    (made,) = new_mark().values()
    yield f"test-{made}"
    for path in (lock_file(f"test-{made}"), *lock_file(f"test-{made}").parent.glob(f"*{made}*")):
        path.unlink(missing_ok=True)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the run's log gets."""
    found: list[str] = []
    monkeypatch.setattr(module, "say", found.append)
    return found


def lock_file(key: str) -> Path:
    return Path("/tmp") / f"clipsmith-{key}.lock"


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of another user as far as its HOME and TMPDIR go; it has said its first word."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=own_environment(HOME="/nonexistent", TMPDIR="/var/tmp"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def turn(key: str) -> None:
    with device_turn(key):
        pass


def test_processes_do_not_overlap(key: str, tmp_path: Path) -> None:
    children = [child(TAKE_TURNS, key, str(tmp_path / "inside")) for _ in range(3)]
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    assert [one.wait(60) for one in children] == [0, 0, 0]


def test_threads_do_not_overlap(key: str) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(20):
            with device_turn(key):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    for thread in [in_thread(work) for _ in range(4)]:
        thread.join(60)
    assert (len(most), max(most)) == (80, 1)


def test_a_killed_holder_frees_it_at_once_and_waiting_is_said_once(
    key: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SAY_AFTER_S", 0.0)
    with child(HOLD, key) as holder:
        waiter = in_thread(lambda: turn(key))
        waiter.join(0.5)
        assert waiter.is_alive()
        holder.kill()
        killed = time.monotonic()
        waiter.join(10)
        assert time.monotonic() - killed < 2
    assert not waiter.is_alive()
    (message,) = said
    place = lock_file(key)
    assert message.startswith(f"waiting for the turn to benchmark on the TEST ({place}): held by process {holder.pid} ")


def test_waiting_for_another_host_is_said_once_after_two_seconds(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "_clock", lambda: now)
    wait = module._Waiting("the turn")
    for now in (0.0, 1.9, 2.0, 99.0):  # noqa: B007  (the clock above reads it)
        wait.say()
    (message,) = said
    assert message.startswith("waiting for the turn: held by a benchmark of another host or container, which loses it")


def test_two_devices_do_not_wait_for_each_other(key: str, said: list[str]) -> None:
    with device_turn(key), device_turn(f"{key}-2"):
        pass
    assert said == []


def test_an_error_inside_passes_and_ends_the_turn(key: str) -> None:
    with pytest.raises(ZeroDivisionError), device_turn(key):
        raise ZeroDivisionError
    turn(key)


def test_a_turn_is_not_inherited(key: str) -> None:
    with device_turn(key):
        sleeper = subprocess.Popen(["sleep", "600"], close_fds=False)
    with sleeper:
        taken = in_thread(lambda: turn(key))
        taken.join(5)
        sleeper.kill()
    assert not taken.is_alive()


# --- the file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o077, 0o000])
@pytest.mark.parametrize("before", [None, 0o666], ids=["none", "of before"])
def test_every_user_may_use_the_file_and_none_may_write_to_it(key: str, mask: int, before: int | None) -> None:
    if before is not None:
        lock_file(key).touch()
        lock_file(key).chmod(before)
    usual = os.umask(mask)
    try:
        turn(key)
    finally:
        os.umask(usual)
    assert lock_file(key).stat().st_mode & 0o7777 == 0o644
    left = {path.name for path in lock_file(key).parent.glob(f"*{key}*")}
    assert left == {lock_file(key).name, lock_file(f"{key}-next").name}


def test_a_file_of_another_user_is_taken(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder for everyone the kernel (fs.protected_regular) refuses O_CREAT for it, even to root; it can be read
    only, and nothing is noted in it for the next."""
    lock_file(key).touch()
    real = os.open

    def protected(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if flags & (os.O_CREAT | os.O_RDWR) and Path(path) == lock_file(key):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode, **options)

    monkeypatch.setattr(module.os, "open", protected)
    turn(key)


def test_a_link_is_refused(key: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lock_file(key).symlink_to(victim)
    with pytest.raises(DeviceTurnError, match=str(lock_file(key))), device_turn(key):
        raise AssertionError
    assert victim.read_text() == "precious"


def test_a_file_that_went_while_we_waited_is_made_again(key: str) -> None:
    holding, end = threading.Event(), threading.Event()

    def hold() -> None:
        with device_turn(key):
            holding.set()
            end.wait(30)

    first = in_thread(hold)
    assert holding.wait(10)
    got, done = threading.Event(), threading.Event()

    def second() -> None:
        with device_turn(key):
            got.set()
            done.wait(30)

    waiter = in_thread(second)
    time.sleep(0.3)
    lock_file(key).unlink()
    end.set()
    assert got.wait(10)
    assert lock_file(key).exists()  # so that a third waits for the second
    done.set()
    first.join()
    waiter.join()


# --- the server --------------------------------------------------------------------------------------------


def no_call(*_: object, **__: object) -> None:
    raise AssertionError("the server was asked")


@pytest.mark.parametrize("embedded", [False, True], ids=["none", "embedded"])
def test_without_a_server_of_others_nobody_is_asked(key: str, embedded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "server_slot", no_call)
    url = "http://127.0.0.1:9/api" if embedded else None
    if url:
        monkeypatch.setenv(EMBEDDED_API, url)
    with temporary_settings({PREFECT_API_URL: url}):
        turn(key)


def test_a_server_that_does_not_answer_is_an_error_before_anything_is_measured(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EMBEDDED_API, "http://127.0.0.1:10/api")  # of a command that started this one: another's
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
        pytest.raises(DeviceTurnError, match=f"limit clipsmith-{key}-.* of http://127.0.0.1:9/api"),
        device_turn(key),
    ):
        raise AssertionError
    turn(key)  # the lock is free


def test_limits_are_named_by_what_is_one_device_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.socket, "gethostname", lambda: "box")
    names = [module._limit_name(key) for key in ("gpu-1a2b", "gpu", "cpu")]
    assert names == ["clipsmith-gpu-1a2b", "clipsmith-gpu-box", "clipsmith-cpu-box"]


# --- the device --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "uuid", "key"),
    [
        ("NVIDIA H100", "GPU-1A2B-3C", "gpu-1a2b-3c"),
        ("NVIDIA H100", None, "gpu"),
        ("x86_64", "GPU-1A2B-3C", "cpu"),
    ],
    ids=["gpu", "gpu without nvml", "cpu"],
)
def test_keys(device: str, uuid: str | None, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gpu_name", lambda: "NVIDIA H100")
    monkeypatch.setattr(module, "gpu_uuid", lambda: uuid)
    assert device_key(device) == key


def test_those_who_compute_share_the_device_and_a_benchmark_comes_in_its_turn(key: str) -> None:
    """There is always somebody who computes: without a line, the benchmark would wait for ever."""
    order: list[str] = []
    inside, leave = threading.Semaphore(0), threading.Event()

    def compute() -> None:
        with while_nobody_benchmarks(key):
            inside.release()
            leave.wait(20)
            order.append("computed")

    def benchmark() -> None:
        with device_turn(key):
            order.append("benchmark")

    first = [in_thread(compute) for _ in range(2)]
    assert inside.acquire(timeout=20) and inside.acquire(timeout=20)  # both at once
    second = in_thread(benchmark)
    while locks.is_free(lock_file(f"{key}-next")):  # until the benchmark is in line
        time.sleep(0.01)
    late = in_thread(lambda: order.append("late") if _computes(key) else None)
    assert not inside.acquire(timeout=0.3) and order == []
    leave.set()
    for thread in (*first, second, late):
        thread.join(20)
    assert order == ["computed", "computed", "benchmark", "late"]


def _computes(key: str) -> bool:
    with while_nobody_benchmarks(key):
        return True
