"""Prefect's own mechanism over the store's cache: who has the store has the results, which are read as JSON alone."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.results import ResultStore
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from artifacts.errors import ConfigError
from artifacts.refs import ArtifactRef
from artifacts.store import results
from artifacts.store.garbage import collect
from artifacts.store.store import Store, activate, active_store
from tasks.runs.step_cost import StepStats
from tasks.runs.step_results import StepResults, StepSerializer
from tasks.runs.steps import STEPS, StepOutput, cached_step
from tests.artifacts.support import add, place

calls: list[str] = []


class Made(StepOutput):
    thing: ArtifactRef
    rows: tuple[dict[str, Any], ...]


@cached_step("write-a-thing", version=4)
def step(text: str) -> Made:
    calls.append(text)
    rows = ({"text": text, "share": 0.1 + 0.2, "none": None},)
    return Made(thing=add(active_store(), text.encode()), rows=rows, stats=StepStats(wall_s=1.0, peak_rss_mb=2.0))


del STEPS["write-a-thing"]  # what decides a run counts all steps, and other processes do not have this one


@flow(persist_result=False)
def run(text: str) -> tuple[str, Made]:
    """Call the step; how it ended."""
    state = step.with_options(task_run_name="with other options")(text, return_state=True)
    return str(state.name), state.result()


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path) -> Any:
    """No calls yet, and a home of Prefect's that nobody has used."""
    calls.clear()
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "prefect"}):
        yield


def entry(store: Store) -> Path:
    (path,) = (store.root / "cache" / "results").iterdir()
    return path


def test_another_home_finds_what_the_store_has(store: Store, tmp_path: Path) -> None:
    ended, made = run("x")
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "another"}):
        assert run("x") == ("Cached", made)
    assert (ended, calls) == ("Completed", ["x"])
    assert entry(store).name.startswith("write-a-thing-4-")
    assert not (tmp_path / "prefect").exists()
    assert not (tmp_path / "another").exists()


def test_another_store_finds_nothing(store: Store, tmp_path: Path) -> None:
    run("x")
    with activate(Store.open(tmp_path / "other")):
        assert run("x")[0] == "Completed"
    assert calls == ["x", "x"]
    assert entry(store).is_file()


def test_what_lost_its_object_is_done_again_and_it_is_said(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, made = run("x")
    (place(store, made.thing) / "a.bin").unlink()
    assert run("x")[0] == "Completed"
    assert "write-a-thing is done again, what is kept of it cannot be used: thing object" in caplog.text
    assert run("x")[0] == "Cached"
    assert calls == ["x", "x"]


def test_the_collector_takes_a_result_with_its_object(store: Store) -> None:
    _, made = run("x")
    store.close()
    found = collect(store)
    assert found.objects == (made.thing.digest,)
    assert [Path(path).name.rpartition("-")[0] for path in found.leftovers] == ["write-a-thing-4"]
    assert run("x")[0] == "Completed"


class Attack:
    """What a pickle may run."""

    def __reduce__(self) -> Any:
        return calls.append, ("attacked",)


@pytest.mark.parametrize(
    "forged",
    [
        {
            "metadata": {"serializer": {"type": "pickle", "picklelib": "pickle"}},
            "result": base64.encodebytes(pickle.dumps(Attack())).decode(),
        },
        {"__class__": "tests.tasks.runs.test_step_results.Attack", "data": {}},
        {"thing": {"__class__": "antigravity", "data": None}, "rows": [], "stats": {"wall_s": 1, "peak_rss_mb": 2}},
    ],
    ids=["pickle", "a class", "a class within"],
)
def test_nothing_in_an_entry_is_executed(store: Store, forged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not where its digest and its name are right, as whoever may write in a bucket can make them."""
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)
    run("x")
    results.write(store, entry(store).stem, json.dumps(forged))
    assert run("x")[0] == "Completed"
    assert calls == ["x", "x"], "the step, and not the attack"
    assert "antigravity" not in sys.modules
    assert run("x")[0] == "Cached"


def test_what_a_dictionary_holds_names_no_class(store: Store) -> None:
    """Prefect's own reader would import the module, and build what is named."""
    made = Made(
        thing=add(store),
        rows=({"__class__": "antigravity.fly", "data": 1},),
        stats=StepStats(wall_s=1.0, peak_rss_mb=2.0),
    )
    assert StepSerializer().loads(StepSerializer().dumps(made)) == made


def test_a_record_is_what_prefect_reads(store: Store) -> None:
    made = Made(thing=add(store), rows=(), stats=StepStats(wall_s=1.0, peak_rss_mb=2.0))
    storage = StepResults(step="s", version=1, result=f"{__name__}.Made")
    ResultStore(result_storage=storage, serializer=StepSerializer()).write(made, key="k")
    assert results.read(store, "s-1-k") == made.model_dump_json()
    assert ResultStore(result_storage=storage).read("k").result == made
    with pytest.raises(FileNotFoundError):
        storage.read_path("l")


@pytest.mark.parametrize("key", ["../../store", "/etc/passwd", "a/../../b"])
def test_a_key_leads_nowhere_else(store: Store, key: str) -> None:
    storage = StepResults(step="s", version=1, result=f"{__name__}.Made")
    made = Made(thing=add(store), rows=(), stats=StepStats(wall_s=1.0, peak_rss_mb=2.0))
    record = json.dumps({"metadata": {}, "result": StepSerializer().dumps(made).decode()}).encode()
    before = (store.root / "store.json").read_bytes()
    for use in (lambda: storage.write_path(key, record), lambda: storage.read_path(key)):
        with pytest.raises(ConfigError, match="cannot be the name"):
            use()
    assert list((store.root / "cache").iterdir()) == []
    assert (store.root / "store.json").read_bytes() == before
