"""Threads that have one turn together; nobody else has it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifacts.errors import DeviceTurnError
from tasks.device import shared_turn as module
from tasks.device.device_turn import device_turn
from tasks.device.shared_turn import shared_turn
from tests.processes import new_mark

LIMIT_S = 60


@pytest.fixture
def key() -> Iterator[str]:
    """A device that only this test knows."""
    (made,) = new_mark().values()
    yield f"test-{made}"
    Path("/tmp", f"clipsmith-test-{made}.lock").unlink(missing_ok=True)


def test_threads_have_it_at_the_same_time(key: str) -> None:
    together = threading.Barrier(3)

    def work() -> int:
        with shared_turn(key):
            return together.wait(LIMIT_S)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(lambda _: work(), range(3))) == [0, 1, 2]
    assert not module._held


def test_others_wait_for_the_last_of_them(key: str) -> None:
    seen: list[str] = []

    def benchmark() -> None:
        with device_turn(key):
            seen.append("benchmark")

    with shared_turn(key):
        with shared_turn(key):
            other = threading.Thread(target=benchmark)
            other.start()
        seen.append("one is done")
        other.join(0.2)
        seen.append("both are done")
    other.join(LIMIT_S)
    assert seen == ["one is done", "both are done", "benchmark"]


def test_it_waits_for_others(key: str) -> None:
    inside = threading.Event()

    def build() -> None:
        with shared_turn(key):
            inside.set()

    with device_turn(key):
        builders = [threading.Thread(target=build) for _ in range(2)]
        for builder in builders:
            builder.start()
        assert not inside.wait(0.2)
    assert inside.wait(LIMIT_S)
    for builder in builders:
        builder.join(LIMIT_S)
    with device_turn(key):  # it is free again
        pass


def test_a_turn_that_cannot_be_had_is_an_error_for_each(key: str) -> None:
    Path("/tmp", f"clipsmith-{key}.lock").mkdir()
    try:
        with ThreadPoolExecutor(2) as pool:
            builds = [pool.submit(lambda: shared_turn(key).__enter__()) for _ in range(2)]
            for one in builds:
                with pytest.raises(DeviceTurnError, match=f"clipsmith-{key}.lock"):
                    one.result(LIMIT_S)
    finally:
        Path("/tmp", f"clipsmith-{key}.lock").rmdir()
    assert not module._held
    with shared_turn(key):  # and the next one asks anew
        pass


def test_an_error_inside_gives_it_back(key: str) -> None:
    with pytest.raises(ZeroDivisionError), shared_turn(key):
        raise ZeroDivisionError
    with device_turn(key):
        pass
