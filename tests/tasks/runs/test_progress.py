"""What a long step tells the UI, and that it never costs the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

import tasks.runs.progress as module
from tasks.runs.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The percentages that the UI heard of, in a run."""
    told: list[float] = []
    monkeypatch.setattr(module.FlowRunContext, "get", classmethod(lambda _: object()))
    monkeypatch.setattr(module, "create_progress_artifact", lambda progress, **_: told.append(progress) or uuid4())
    monkeypatch.setattr(module, "update_progress_artifact", lambda _, progress, **__: told.append(progress))
    return told


def test_the_ui_hears_at_most_once_a_second_and_of_the_end(heard: list[float], clock: Callable[[float], None]) -> None:
    with progress("key", 20, "sample", "calibrate") as advance:
        for _ in range(20):
            clock(0.4)
            advance(1)
    assert heard[:2] == [0.0, 5.0]
    assert heard[-1] == 100.0
    assert len(heard) == 1 + 7 + 1  # of 20 steps of 0.4 s every third, and the last one
    assert heard == sorted(heard)


def test_what_needs_less_than_was_thought_ends_as_the_whole(heard: list[float]) -> None:
    with progress("key", 40, "recipe", "evaluate recipes") as advance:
        advance(12)
    assert heard == [0.0, 30.0, 100.0]
    with pytest.raises(ZeroDivisionError), progress("key", 40, "recipe", "evaluate recipes") as advance:
        advance(12)
        raise ZeroDivisionError
    assert heard[3:] == [0.0, 30.0], "what failed is not at its end"


def test_nothing_to_do_is_not_shown(heard: list[float]) -> None:
    with progress("key", 0, "engine", "build"):
        pass
    assert heard == []


def test_outside_a_run_there_is_no_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "create_progress_artifact", lambda **_: pytest.fail("no run, no artifact"))
    with progress("key", 2, "sample", "calibrate") as advance:
        advance(2)


@pytest.mark.parametrize("broken", ["create_progress_artifact", "update_progress_artifact"])
def test_a_server_that_is_away_costs_only_the_progress(
    broken: str, heard: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def away(*arguments: Any, **_: Any) -> Any:
        calls.append(arguments)
        raise httpx.ConnectError("away")

    said: list[str] = []
    logger: Callable[[], Any] = lambda: type("Log", (), {"warning": lambda _, text, why: said.append(text % why)})()  # noqa: E731
    monkeypatch.setattr(module, "get_run_logger", logger)
    monkeypatch.setattr(module, broken, away)
    with progress("key", 20, "sample", "calibrate") as advance:
        for _ in range(20):
            advance(1)
    assert len(calls) == 1, "it asks no more"
    assert said == ["no progress is shown from here on: away"]
    assert heard in ([], [0.0])


def test_in_a_pipe_a_line_every_half_minute_says_how_fast_and_how_long(
    clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=module.__name__)
    with progress("key", 1000, "sample", "calibrate image", done=100) as advance:
        for _ in range(9):
            clock(11)
            advance(90)
        clock(11)
        advance(90)
    assert [record.getMessage() for record in caplog.records] == [
        "calibrate image: 370 of 1,000 samples, 8.2/s, about 1 min left",
        "calibrate image: 640 of 1,000 samples, 8.2/s, about 44 s left",
        "calibrate image: 910 of 1,000 samples, 8.2/s, about 11 s left",
    ]


def test_the_ui_reads_how_fast_and_how_long(clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module.FlowRunContext, "get", classmethod(lambda _: object()))
    monkeypatch.setattr(
        module, "create_progress_artifact", lambda *_, description, **__: said.append(description) or uuid4()
    )
    monkeypatch.setattr(module, "update_progress_artifact", lambda *_, description: said.append(description))
    monkeypatch.setattr(module, "get_run_logger", lambda: module._log)
    with progress("key", 4000, "sample", "calibrate") as advance:
        clock(2)
        advance(20)
        clock(50)
        advance(3980)
    assert said == [
        "calibrate: 0 of 4,000 samples",
        "calibrate: 20 of 4,000 samples, 10.0/s, about 7 min left",
        "calibrate: 4,000 of 4,000 samples, 76.9/s",
    ]
