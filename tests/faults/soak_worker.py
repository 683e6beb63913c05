"""The processes of the soak (`python -m tests.faults.soak_worker KIND ...`): each does one thing again and again.

What they are told is done they print, one JSON document a line. They go on until the file `stop` is there.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from artifacts import locks
from artifacts.copies.archive import pack, unpack
from artifacts.copies.exporting import export
from artifacts.errors import AliasNotFound, NothingToRollBack, ReleaseNotFound, StoreBusy
from artifacts.keeping.promotion import promote, rollback
from artifacts.manifest import Manifest
from artifacts.refs import digest_file
from artifacts.store import layout
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.flows.conftest import small_parameters

LEAST_RUNS = 2
ALIAS = "production"


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def until_stopped(folder: Path, pause_s: float) -> Iterator[int]:
    """Rounds, until the file `stop` is in the folder."""
    count = 0
    while not (folder / "stop").exists():
        yield count
        count += 1
        time.sleep(pause_s)


def published(manifest: Manifest, root: Path) -> None:
    path = layout.manifest_path(root, manifest.model, manifest.version)
    say(published=manifest.ref, sha256=digest_file(path))


def run_once(model: str, root: Path, name: str, number: int) -> Manifest:
    """A real run; runs that differ in the bound of a gate share all steps, and are other releases."""
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters

    changes = {"name": name, "gates__min_cosine_mean": number / 1000}
    parameters = OptimizeParameters.model_validate(small_parameters(model, root, **changes))
    ref = optimize(parameters).ref
    return Store.open(root, writable=False).find(ref)


def seed(model: str, folder: Path) -> None:
    """A store whose steps are cached, and archives of releases that it lacks."""
    run_once(model, folder / "store", "guest", 5)
    shutil.copytree(folder / "store", folder / "elsewhere")
    for rounds in (6, 7):
        manifest = run_once(model, folder / "elsewhere", "guest", rounds)
        pack(Store.open(folder / "elsewhere"), manifest, folder / f"{manifest.ref}.tar")
    say(seeded=True)


def optimizing(model: str, folder: Path, name: str, seconds: float) -> None:
    if name == "one":
        seed(model, folder)
    while not (folder / "start").exists():
        time.sleep(0.1)
    end, rounds = time.monotonic() + seconds, 10
    while rounds < 10 + LEAST_RUNS or time.monotonic() < end:
        published(run_once(model, folder / "store", name, rounds), folder / "store")
        rounds += 1
        time.sleep(1)


def collecting(folder: Path) -> None:
    for count in until_stopped(folder, 1):
        with suppress(StoreBusy):
            found = collect(Store.open(folder / "store"), keep=2 if count % 3 == 2 else None, wait_s=2)
            say(collected=len(found.releases))


def verifying(folder: Path) -> None:
    for _ in until_stopped(folder, 1):
        say(problems=[str(problem) for problem in verify(folder / "store").problems])


def moving(folder: Path) -> None:
    rng = random.Random(0)
    for _ in until_stopped(folder, 0.3):
        store = Store.open(folder / "store")
        model, back = rng.choice(("guest", "one", "two")), rng.random() < 0.3
        with suppress(ReleaseNotFound, AliasNotFound, NothingToRollBack):  # not there yet, or retired meanwhile
            refs = [manifest.ref for manifest in store.readable() if manifest.model == model] or [model]
            move = rollback(store, model, ALIAS) if back else promote(store, rng.choice(refs), ALIAS)
            if move.moved:
                say(moved=[model, move.after.number], to=move.after.ref)


def exporting(folder: Path) -> None:
    rng = random.Random(1)
    for count in until_stopped(folder, 0.5):
        store = Store.open(folder / "store", writable=False)
        with suppress(ReleaseNotFound), store.reading():
            manifest = rng.choice(store.readable())
            export(store, manifest, folder / f"export-{count}")
            say(exported=manifest.ref)
        shutil.rmtree(folder / f"export-{count}", ignore_errors=True)


def unpacking(folder: Path) -> None:
    archives = sorted(folder.glob("*.tar"))
    for count in until_stopped(folder, 0.5):
        store = Store.open(folder / "store")
        manifest, new = unpack(store, archives[count % len(archives)])
        say(unpacked=manifest.ref, new=new)
        store.close()


def holding(folder: Path) -> None:
    """Hold what publishers and the collector need, until told to go on."""
    store = Store.open(folder / "store")
    with locks.exclusive(store.root / layout.PUBLISH_LOCK), store.reading():
        say(held=True)
        sys.stdin.readline()


if __name__ == "__main__":
    kind, place, *rest = sys.argv[1:]
    if kind == "optimize":
        optimizing(rest[0], Path(place), rest[1], float(rest[2]))
    else:
        does = {"gc": collecting, "verify": verifying, "move": moving, "export": exporting, "unpack": unpacking}
        (does | {"hold": holding})[kind](Path(place))
