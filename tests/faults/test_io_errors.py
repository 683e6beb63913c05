"""P3: every operation of the store fails in turn, for want of room or for a broken disk.

The error comes out, nothing half-done is visible, nothing is left in staging, nothing that was promised is lost, and
the same call works once the disk does.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from artifacts import fs
from artifacts.errors import ClipsmithError
from tests.faults.scenarios import Life, go_on
from tests.faults.support import SEAM, Acknowledged, check_sound, scratch

THOROUGH = "CLIPSMITH_FAULT_TRIALS" in os.environ
ERRORS = (errno.EIO, errno.ENOSPC)
REMOVALS = ("unlink", "remove_folder")


class Fault:
    """The n-th operation fails with this error; `hit` is its name once it did."""

    def __init__(self, number: int, error: int) -> None:
        self.number = number
        self.error = error
        self.count = 0
        self.hit: str | None = None

    @contextmanager
    def injected(self) -> Iterator[None]:
        with mock.patch.multiple(fs, **{name: self._wrap(name, getattr(fs, name)) for name in SEAM}):
            yield

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., None]:
        def run(path: Path, *more: Any) -> None:
            self.count += 1
            if self.count - 1 != self.number:
                real(path, *more)
                return
            self.hit = name
            if name == "write_file":
                real(path, more[0][: len(more[0]) // 2])  # as much as there was room for
            raise OSError(self.error, os.strerror(self.error), str(path))

        return run


def nothing() -> None:
    """Nobody is told."""


def damage(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def life_in(base: Path, done: Acknowledged) -> Life:
    return Life(base, done, nothing, damage)


def fail_once(base: Path, done: Acknowledged, step: str, fault: Fault) -> None:
    """Do a step in which one operation fails, look, and do it again."""
    life = life_in(base, done)
    try:
        with fault.injected():
            life.steps()[step]()
    except (OSError, ClipsmithError) as problem:
        assert fault.hit is not None, problem
    else:
        assert fault.hit is None or fault.hit in REMOVALS, f"{fault.hit} failed and nobody was told"
    if fault.hit not in REMOVALS and step != "collect":
        left = list((life.root / "staging").iterdir()) if (life.root / "staging").is_dir() else []
        assert left == [], f"{fault.hit} failed and left {left}"
    if done.opened and not done.damaged:
        check_sound(life.root, done)
    life.steps()[step]()
    life.close()
    check_sound(life.root, done)


@pytest.mark.parametrize("which", [0, 1] if THOROUGH else [None])
def test_an_error_at_every_operation(which: int | None) -> None:
    """All errors at all operations when thorough; else in turn."""
    count = 0
    with scratch("errors") as folder:
        base, done = Path(folder) / "now", Acknowledged()
        base.mkdir()
        names = [name for name in life_in(base, done).steps() if "if there" not in name]
        for step in names:
            for number in itertools.count():
                trial = Path(folder) / "trial"
                shutil.copytree(base, trial)
                error = ERRORS[number % 2 if which is None else which]
                fault, promised = Fault(number, error), done.copy()
                try:
                    fail_once(trial, promised, step, fault)
                    if number % 5 == 0:
                        go_on(trial / "store", promised)
                        check_sound(trial / "store", promised)
                        assert list((trial / "store" / "staging").iterdir()) == []
                except Exception as problem:
                    words = f"{step}: operation {number} ({fault.hit}) failed with {errno.errorcode[error]}"
                    raise AssertionError(words) from problem
                shutil.rmtree(trial)
                if fault.hit is None:
                    break
                count += 1
            life = life_in(base, done)
            life.steps()[step]()
            life.close()
    print(f"\n{count} operations failed")
    assert count > 400
