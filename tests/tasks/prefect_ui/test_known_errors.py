"""What the log of a run says of an error."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from prefect import flow, task

from artifacts.errors import ClipsmithError, ConfigError
from artifacts.inert import keep_logs_inert
from tasks.prefect_ui.known_errors import LOGGERS, shorten_known_errors

WRONG = ConfigError("no such recipe", where="here", expected="another", fix="choose one")


class Kept(logging.Handler):
    """Keeps the lines of a log, with the tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The log of flow and task runs, made harmless as in a run."""
    before = logging.getLogRecordFactory()
    keep_logs_inert()
    shorten_known_errors()
    kept = Kept()
    for name in LOGGERS:
        logging.getLogger(name).addHandler(kept)
    yield kept.lines
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(kept)
    logging.setLogRecordFactory(before)


@task(name="raise-error", persist_result=False)
def raise_error(error: Exception) -> None:
    raise error


@flow(name="fail", persist_result=False)
def fail(error: Exception) -> None:
    raise_error(error)


def test_ours_are_told_without_a_traceback(lines: list[str]) -> None:
    with pytest.raises(ConfigError):
        fail(WRONG)
    told = [line for line in lines if line.startswith(("Task run failed", "Encountered exception"))]
    assert len(told) == 2
    for line in told:
        assert str(WRONG) in line and "Traceback" not in line
    assert "Traceback" not in "\n".join(lines)


def test_others_keep_their_traceback(lines: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError("by zero"))
    assert sum("Traceback (most recent call last)" in line for line in lines) == 2


@pytest.mark.parametrize(("error", "count"), [(WRONG, 0), (ZeroDivisionError("by zero"), 1)])
def test_what_the_engine_says_again_is_left_out(error: Exception, count: int, lines: list[str]) -> None:
    try:
        raise error
    except Exception:
        logging.getLogger("prefect.flow_runs").error("Engine execution exited with unexpected exception", exc_info=True)
    assert len(lines) == count


def test_a_message_that_names_another_error_stays(lines: list[str]) -> None:
    try:
        raise WRONG
    except ClipsmithError:
        logging.getLogger("prefect.task_runs").error("%r, then %d", KeyError("a"), 3, exc_info=True)
    assert lines == ["KeyError('a'), then 3"]
