"""Work on the GPU waits for its memory and for benchmarks; the GPU and PyTorch's pool are a stand-in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.device import gpu_work as module
from tasks.device.device_turn import device_turn
from tasks.device.gpu_work import gpu_work
from tests.processes import new_mark


class Gpu:
    """1,000 bytes, of which another program has `elsewhere`, and this process's pool `pooled`."""

    def __init__(self) -> None:
        self.elsewhere = self.pooled = 0
        self.said: list[str] = []

    def free(self) -> int:
        return 1000 - self.elsewhere - self.pooled

    def grown(self, more: int) -> bool:
        assert 0 < more <= self.free()
        self.pooled += more
        return True

    def give_back(self) -> None:
        self.pooled = 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    made = Gpu()
    (mark,) = new_mark().values()
    monkeypatch.setattr(module, "torch_gpu", lambda: "a GPU")
    monkeypatch.setattr(module, "device_key", lambda _: f"test-{mark}")
    for name, stand_in in {
        "_total": lambda: 1000,
        "_free": made.free,
        "_pooled": lambda: made.pooled,
        "_grown": made.grown,
        "_give_back": made.give_back,
        "say": made.said.append,
    }.items():
        monkeypatch.setattr(module, name, stand_in)
    monkeypatch.setattr(module, "SAY_AFTER_S", 0)
    monkeypatch.setattr(module, "_POLL_S", 0.01)
    yield made
    from tasks.device.device_turn import _FOLDER

    for path in _FOLDER.glob(f"clipsmith-test-{mark}*"):
        path.unlink()


class Worker:
    """A thread that asks for memory, and keeps it until told to end."""

    def __init__(self, need: int) -> None:
        self.has, self._end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._work, args=(need,), daemon=True)
        self.thread.start()

    def _work(self, need: int) -> None:
        with gpu_work(need):
            self.has.set()
            self._end.wait(20)

    def end(self) -> None:
        self._end.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextmanager
def worker(need: int) -> Iterator[Worker]:
    made = Worker(need)
    try:
        yield made
    finally:
        made.end()


def test_memory_is_in_the_pool_before_it_is_used_and_given_back_after_the_last(gpu: Gpu) -> None:
    with worker(300) as first:
        assert first.has.wait(20) and gpu.pooled == 300
        with worker(400) as second:
            assert second.has.wait(20) and gpu.pooled == 700
        assert gpu.pooled == 700  # the first may be using any of it
    assert gpu.pooled == 0


def test_what_the_pool_has_already_is_not_taken_again(gpu: Gpu) -> None:
    gpu.pooled = 250
    with worker(300) as one:
        assert one.has.wait(20) and gpu.pooled == 300


def test_who_finds_too_little_waits_until_others_end_and_says_so(gpu: Gpu) -> None:
    with worker(600) as first:
        assert first.has.wait(20)
        second = Worker(500)
        while not gpu.said:
            assert second.thread.is_alive()
        assert not second.has.is_set()
    assert second.has.wait(20)
    second.end()
    (line,) = gpu.said
    assert "waiting for" in line and "Ctrl-C" in line


def test_another_programs_memory_is_waited_for(gpu: Gpu) -> None:
    gpu.elsewhere = 800
    one = Worker(500)
    while not gpu.said:
        assert one.thread.is_alive()
    assert not one.has.is_set()
    gpu.elsewhere = 0
    assert one.has.wait(20)
    one.end()


def test_a_program_that_never_ends_is_not_waited_for_for_ever(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    gpu.elsewhere = 800
    with worker(500) as one:
        assert one.has.wait(20) and gpu.pooled == 0
    assert gpu.said[-1].endswith("going on with what there is")
    with worker(150) as one:
        assert one.has.wait(20) and gpu.pooled == 150
    assert gpu.pooled == 0  # what was not taken is not given back either


def test_who_needs_more_than_there_is_gets_most_of_it_alone(gpu: Gpu) -> None:
    with worker(10**6) as one:
        assert one.has.wait(20) and gpu.pooled == 900


def test_a_failure_gives_the_memory_back(gpu: Gpu) -> None:
    with pytest.raises(ValueError, match="inside"), gpu_work(300):
        raise ValueError("inside")
    assert gpu.pooled == 0
    with worker(900) as one:
        assert one.has.wait(20)


def test_nobody_computes_while_somebody_benchmarks(gpu: Gpu) -> None:
    with device_turn(module.device_key("a GPU")):
        one = Worker(100)
        assert not one.has.wait(0.3) and gpu.pooled == 0
    assert one.has.wait(20)
    one.end()


def test_without_a_gpu_the_block_runs_at_once(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "torch_gpu", lambda: None)
    with gpu_work(10**9), gpu_work(10**9):
        assert gpu.pooled == 0
