"""A GPU that others keep busy is waited for, longer each time, and not for ever."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tenacity

from tasks.device import gpu_state
from tasks.device.gpu_state import GpuState, when_idle, why_invalid

BUSY, IDLE = GpuState(37, 2000, 0), GpuState(0, 2000, 0)


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    @property
    def long_pauses(self) -> list[float]:
        return [pause for pause in self.pauses if pause > 1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(gpu_state, "time", SimpleNamespace(sleep=made.sleep, monotonic=lambda: made.now))
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=made.sleep))
    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(gpu_state, "say", found.append)
    return found


def test_an_idle_gpu_is_not_waited_for(clock: Clock, said: list[str]) -> None:
    assert when_idle(lambda: IDLE) == IDLE
    assert when_idle(lambda: None) is None
    assert (clock.pauses, said) == ([], [])


def test_our_own_work_leaves_the_reading_within_two_seconds(clock: Clock, said: list[str]) -> None:
    assert when_idle(lambda: BUSY if clock.now < 1.5 else IDLE) == IDLE
    assert (clock.long_pauses, said) == ([], [])


@pytest.mark.parametrize("until", [4, 12, 30])
def test_other_work_that_ends_is_waited_for(until: float, clock: Clock) -> None:
    found = when_idle(lambda: BUSY if clock.now < until else IDLE)
    assert why_invalid(found, IDLE) is None
    assert until <= clock.now <= 2 * until + 4


def test_other_work_that_does_not_end_is_told(clock: Clock, said: list[str]) -> None:
    found = when_idle(lambda: BUSY)
    assert why_invalid(found, IDLE) == "the GPU was busy with other work: 37 % before timing began"
    assert clock.long_pauses == [5, 10, 20]
    assert said == [f"the GPU is busy with other work: looking again in {wait} s" for wait in (5, 10, 20)]
    assert 35 < clock.now < 45


def test_the_uuid_of_a_real_gpu() -> None:
    from tasks.device.gpu import gpu_count

    if not gpu_count():
        assert gpu_state.gpu_uuid() is None
        pytest.skip("omitted: reading NVML needs a GPU")
    uuid = gpu_state.gpu_uuid()
    assert uuid is not None and uuid.startswith("GPU-")
