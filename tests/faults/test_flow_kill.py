"""`clipsmith optimize` killed at random moments, and run again until it is done.

Finished steps are reused, the release is that of an undisturbed run, and nothing is left: no lock, no process.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.store.store import Store
from tests.conftest import CLIPSMITH
from tests.flows.conftest import small_parameters
from tests.processes import left_after, new_mark, own_environment
from tests.thorough import amount

SEED = int(os.environ.get("CLIPSMITH_FAULT_SEED", "20261124"))
CHAINS = amount(1, 3)
# Per chain, one after the other on the same store: kills in the first seconds, kills in the middle of the work, and
# kills in the seconds after the last step, which is when the release is put together and published.
KILLS = ["early"] * amount(1, 4) + ["working"] * amount(3, 4) + ["publishing"] * amount(2, 3)
STEP = re.compile(r" step +\d+ of \d+: (.+?) +[\d.]+ s +\d+ MiB(?:  [\d,]+/s)?(?:, about .+ left)?(  \(cached\))?$")
LAST_STEP = "latency text onnxruntime"

# What two undisturbed runs do not agree on either, and why. Everything else is the same to the byte.
DIFFERS = {
    r"evidence/latency-.+/latencies\.json": "measured times",
    r"tables/(latency|stages)\.parquet": "measured times and memory",
    r"report\.html": "shows the measured times",
    r"checkpoint/modelopt_state\.pth": "ModelOpt pickles quantizer attributes in the order of a set of strings",
}


@dataclass
class Command:
    """One `clipsmith optimize` in a process of its own, and its log as it comes."""

    config: Path
    home: Path
    mark: dict[str, str] = field(default_factory=new_mark)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [str(CLIPSMITH), "optimize", "--config", str(self.config), "--json"],
            env=own_environment(**self.mark, PREFECT_HOME=str(self.home)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [threading.Thread(target=self._read_log), threading.Thread(target=self._read_result)]
        self.result = ""
        for reader in self._readers:
            reader.start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip())

    def _read_result(self) -> None:
        assert self.process.stdout is not None
        self.result = self.process.stdout.read()

    def steps(self) -> dict[str, bool]:
        """The steps that ended so far; whether they came from the cache."""
        return {match[1]: bool(match[2]) for line in list(self.log) if (match := STEP.search(line))}

    def reach(self, computed: int) -> None:
        """Wait until the run has computed so many steps, or is through with them, or has ended."""
        while self.process.poll() is None:
            steps = self.steps()
            if list(steps.values()).count(False) >= computed or LAST_STEP in steps:
                return
            time.sleep(0.02)

    def kill(self) -> bool:
        """kill -9; False when it had ended by itself."""
        self.process.send_signal(signal.SIGKILL)
        return self.finish() == -signal.SIGKILL

    def finish(self) -> int:
        code = self.process.wait(300)
        for reader in self._readers:
            reader.join(30)
        return code


def held_locks(store: Path) -> list[str]:
    """The files of a store that somebody holds a lock on."""
    held = []
    for path in (p for p in store.rglob("*") if p.is_file() and "objects" not in p.parts):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(str(path.relative_to(store)))
    return held


def digests(document: dict[str, Any]) -> dict[str, str]:
    """Path in the release -> sha256."""
    return {file["path"]: file["sha256"] for file in document["artifacts"]}


def unmeasured(document: dict[str, Any]) -> dict[str, Any]:
    """The tables that are computed, not measured."""
    return {name: rows for name, rows in document["tables"].items() if name not in ("latency", "stages")}


@pytest.fixture(scope="module")
def command(small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Command]:
    """`command(store)`: start a run on that store."""
    home = tmp_path_factory.mktemp("prefect")

    def start(store: Path) -> Command:
        config = store.with_suffix(".yaml")
        config.write_text(yaml.safe_dump(small_parameters(small_clip, store)))
        return Command(config, home)

    return start


@pytest.fixture(scope="module")
def undisturbed(
    command: Callable[[Path], Command], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], int]:
    """What a run prints that nobody disturbs, and how many steps it has."""
    run = command(tmp_path_factory.mktemp("undisturbed") / "store")
    assert run.finish() == 0, "\n".join(run.log)
    assert set(run.steps().values()) == {False}
    assert LAST_STEP in run.steps()
    assert not left_after(run.mark, 0)
    return json.loads(run.result), len(run.steps())


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chain", range(CHAINS))
def test_killed_and_run_again(
    chain: int, command: Callable[[Path], Command], undisturbed: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    document, steps_in_all = undisturbed
    rng = random.Random(SEED + chain)
    print(f"seed {SEED}, chain {chain}")
    store = tmp_path / "store"
    finished: set[str] = set()
    killed = 0
    for kind in KILLS:
        run = command(store)
        if kind == "working":
            run.reach(computed=rng.randint(1, 8))
        elif kind == "publishing":
            run.reach(computed=steps_in_all)
        delay = rng.uniform(0, 4 if kind == "early" else 2)
        time.sleep(delay)
        killed += run.kill()
        steps = run.steps()
        reused = {step for step, cached in steps.items() if cached}
        print(f"{kind}, {delay:.2f} s: {len(steps)} steps, {len(reused)} of them reused; exit {run.process.returncode}")
        assert not left_after(run.mark, 15)
        check_reused(reused, finished & steps.keys())
        finished |= steps.keys()
        check_store(store)
    assert killed >= len(KILLS) - 2  # the last one or two may have been done before the blow fell
    run = command(store)
    check_finished(run, finished, document, store)
    assert len(run.steps()) == steps_in_all


def check_store(store: Path) -> None:
    """A killed run's store opens, holds no release or a whole one, and nobody holds a lock in it."""
    if store.exists():
        assert held_locks(store) == []
        opened = Store.open(store)
        for manifest in opened.releases():
            for file in manifest.files:
                opened.read(manifest, file.path)


def check_reused(reused: set[str], finished: set[str]) -> None:
    """Every step that was told to have finished is reused, and no other but those that ended as their run was killed.

    Of these there are builds, which run side by side and are told of in order, and one step that runs alone.
    """
    assert finished <= reused
    assert sum(not step.startswith("build ") for step in reused - finished) <= 1


def check_finished(run: Command, finished: set[str], expected: dict[str, Any], store: Path) -> None:
    """The run after all kills: reuses every finished step, and its release is that of an undisturbed run."""
    assert run.finish() == 0, "\n".join(run.log)
    check_reused({step for step, cached in run.steps().items() if cached}, finished)
    assert not left_after(run.mark, 0)
    assert held_locks(store) == []
    assert len(Store.open(store, writable=False).releases()) == 1
    document = json.loads(run.result)
    ours, theirs = digests(document), digests(expected)
    assert ours.keys() == theirs.keys()
    different = {path for path in ours if ours[path] != theirs[path]}
    unexplained = {path for path in different if not any(re.fullmatch(pattern, path) for pattern in DIFFERS)}
    assert not unexplained
    assert unmeasured(document) == unmeasured(expected)
