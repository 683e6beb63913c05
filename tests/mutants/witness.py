"""A pytest plugin that tells what turned red first, and whether the modules came from the folder that pytest runs in.

It is copied beside a mutated tree and loaded by its name, so it imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

REPORT = "CLIPSMITH_MUTANTS_REPORT"
"""Environment variable: the file to write."""
TOPS = ("artifacts", "tasks", "flows", "deployments")


class Witness:
    """Watches one run."""

    def __init__(self, report: Path, home: Path) -> None:
        self._report = report
        self._home = home
        self._passed = 0
        self._red: str | None = None
        self._reason = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first test that failed, in its setup or in itself."""
        self._passed += report.when == "call" and report.passed
        if report.failed and self._red is None:
            crash = getattr(report.longrepr, "reprcrash", None)
            self._red, self._reason = report.nodeid, "" if crash is None else crash.message.partition("\n")[0]

    def pytest_sessionfinish(self) -> None:
        """Write what was seen."""
        strangers = sorted(name for name in sys.modules if name.partition(".")[0] in TOPS and self._is_foreign(name))
        found = {"passed": self._passed, "red": self._red, "reason": self._reason, "strangers": strangers}
        self._report.write_text(json.dumps(found), encoding="utf-8")

    def _is_foreign(self, name: str) -> bool:
        file = getattr(sys.modules[name], "__file__", None)
        return file is not None and not Path(file).resolve().is_relative_to(self._home)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch."""
    config.pluginmanager.register(Witness(Path(os.environ[REPORT]), Path.cwd().resolve()))
