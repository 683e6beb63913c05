"""The day that `tests/system/day.py` plays goes well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.day import main
from tests.thorough import THOROUGH

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not THOROUGH, reason="five minutes of what other tests hold piece by piece: make test-thorough"),
]


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert main(tmp_path) == 0
