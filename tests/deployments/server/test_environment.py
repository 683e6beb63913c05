"""Settings of the whole process."""

from __future__ import annotations

import logging
import re
import warnings

from prefect.logging.handlers import PrefectConsoleHandler

from deployments.server.environment import quiet_libraries

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
    finally:
        root.removeHandler(other)
