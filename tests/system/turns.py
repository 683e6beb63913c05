"""Processes that take turns at a device, and keep theirs until they are told to go on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import new_mark
from tests.system.servers import Up

TURN = """
import sys
from pathlib import Path
from tasks.device import device_turn
key, device_turn._FOLDER = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
with device_turn.device_turn(key):
    print("mine", flush=True)
    sys.stdin.readline()
    print("done", flush=True)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(running, key, host)`: a process that takes a turn and keeps it until it gets a line; each host has its own
    folder for locks."""
    started: list[subprocess.Popen[str]] = []

    def run(running: Up, key: str, host: str) -> subprocess.Popen[str]:
        (tmp_path / host).mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", TURN, key, str(tmp_path / host)],
            env=running.environment | {"PREFECT_API_URL": running.api_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        started.append(process)
        assert says(process) == "ready"
        return process

    with (tmp_path / "log").open("w") as log:
        yield run
    for process in started:
        process.kill()
        process.communicate()
    print((tmp_path / "log").read_text())


@pytest.fixture
def key() -> str:
    """A device that only this test knows."""
    return f"gpu-{next(iter(new_mark().values()))}"


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
