"""Settings of the whole process."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from pathlib import Path

import pytest
from prefect.logging.handlers import PrefectConsoleHandler

from artifacts.errors import ConfigError, NotAStore
from artifacts.store import layout
from artifacts.store.store import Store
from deployments.server import environment
from deployments.server.environment import quiet_libraries, require_store
from tasks.prefect_ui.known_errors import KnownErrors
from tasks.runs.progress import _log as progress_log

SAID = {
    "step 3 of 14: calibrate image": "step 3 of 14: calibrate image",
    "Finished in state Completed()": None,
    "Finished in state Cached(type=COMPLETED)": None,
    "Beginning flow run 'demo' for flow 'optimize'": None,
}
"""What is logged, and what of it the console shows."""


def test_the_console_alone_leaves_errors_to_the_command_line() -> None:
    root, other = logging.getLogger(), logging.NullHandler()
    quiet_libraries()  # sets Prefect's handlers up, where nothing has before
    root.addHandler(other)
    try:
        with warnings.catch_warnings():
            quiet_libraries()
        consoles = [handler for handler in root.handlers if isinstance(handler, PrefectConsoleHandler)]
        record = root.makeRecord("a", logging.ERROR, "b", 1, "c", (), (ValueError, ValueError("d"), None))
        assert consoles and not any(handler.filter(record) for handler in consoles)
        assert other.filter(record)
        for message, line in SAID.items():
            record = root.makeRecord("a", logging.INFO, "b", 1, message, (), None)
            assert [bool(handler.filter(record)) for handler in consoles] == [line is not None] * len(consoles)
            assert line is None or re.fullmatch(rf"\d\d:\d\d:\d\d {line}", consoles[0].format(record))
        warning = root.makeRecord("a", logging.WARNING, "b", 1, "odd", (), None)
        assert consoles[0].format(warning).endswith(" WARNING: odd")
        assert progress_log.isEnabledFor(logging.INFO), "a search says how far it is, outside of any run"
    finally:
        root.removeHandler(other)


def test_up_refuses_a_store_that_each_of_its_runs_would_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPSMITH_BUCKET", raising=False)
    require_store(tmp_path / "none")
    assert not (tmp_path / "none").exists(), "looking makes nothing"
    root = Store.open(tmp_path / "store").root
    require_store(root)
    (root / layout.BUCKET).touch()
    with pytest.raises(ConfigError, match="working copy of a bucket"):
        require_store(root)
    monkeypatch.setenv("CLIPSMITH_BUCKET", "s3://team")
    require_store(root)
    monkeypatch.delenv("CLIPSMITH_BUCKET")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(NotAStore):
        require_store(tmp_path / "other")


def test_an_error_that_ends_a_run_is_left_to_the_command_line() -> None:
    """In a run's log on a server our own errors have no traceback; on the terminal they are told once, at the end."""
    record = logging.LogRecord("prefect.flow_runs", logging.ERROR, __file__, 1, "no such recipe", (), None)
    assert environment._worth_a_line(record)
    try:
        raise ConfigError("no such recipe")
    except ConfigError:
        record = logging.LogRecord("prefect.flow_runs", logging.ERROR, __file__, 1, "%s", ("it",), sys.exc_info())
    assert not environment._worth_a_line(record)
    assert KnownErrors().filter(record) and record.exc_info is None
    assert not environment._worth_a_line(record)
