"""Runs of one process do not compute at the same time, and do not keep each other from building."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows import nightly
from flows.one_at_a_time import computing, elsewhere


def test_only_one_thread_computes() -> None:
    inside = 0

    def compute(_: int) -> int:
        nonlocal inside
        with computing():
            inside += 1
            alone = inside
            threading.Event().wait(0.02)
            inside -= 1
            return alone

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(compute, range(8))) == [1] * 8


def test_others_compute_while_one_waits_elsewhere() -> None:
    met = threading.Barrier(2)  # breaks unless both are there together

    def build(_: int) -> bool:
        with computing():
            with elsewhere():
                met.wait(20)
            return not threading_lock_is_free()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(build, range(2))) == [True, True]  # and each computes alone again afterwards
    assert threading_lock_is_free()


def threading_lock_is_free() -> bool:
    from flows.one_at_a_time import _computing

    return not _computing.locked()


def test_a_failure_lets_the_next_compute() -> None:
    for where in (computing, elsewhere):
        with pytest.raises(ValueError, match="inside"), computing():
            if where is elsewhere:
                with elsewhere():
                    raise ValueError("inside")
            raise ValueError("inside")
    assert threading_lock_is_free()


def test_elsewhere_a_run_alone_just_goes_on() -> None:
    with elsewhere():
        assert threading_lock_is_free()


def test_variants_of_one_process_are_computed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """ModelOpt exchanges functions of PyTorch's modules: variants in threads failed, each in its own way."""
    inside, most = 0, 0

    class State:
        name, message = "Completed", ""
        state_details = type("Details", (), {"flow_run_id": "id"})

    def optimize(_: object, *, return_state: bool) -> State:
        nonlocal inside, most
        assert return_state
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.02)
        inside -= 1
        return State()

    monkeypatch.setattr(nightly, "optimize", optimize)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda n: nightly.make_variant_task.fn(f"v{n}", object(), 60, True), range(6)))
    assert most == 1 and len(made) == 6
