"""The day that `tests/system/day.py` plays goes well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.day import main

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]  # five minutes on a quiet machine


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert main(tmp_path) == 0
