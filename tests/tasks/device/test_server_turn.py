"""Who is silent for long loses the slot, who gives signs of life keeps it (system/stack/test_limits.py: for real)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tasks.device import server_turn as module
from tasks.device.server_turn import SILENCE_S, HolderWatch, variable_name


class Server:
    """Holds one variable, and notes whose lease was ended."""

    def __init__(self) -> None:
        self.value: object = None
        self.released: list[UUID] = []

    def read_variable_by_name(self, name: str) -> Any:
        assert name == "clipsmith_gpu_1a2b"
        return None if self.value is None else SimpleNamespace(value=self.value)

    def release_concurrency_slots_with_lease(self, lease: UUID) -> None:
        self.released.append(lease)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`clock.now` is the time."""
    at = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: at.now)
    return at


def watched(server: Server, clock: SimpleNamespace, signs: list[object], step: float = 2.0) -> list[UUID]:
    """What is ended when these signs are seen, one every `step` seconds."""
    watch = HolderWatch("clipsmith-GPU-1a2b")
    for server.value in signs:
        watch.look(server)  # type: ignore[arg-type]
        clock.now += step
    return server.released


def test_silence_ends_the_lease_once(clock: SimpleNamespace) -> None:
    lease = uuid4()
    enough = int(SILENCE_S / 2)
    assert watched(Server(), clock, [f"{lease} 7"] * (enough + 1)) == []
    assert watched(Server(), clock, [f"{lease} 7"] * (enough + 2)) == [lease]
    assert watched(Server(), clock, [f"{lease} 7"] * (enough + 8)) == [lease]


def test_signs_keep_it(clock: SimpleNamespace) -> None:
    lease = uuid4()
    assert watched(Server(), clock, [f"{lease} {beat // 15}" for beat in range(200)]) == []


def test_the_next_holder_starts_anew(clock: SimpleNamespace) -> None:
    signs = [f"{uuid4()} 0"] * 15 + [f"{uuid4()} 0"] * 15 + [None] * 15
    assert watched(Server(), clock, [*signs]) == []


@pytest.mark.parametrize("sign", [None, "", "not a lease", 7, {"lease": 1}])
def test_a_variable_that_names_no_lease_ends_none(sign: object, clock: SimpleNamespace) -> None:
    assert watched(Server(), clock, [sign] * 100) == []


def test_variables_have_names_that_prefect_takes() -> None:
    assert variable_name("clipsmith-cpu-Host.example") == "clipsmith_cpu_host_example"
