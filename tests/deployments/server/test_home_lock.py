"""One at a time in a Prefect home, also when the one before was killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from deployments.server.home_lock import home_lock
from tests.processes import own_environment

HOLD = """
import sys
from deployments.server.home_lock import home_lock
with home_lock("turn"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Prefect home that is not there yet, of this process and of its children."""
    from prefect.settings import PREFECT_HOME, temporary_settings

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "deep" / "home"))
    with temporary_settings({PREFECT_HOME: tmp_path / "deep" / "home"}):
        yield tmp_path / "deep" / "home"


def holder() -> subprocess.Popen[str]:
    """Another process that has its turn."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD], env=own_environment(), stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def waiting(name: str) -> tuple[threading.Thread, threading.Event]:
    """Somebody here who wants a turn; the event tells that they have had it."""
    had = threading.Event()

    def take() -> None:
        with home_lock(name):
            had.set()

    # Settings belong to a context, and a thread begins with an empty one.
    thread = threading.Thread(target=copy_context().run, args=[take], daemon=True)
    thread.start()
    return thread, had


def test_the_next_waits_until_the_other_is_done_or_dead(home: Path) -> None:
    with holder() as other:
        thread, had = waiting("turn")
        assert not had.wait(0.3)
        _, elsewhere = waiting("another turn")
        assert elsewhere.wait(10), "locks of other names are free"
        other.kill()
        assert had.wait(10)
        thread.join(10)
    with home_lock("turn"):
        _, had = waiting("turn")
        assert not had.wait(0.3)
    assert had.wait(10)
    assert home.is_dir()


def test_an_error_inside_gives_the_turn_back(home: Path) -> None:
    with pytest.raises(ZeroDivisionError), home_lock("turn"):
        raise ZeroDivisionError
    assert waiting("turn")[1].wait(10)
    assert sorted(path.name for path in home.glob("clipsmith-*")) == ["clipsmith-turn.lock"]
