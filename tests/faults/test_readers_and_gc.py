"""P7, P11: readers survive the collector, and what a living process holds stays whatever retires it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from artifacts.errors import AliasNotFound, ObjectMissing, ReleaseNotFound, StoreBusy
from artifacts.keeping.promotion import promote
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import place
from tests.faults.checks import at_once
from tests.faults.support import publish, read_whole, scratch

ROOT = Path(__file__).parent.parent.parent
SECONDS = 2.0


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch("readers") as folder:
        yield Path(folder) / "store"


def read(root: Path) -> int:
    """Read the alias's and the newest release to the last byte, again and again; how many were read."""
    store, count = Store.open(root, writable=False), 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        for reference in ("a:production", "a"):
            with suppress(AliasNotFound), store.reading():
                read_whole(store, store.find(reference))
                count += 1
        time.sleep(0.001)  # a collector gets its turn
    return count


def look_up(root: Path) -> int:
    """As `read`, without holding anything: all of it or a typed answer."""
    store, count = Store.open(root, writable=False), 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        with suppress(AliasNotFound, ReleaseNotFound, ObjectMissing):
            manifest = store.find("a:production")
            count += all(store.read(manifest, file.path) for file in manifest.files)
    return count


def work(root: Path) -> int:
    """Publish, promote and retire; how many releases were retired."""
    store, retired = Store.open(root), 0
    until = time.monotonic() + SECONDS
    for number in range(10**6):
        if time.monotonic() > until:
            break
        promote(store, publish(store, "a", str(number)).ref, "production")
        store.close()
        with suppress(StoreBusy):
            retired += len(collect(store, keep=1, wait_s=0.2).releases)
    return retired


def turn(root: Path, what: str) -> int:
    return {"read": read, "look up": look_up, "work": work}[what](root)


def test_readers_only_see_whole_releases(root: Path) -> None:
    publish(store := Store.open(root), "a", "first")
    store.close()
    *read_by, retired = at_once(turn, *((root, what) for what in ("read", "read", "look up", "work")))
    print(f"\nreleases read: {read_by}, retired meanwhile: {retired}")
    assert all(count > 5 for count in (*read_by, retired))
    assert verify(root).problems == ()


HOLDING = """
import sys
from artifacts.store.store import Store
store = Store.open(sys.argv[1])
for ref in store.find("a@1").objects():
    store.check(ref)
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_process_loaded_stays_until_it_ends(root: Path) -> None:
    """A server loaded a release that is retired under it: its files stay while it lives, and go when it is killed."""
    store = Store.open(root)
    old = publish(store, "a", "1")
    publish(store, "a", "2")
    store.close()
    server = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert server.stdout is not None and server.stdin is not None
    assert server.stdout.readline() == "held\n"
    assert collect(store, keep=1).releases == ("a@1",)
    assert collect(store).objects == ()
    read_whole(store, old)
    os.kill(server.pid, signal.SIGKILL)
    server.communicate()
    own = old.objects()[0]
    assert collect(store).objects == (own.digest,)
    assert not place(store, own).exists()
    assert verify(root).problems == ()
