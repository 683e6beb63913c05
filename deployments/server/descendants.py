"""The descendants of a process: its children, their children and so on. None of them may be left when it ends.

Flow runs have sessions of their own, so process groups do not hold them together. A subreaper does: a descendant that
loses its parent becomes the subreaper's child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_KILLING_S = 2.0


def adopt_orphans() -> None:
    """Make this process a subreaper: it becomes the parent of descendants that lose theirs."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children(pid: int) -> list[int]:
    """The children of all threads of a process."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            found += map(int, (thread / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """The descendants of a process, without zombies (processes that only wait to be reaped)."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        for child in children(waiting.pop()):
            waiting.append(child)
            if not _is_zombie(child):
                found.append(child)
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those of the processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_descendants() -> None:
    """Kill all descendants of this process, repeatedly, as they may start new ones, for at most `_KILLING_S` seconds.
    Call `adopt_orphans` first."""
    deadline = time.monotonic() + _KILLING_S
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        time.sleep(0.02)
