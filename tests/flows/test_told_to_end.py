"""`clipsmith optimize` that is told to end while engines are built: it does not wait for them, and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from artifacts.store.store import Store
from tests.conftest import CLIPSMITH
from tests.flows.conftest import small_parameters
from tests.processes import left_after, marked, new_mark, own_environment
from tests.thorough import amount

BUILDER = "tasks.engines.child"
# Builders that take their time: what Python runs when it starts, wherever this folder is on its path.
SLOW = f"""
import sys, time
if any({BUILDER!r} in argument for argument in sys.orig_argv):
    time.sleep(600)
"""


def _heed_ctrl_c() -> None:
    """A shell's background jobs ignore it, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def run(small_clip: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """An `optimize` whose builders hang, and its mark."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(SLOW)
    config, mark = tmp_path / "run.yaml", new_mark()
    config.write_text(yaml.safe_dump(small_parameters(small_clip, tmp_path / "store")))
    process = subprocess.Popen(
        [str(CLIPSMITH), "optimize", "--config", str(config)],
        env=own_environment(**mark, PREFECT_HOME=str(tmp_path / "prefect"), PYTHONPATH=str(tmp_path / "slow")),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    yield process, mark
    process.kill()
    process.communicate()


@pytest.mark.heavy
@pytest.mark.parametrize("number", amount([signal.SIGTERM], [signal.SIGTERM, signal.SIGINT]))
def test_it_ends_soon(
    number: signal.Signals, run: tuple[subprocess.Popen[str], dict[str, str]], tmp_path: Path
) -> None:
    process, mark = run
    deadline = time.monotonic() + 300
    while not any(BUILDER in line for line in marked(mark).values()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode != 0, log
    assert not left_after(mark, 5)
    assert Store.open(tmp_path / "store").releases() == []
