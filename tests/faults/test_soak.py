"""Everything at once on one store, a holder of its locks stopped in the middle: nothing is lost, nobody is stuck."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artifacts.refs import digest_file
from artifacts.store import aliases, layout, tombstones
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.conftest import ROOT
from tests.processes import own_environment
from tests.thorough import amount

SECONDS, STOPPED_S = amount(45.0, 300.0), amount(3.0, 60.0)
LONG_S = 400
"""Nobody is stuck who is done by then, also on a slow machine."""
KINDS = ("gc", "verify", "move", "export", "unpack")


class Worker:
    """A process of the soak, with what it printed."""

    def __init__(self, folder: Path, kind: str, *more: str) -> None:
        self.name = "-".join((kind, *more[1:2]))
        self._out, self._err = folder / f"{self.name}.out", folder / f"{self.name}.err"
        environment = own_environment(
            PREFECT_HOME=str(folder / f"home-{self.name}"),
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=str(LONG_S),
            OMP_NUM_THREADS="1",
            OMP_WAIT_POLICY="PASSIVE",
        )
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.soak_worker", kind, str(folder), *more],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )

    def facts(self, key: str) -> list[dict[str, Any]]:
        """What it printed of one kind; of what it prints just now there may be half a line."""
        lines = self._out.read_text().splitlines(keepends=True)
        documents = (json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n"))
        return [document for document in documents if key in document]

    def errors(self) -> str:
        return self._err.read_text(errors="replace")

    def until(self, done: Callable[[], object]) -> None:
        """Wait for something that this process does."""
        deadline = time.monotonic() + LONG_S
        while not done():
            assert self.process.poll() is None, f"{self.name} ended: {self.errors()[-3000:]}"
            assert time.monotonic() < deadline, f"{self.name} is stuck: {self.errors()[-3000:]}"
            time.sleep(0.1)

    def finish(self) -> None:
        assert self.process.wait(LONG_S) == 0, f"{self.name}: {self.errors()[-3000:]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def run(kind: str, *more: str) -> Worker:
        started.append(Worker(tmp_path, kind, *more))
        return started[-1]

    yield run
    for worker in started:
        worker.process.kill()
        worker.process.communicate()


@pytest.mark.heavy
@pytest.mark.timeout(3 * LONG_S)
def test_everything_at_once(start: Callable[..., Worker], small_clip: Path, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    makers = [start("optimize", str(small_clip), name, str(SECONDS)) for name in ("one", "two")]
    makers[0].until(lambda: makers[0].facts("seeded"))
    others = {kind: start(kind) for kind in KINDS}
    (tmp_path / "start").touch()
    for kind, fact in (("unpack", "unpacked"), ("gc", "collected"), ("move", "moved"), ("export", "exported")):
        others[kind].until(lambda worker=others[kind], fact=fact: worker.facts(fact))

    stop_a_holder(start("hold"), others["unpack"])

    for maker in makers:
        maker.finish()
    (tmp_path / "stop").touch()
    for worker in others.values():
        worker.finish()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU {after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.0f} s")
    counts = {kind: len(others[kind].facts(fact)) for kind, fact in (("move", "moved"), ("export", "exported"))}
    print(counts, {maker.name: len(maker.facts("published")) for maker in makers})
    check_nothing_lost(tmp_path / "store", makers, others)


def stop_a_holder(holder: Worker, waiter: Worker) -> None:
    """Stop a process that holds the store's locks, see that who waits says so, and let it go on."""
    holder.until(lambda: holder.facts("held"))
    os.kill(holder.process.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    wanted = f"held by process {holder.process.pid} "
    waiter.until(lambda: wanted in waiter.errors() and "which is stopped" in waiter.errors())
    time.sleep(max(0.0, STOPPED_S - (time.monotonic() - stopped)))
    os.kill(holder.process.pid, signal.SIGCONT)
    assert holder.process.stdin is not None
    holder.process.stdin.write(b"\n")
    holder.process.stdin.flush()
    holder.finish()


def check_nothing_lost(root: Path, makers: list[Worker], others: dict[str, Worker]) -> None:
    for fact in others["verify"].facts("problems"):
        assert fact["problems"] == []
    assert verify(root).problems == ()
    store = Store.open(root)
    refs = {manifest.ref for manifest in store.releases()}
    for maker in makers:
        made = maker.facts("published")
        assert len({fact["published"] for fact in made}) == len(made) >= 2
        for fact in made:
            model, _, version = fact["published"].partition("@")
            path = layout.manifest_path(root, model, int(version))
            if fact["published"] in refs:
                assert digest_file(path) == fact["sha256"]
            else:
                assert tombstones.read(path.with_suffix(".retired")).manifest == fact["sha256"]
    new = [fact["unpacked"] for fact in others["unpack"].facts("unpacked") if fact["new"]]
    assert len(set(new)) == 2
    moves = {(*fact["moved"],): fact["to"] for fact in others["move"].facts("moved")}
    history = [entry for model, alias in aliases.names(root) for entry in aliases.history(root, model, alias)]
    assert moves == {(entry.model, entry.number): entry.ref for entry in history}
    collect(store, wait_s=5)
    assert [path.name for path in (root / "staging").iterdir()] == []
    assert verify(root).problems == ()
