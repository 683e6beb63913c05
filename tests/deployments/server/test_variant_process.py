"""Variants in processes of their own: the answer comes back, a death is told, and none is left over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.server import variant_process
from deployments.server.variant_process import VariantProcesses
from tests.conftest import CLIPSMITH
from tests.flows.conftest import small_parameters
from tests.processes import left_after, marked, new_mark, own_environment

ANSWER = """
import pickle, sys
context, parameters = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(("an id", f"{parameters}, {'settings_context' in context}")))
"""
THREADS = """
import os, pickle, sys
pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(("", os.environ["OMP_NUM_THREADS"])))
"""
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
WAITS = """
import sys, time
open(sys.argv[1] + "/begun", "w").close()
time.sleep(600)
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """`child(code)`: what the children run instead of `optimize`, with a folder as their first argument."""
    return lambda code: monkeypatch.setattr(variant_process, "_PROGRAM", ("-c", code, str(tmp_path)))


def test_the_answer_comes_back(child: Callable[[str], None]) -> None:
    child(ANSWER)
    given: Any = "parameters"
    assert VariantProcesses(2).make("a", given) == ("an id", "parameters, True")


@pytest.mark.parametrize(
    ("at_once", "asked", "threads"), [(2, None, "4"), (3, None, "2"), (16, None, "1"), (2, "7", "7")]
)
def test_each_computes_with_its_share_of_the_cores(
    child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, at_once: int, asked: str | None, threads: str
) -> None:
    """Unless the environment says how many threads."""
    child(THREADS)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    given: Any = None
    assert VariantProcesses(at_once).make("a", given).ended == threads


def test_a_death_is_told_in_one_line(child: Callable[[str], None]) -> None:
    """Also where more was to be said to it than a pipe holds."""
    child(KILLED)
    given: Any = "x" * 1_000_000
    assert VariantProcesses(2).make("a", given) == ("", "its process died: killed (SIGKILL), most likely out of memory")


def test_what_runs_is_ended_and_nothing_begins_once_stopped(child: Callable[[str], None], tmp_path: Path) -> None:
    child(WAITS)
    given: Any = None
    processes, made = VariantProcesses(2), []
    thread = threading.Thread(target=lambda: made.append(processes.make("a", given)))
    thread.start()
    _wait_until((tmp_path / "begun").exists)
    with processes.stopped():
        thread.join(10)
        made.append(processes.make("a", given))
    assert made == [
        ("", "its process died: killed by SIGUSR1 in native code"),
        ("", "stopped before it began"),
    ]


def _wait_until(true: Callable[[], object], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def night(small_clip: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Callable[[], dict[int, str]]]]:
    """A `nightly` of the variants `a` and `b` at once, and its variants' processes, by now."""
    folder, mark = tmp_path / "variants", new_mark()
    folder.mkdir()
    for name in ("a", "b"):
        parameters = small_parameters(Path(shutil.copytree(small_clip, tmp_path / name)), tmp_path)
        del parameters["store"]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"promote": None, "parameters": parameters}))
    places = {"CLIPSMITH_VARIANTS": str(folder), "PREFECT_HOME": str(tmp_path / "prefect")}
    process = subprocess.Popen(
        [str(CLIPSMITH), "nightly", "--at-once", "2", "--store", str(tmp_path / "store"), "--json"],
        env=own_environment(**mark, **places),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def theirs() -> dict[int, str]:
        return {pid: line for pid, line in marked(mark).items() if "variant_process" in line}

    yield process, theirs
    process.kill()
    process.communicate()
    assert left_after(mark, 20) == {}


Night = tuple[subprocess.Popen[str], Callable[[], dict[int, str]]]


@pytest.mark.heavy
def test_a_killed_variant_fails_alone(night: Night) -> None:
    process, theirs = night
    _wait_until(lambda: len(theirs()) == 2)
    os.kill(min(theirs()), signal.SIGKILL)
    out, err = process.communicate(timeout=280)
    outcomes = {one["variant"]: one for one in json.loads(out)["outcomes"]}
    assert list(outcomes) == ["a", "b"]
    (failed,) = [one for one in outcomes.values() if one["result"] == "failed"]
    (good,) = [one for one in outcomes.values() if one["result"] != "failed"]
    assert "its process died: killed (SIGKILL)" in str(failed)
    assert (good["result"], good["release"]) == ("released", f"{good['variant']}@1"), err
    assert f" {good['variant']}: step " in err, "lines of several runs share the terminal"


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_none_outlives_the_night(night: Night, number: signal.Signals) -> None:
    """The fixture looks for what is left."""
    process, theirs = night
    _wait_until(lambda: len(theirs()) == 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGKILL, 130)
    assert "Traceback" not in err, err
    _wait_until(lambda: not theirs(), 20)
