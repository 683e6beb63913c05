"""Processes that tests start: their environment, and which belong to one test (a mark that children inherit)."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

MARK = "CLIPSMITH_TEST_MARK"
SERVER_VARIABLES = ("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")


def own_environment(**changes: str) -> dict[str, str]:
    """For a child that brings its own API server: ours, less the one that a command run in this process has started."""
    return {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES} | changes


def open_files(part: str) -> list[str]:
    """The files whose path holds `part` that this process has open."""
    paths = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sorted(path for path in paths if part in path)


def new_mark() -> dict[str, str]:
    """An environment variable that marks a process and everything it starts."""
    return {MARK: uuid.uuid4().hex}


def marked(mark: dict[str, str]) -> dict[int, str]:
    """The living processes with this mark, and their command lines."""
    wanted = f"{MARK}={mark[MARK]}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ProcessLookupError):
            continue  # it ended while we looked, or is not ours to look at
    return {pid: command for pid, command in found.items() if command and pid != os.getpid()}


def left_after(mark: dict[str, str], seconds: float) -> dict[int, str]:
    """The marked processes that are still there after waiting up to `seconds` for all to end."""
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
