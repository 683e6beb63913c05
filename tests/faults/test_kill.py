"""P1, P7, P8, P11: processes killed with SIGKILL at random moments; `tests/faults/kill_trials.py` is what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.support import scratch
from tests.thorough import amount

ROOT = Path(__file__).parent.parent.parent


def run_trials(trials: int, seed: int) -> dict[str, int]:
    with scratch("kill") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.kill_trials", folder, str(trials), str(seed)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, f"seed {seed}:\n{done.stderr[-6000:]}"
        assert list(Path(folder).glob("store*/")) == []
    counts: dict[str, int] = json.loads(done.stdout)
    print(f"\nkill -9: {counts}")
    return counts


def test_killed_at_random_moments() -> None:
    counts = run_trials(int(os.environ.get("CLIPSMITH_FAULT_TRIALS", "200")), seed=4)
    assert counts["trials"] >= 200
    for what in ("published", "moved", "collected", "read", "exported"):
        assert counts[what] > 50, f"too little was at work: {counts}"
    assert counts["leftovers"] == 0


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_killed_at_other_moments_in_every_run() -> None:
    assert run_trials(amount(200, 2000), seed=int.from_bytes(os.urandom(4)))["leftovers"] == 0
