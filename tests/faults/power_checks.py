"""What must be true after a power loss at any moment, whatever of what was not flushed survives."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from artifacts import fs
from artifacts.keeping.repair import repair
from artifacts.store import ledger
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.faults.power import Moment, Recorder, Survives, frozen, image, write_image
from tests.faults.scenarios import Life, go_on
from tests.faults.support import check_sound, scratch

THOROUGH = "CLIPSMITH_FAULT_TRIALS" in os.environ
SUBSETS = 4 if THOROUGH else 1


@dataclass
class Count:
    """What was looked at."""

    moments: int = 0
    images: int = 0
    distinct: int = 0


def recorded(base: Path, **mutants: Callable[..., None]) -> Recorder:
    """A store's whole life, recorded; operations of `artifacts.fs` may be replaced."""
    recorder = Recorder(base)
    life = Life(base, recorder.done, recorder.promise, recorder.damage)
    recorder.promise()
    with recorder.running(), mock.patch.dict(vars(fs), mutants):
        for step in life.whole():
            step()
        life.close()
    return recorder


def ways(seed: int, subsets: int) -> Iterator[Survives]:
    """How much survives: what was flushed, everything, or subsets by seed."""
    yield "flushed"
    yield "everything"
    for number in range(subsets):
        yield random.Random(f"{seed} {number}")


def check_moments(moments: list[Moment], base: Path, *, subsets: int) -> Count:
    """Every moment, in every way; a picture of the disk that was seen before with the same promises is left out."""
    count = Count(moments=len(moments))
    seen: set[tuple[object, ...]] = set()
    places = (base / str(number) for number in itertools.count())
    for number, moment in enumerate(moments):
        for survives in ways(number, subsets):
            count.images += 1
            found = image(moment.disk, survives)
            key = (frozen(found), repr(moment.done))
            if key in seen:
                continue
            seen.add(key)
            count.distinct += 1
            where = next(places)
            thorough = THOROUGH or count.distinct % 3 == 0
            write_image(found, where)
            try:
                check_after_power_loss(where / "store", moment, thorough=thorough)
            except Exception as error:
                raise AssertionError(f"power lost after operation {number}, {moment.after}") from error
            shutil.rmtree(where)
    return count


def check_after_power_loss(root: Path, moment: Moment, *, thorough: bool) -> None:
    """Sound as it is, and, when `thorough`, after work went on."""
    done = moment.done.copy()
    if done.damaged:
        repair(Store.open(root))
    if moment.done.opened or (root / "store.json").exists():
        check_sound(root, done)
    else:
        assert not root.exists() or verify(root).problems == ()
    if thorough:
        go_on(root, done)
        check_sound(root, done)


def check_whole_life(subsets: int = SUBSETS, **mutants: Callable[..., None]) -> Count:
    """Power lost after every operation of a store's whole life."""
    with scratch("power") as folder:
        (Path(folder) / "disk").mkdir()
        recorder = recorded(Path(folder) / "disk", **mutants)
        return check_moments(recorder.moments, Path(folder), subsets=subsets)


# --- a process is killed, another goes on, and then the power fails ------------------------------------------

FOUR = ("publish 1", "promote 1", "publish 2", "sign 2", "publish 3", "publish 4", "promote 4")
PAIRS = {
    "a new store, opened by both": ((), ("open",), ("publish 1",)),
    "the same release (P6)": (("open",), ("publish 1",), ("publish 1",)),
    "a release whose publisher was killed is promoted": (("open",), ("publish 1",), ("promote 1 if there",)),
    "the same promotion": (("publish 1",), ("promote 1",), ("promote 1",)),
    "another promotion": (("publish 1", "publish 2"), ("promote 1",), ("promote 2",)),
    "signing": (("publish 1", "publish 2"), ("sign 2",), ("sign 2",)),
    "signing a release whose publisher was killed": (("publish 1",), ("publish 2",), ("sign 2 if there",)),
    "retiring": (FOUR, ("collect",), ("collect",)),
    "inserting": (("publish 1",), ("insert",), ("insert",)),
}


@mock.patch.object(ledger, "_SHARD", 2)  # entries in many folders
def check_pair(pair: str) -> Count:
    """Power lost at the end, the first process having been killed after each of its operations in turn."""
    before, first, second = PAIRS[pair]
    count = Count()
    for operations in itertools.count():
        with scratch("second") as folder:
            (Path(folder) / "disk").mkdir()
            recorder = Recorder(Path(folder) / "disk")
            killed = two_processes(recorder, operations, before, first, second)
            more = check_moments(recorder.moments[-1:], Path(folder), subsets=SUBSETS)
        count = Count(count.moments + more.moments, count.images + more.images, count.distinct + more.distinct)
        if not killed:
            return count
    raise AssertionError("unreachable")


def two_processes(
    recorder: Recorder, operations: int, before: Sequence[str], first: Sequence[str], second: Sequence[str]
) -> bool:
    """Run `before` whole, `first` up to so many operations, `second` whole; whether the first was killed."""
    lives = [Life(recorder.base, recorder.done, recorder.promise, recorder.damage) for _ in range(2)]
    with recorder.running():
        for name in before:
            lives[0].steps()[name]()
        killed = recorder.killed_after(operations, lambda: [lives[0].steps()[name]() for name in first])
        for name in second:
            lives[1].steps()[name]()
        recorder.promise()
        lives[1].close()
    return killed
