"""Waiting for a lock: after two seconds a message says what is waited for, who holds the lock since when, how to stop.

The kernel says who holds a lock (proc(5), /proc/locks), and /proc describes every process of this machine, also those
of other users. Processes of other containers cannot be seen.
"""

from __future__ import annotations

import datetime
import logging
import os
import pwd
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Literal

SAY_AFTER_S, AGAIN_S = 2.0, 60.0
_LOOK_S = 1.0
_LONGEST = 120
_PROC = Path("/proc")
_UNSEEN = "a process that cannot be seen from here, as of another container"
Say = Callable[[str], None]


def warn(message: str) -> None:
    """The default way to say it: a warning in the log, which goes to stderr or wherever the process's log goes."""
    logging.getLogger(__name__).warning("%s", message)


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock. `since` is when it took the lock or, if `started`, when the process started, in
    seconds since the epoch."""

    pid: int
    state: Literal["running", "stopped", "ended"]
    command: str = ""
    since: float = 0.0
    started: bool = False

    def words(self) -> str:
        """The process in words, for messages."""
        if self.state == "ended":
            return f"process {self.pid}, which has ended"
        when = datetime.datetime.fromtimestamp(self.since).astimezone().isoformat(" ", "seconds")
        since = f"{'running since' if self.started else 'since'} {when}"
        return f"process {self.pid} ({self.command}) {since}{', which is stopped' * (self.state == 'stopped')}"


class Waiting:
    """One wait for the lock of an open file at `path`; `what` names the reason in words."""

    def __init__(self, file: int, path: Path, what: str, say: Say) -> None:
        self._file = file
        self._path = path
        self._what = what
        self._say = say
        self._next = SAY_AFTER_S
        self._looked = -_LOOK_S
        self._odd: frozenset[Holder] = frozenset()
        self._last = ""

    def look(self, waited: float) -> None:
        """Report the wait; call this repeatedly while others hold the lock. `waited` is the time so far in seconds.

        The first message names the holders. It is repeated when a holder turns out to be stopped or to have ended, and
        at most once a minute when the holders change.
        """
        if waited < SAY_AFTER_S or waited - self._looked < _LOOK_S:
            return
        self._looked = waited
        found = holders(self._file)
        odd = frozenset(holder for holder in found if holder.state != "running")
        message = f"waiting for {self._what} ({self._path}): held by {in_words(found)}; {how_to_stop(found)}"
        if message != self._last and (waited >= self._next or odd - self._odd):
            self._say(message)
            self._last, self._next, self._odd = message, waited + AGAIN_S, odd


def in_words(found: list[Holder]) -> str:
    """The holders of a lock in words."""
    first = "; ".join(holder.words() for holder in found[:3])
    return (first + f" and {len(found) - 3} more" * (len(found) > 3)) or _UNSEEN


def how_to_stop(found: list[Holder]) -> str:
    """What a user who waits can do."""
    stopped = [holder.pid for holder in found if holder.state == "stopped"]
    wake = f"`kill -CONT {stopped[0]}` lets it go on, `kill -KILL {stopped[0]}` ends it; " if stopped else ""
    return f"{wake}Ctrl-C, or cancelling the run, stops waiting"


def holders(file: int) -> list[Holder]:
    """The processes that hold a lock (flock) on an open file; empty if the kernel does not show them.

    If the process that took the lock has ended but a child of it keeps the file open, both are named.
    """
    stat = os.fstat(file)
    locks = list(_locks(stat))
    found = [_describe(pid, stat.st_mtime if alone else None) for pid, alone in locks]
    if any(holder.state == "ended" for holder in found) or not found:
        found += [_describe(pid, stat.st_mtime) for pid in _keeping_open(stat) if pid not in dict(locks)]
    return found


def _locks(stat: os.stat_result) -> Iterator[tuple[int, bool]]:
    """(pid, holds it exclusively), from lines such as `1: FLOCK ADVISORY WRITE 516 fe:00:2351117 0 EOF`."""
    place = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    with suppress(OSError):
        for line in (_PROC / "locks").read_text().splitlines():
            match line.split():
                case [_, "FLOCK", _, mode, pid, where, *_] if where == place:
                    yield int(pid), mode == "WRITE"


def _keeping_open(stat: os.stat_result) -> Iterator[int]:
    """Processes that have the file open with a lock on it, as far as we may read their folders in /proc."""
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):
                    if os.path.samestat(descriptor.stat(), stat):
                        info = (folder / "fdinfo" / descriptor.name).read_text()
                        if "FLOCK" in info and int(folder.name) != os.getpid():
                            yield int(folder.name)
                            break


def _describe(pid: int, taken: float | None) -> Holder:
    """Describe a process; `taken` is when the lock was last taken exclusively."""
    try:
        folder = _PROC / str(pid)
        name, _, rest = (folder / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        fields = rest.split()
        ago = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
        owner = folder.stat().st_uid
        with suppress(OSError):
            name = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace") or name
    except (OSError, IndexError, ValueError):
        return Holder(pid, "ended")
    if fields[0] in "ZX":
        return Holder(pid, "ended")
    command = shorten("".join(c if c.isprintable() else " " for c in name), _LONGEST, placeholder=" ...")
    if owner != os.geteuid():
        command += f", of {_user(owner)}"
    start = time.time() - ago
    started = taken is None or taken < start
    since = start if taken is None else max(start, taken)
    return Holder(pid, "stopped" if fields[0] in "Tt" else "running", command, round(since), started)


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:  # a container's user id without a name
        return f"user {number}"
