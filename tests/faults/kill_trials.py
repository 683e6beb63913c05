"""`python -m tests.faults.kill_trials FOLDER TRIALS SEED`: processes at work on one store, killed at random moments.

A lean process of its own, so that forking costs little. In each trial two publishers (who promote what they publish,
and roll back), a collector that retires, and two readers are at work; each is killed with SIGKILL at a moment of its
own. What they had been promised, one line each, is in `log`, a file for each process: SIGKILL can end a write where a
page of the file ends, and half a line is known for what it is, no promise, as the last of its file. Then the store
must be sound and usable. A new store is begun every `PER_STORE` trials, so that making one is interrupted too. Prints
counts as JSON; the exit code says all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from artifacts.copies.exporting import export
from artifacts.errors import (
    AliasMoved,
    AliasNotFound,
    ExportFailed,
    NotAStore,
    NothingToRollBack,
    ObjectMissing,
    ReleaseNotFound,
    StoreBusy,
)
from artifacts.keeping.promotion import promote, rollback
from artifacts.store import layout
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from tests.faults.scenarios import go_on
from tests.faults.support import Acknowledged, check_sound, publish, read_whole, sha256

PER_STORE = 20
LONGEST_S = 0.1
PAUSE_S = 0.004  # of all but publishers, so that these get somewhere
Note = Callable[..., None]


class Trial:
    """Processes on one store and what they noted."""

    def __init__(self, root: Path, dice: random.Random) -> None:
        self.root = root
        self.log = log_of(root)
        self.log.mkdir(parents=True, exist_ok=True)
        self.dice = dice

    def run(self, number: int) -> None:
        """Fork the processes, kill each at its own moment, and wait for all."""
        moments = {
            self._fork(work, f"{number}-{index}"): self.dice.uniform(0.001, LONGEST_S)
            for index, work in enumerate((publisher, publisher, collector, reader, exporter))
        }
        started = time.monotonic()
        for pid, moment in sorted(moments.items(), key=lambda item: item[1]):
            time.sleep(max(0.0, started + moment - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
        for pid in moments:
            _, status = os.waitpid(pid, 0)
            if not os.WIFSIGNALED(status):
                promised(self.log, Counter())  # which raises what it noted
                raise AssertionError("a process ended by itself and noted nothing")

    def _fork(self, work: Callable[[Path, str, Note], None], name: str) -> int:
        pid = os.fork()
        if pid:
            return pid
        handle = os.open(self.log / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

        def note(*words: object) -> None:
            os.write(handle, (json.dumps(words) + "\n").encode())

        try:
            while True:
                work(self.root, name, note)
                time.sleep(PAUSE_S)
        finally:  # only an error gets here
            note("FAILED", work.__name__, traceback.format_exc())
            os._exit(1)


def publisher(root: Path, name: str, note: Note) -> None:
    """Publish, promote, now and then the same again or back."""
    store = Store.open(root)
    note("opened")
    for count in range(10**6):
        what = f"{name}-{count}" if count % 4 else "common"
        manifest = publish(store, "a", what)
        note("published", manifest.ref, sha256(manifest.to_bytes()), what)
        try:
            if count % 5 == 4:
                entry = rollback(store, "a", "production").after
            else:
                entry = promote(store, manifest.ref, "production").after
        except (AliasMoved, NothingToRollBack, ReleaseNotFound):
            continue  # another publisher was faster, or a collector retired it
        note("moved", entry.model, entry.alias, entry.number, entry.ref)


def collector(root: Path, _: str, note: Note) -> None:
    """Retire all but two releases, again and again."""
    store = Store.open(root)
    try:
        found = collect(store, keep=2, wait_s=0.01)
    except StoreBusy:
        return
    note("collected", len(found.releases), len(found.objects))


def reader(root: Path, _: str, note: Note) -> None:
    """Read what the alias points to, whole, while nothing can be removed."""
    try:
        store = Store.open(root, writable=False)
    except NotAStore:
        return
    with store.reading():
        try:
            manifest = store.find("a:production")
        except AliasNotFound:
            return
        read_whole(store, manifest)
    note("read", manifest.ref)


def exporter(root: Path, name: str, note: Note) -> None:
    """Export the newest release, which may be retired meanwhile: whole, or a typed error and nothing."""
    target = root.with_name(f"export-{name}")
    try:
        store = Store.open(root, writable=False)
        manifest = store.find("a")
        export(store, manifest, target)
    except (NotAStore, ReleaseNotFound, ObjectMissing):
        assert not target.exists(), "an export that failed left something"
        return
    except ExportFailed as error:
        raise AssertionError(str(error)) from error
    assert (target / "manifest.json").read_bytes() == manifest.to_bytes()
    for file in manifest.files:
        assert sha256((target / file.path).read_bytes()) == file.sha256
    shutil.rmtree(target)
    note("exported", manifest.ref)


def log_of(root: Path) -> Path:
    """Where the processes at work on this store note what they are promised."""
    return root.with_name(f"log-{root.name}")


def promised(log: Path, counts: Counter[str]) -> Acknowledged:
    """What was noted; a release that was acknowledged twice must be the same one."""
    done = Acknowledged()
    whats: dict[str, str] = {}
    lines = (line for file in sorted(log.iterdir()) for line in file.read_text().splitlines(keepends=True))
    for line in lines:
        if not line.endswith("\n"):
            continue
        kind, *words = json.loads(line)
        counts[kind] += 1
        match kind:
            case "FAILED":
                raise AssertionError("\n".join(words))
            case "opened":
                done.opened = True
            case "published":
                ref, digest, what = words
                assert done.releases.setdefault(ref, digest) == digest, f"{ref} was given to two releases"
                assert whats.setdefault(ref, what) == what, f"{ref} was given to {what} and {whats[ref]}"
            case "moved":
                model, alias, number, ref = words
                key = (model, alias, number)
                assert done.moves.setdefault(key, ref) == ref, f"two promoters won move {number}"
    return done


def main(folder: Path, trials: int, seed: int) -> Counter[str]:
    """All trials; AssertionError when anything that was promised is not so."""
    dice = random.Random(seed)
    counts: Counter[str] = Counter(trials=trials)
    for number in range(trials):
        if number % PER_STORE == 0:
            root = folder / f"store-{number}"
        Trial(root, dice).run(number)
        done = promised(log_of(root), Counter())
        check_sound(root, done, retiring=True)
        if number % PER_STORE == PER_STORE - 1 or number == trials - 1:
            promised(log_of(root), counts)
            go_on(root, done)
            check_sound(root, done, retiring=True)
            counts["leftovers"] += leftovers(root)
            counts["versions"] += max(layout.numbers(root / "releases" / "a", retired=True))
            shutil.rmtree(root)
    return counts


def leftovers(root: Path) -> int:
    """What the killed left once a collector has been there: nothing."""
    return sum(1 for name in ("staging", "leases", "locks", "quarantine") for _ in (root / name).iterdir())


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
