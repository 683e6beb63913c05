"""Settings of the whole process."""

from __future__ import annotations

import logging
import warnings

from prefect.logging.handlers import PrefectConsoleHandler

from deployments.server.environment import quiet_libraries


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
    finally:
        root.removeHandler(other)
