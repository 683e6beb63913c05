"""Cache keys are made of contents; a cached output counts only with its objects; cost is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from artifacts.errors import ObjectDamaged, ObjectMissing
from artifacts.refs import ArtifactRef
from artifacts.store import results
from artifacts.store.store import Store, activate, active_store
from tasks.runs.step_cost import StepStats, peak_rss_mb
from tasks.runs.steps import STEPS, StepCache, StepOutput, cached_step, identity, kept, measured
from tasks.runs.versions import package_version
from tests.wording import refusal

STATS = StepStats(wall_s=1.0, peak_rss_mb=2.0)


class Output(StepOutput):
    thing: ArtifactRef
    count: int = 1


def thing(store: Store, content: bytes = b"x") -> ArtifactRef:
    with store.staging() as folder:
        (folder / "f").write_bytes(content)
        return store.add("thing", folder)


def key(policy: StepCache | None = None, **inputs: Any) -> str:
    return (policy or StepCache(step="s", version=1)).compute_key(None, inputs, None)


def test_key_sees_contents_and_not_costs(store: Store) -> None:
    first = Output(thing=thing(store), stats=STATS)
    dearer = Output(thing=thing(store), stats=StepStats(wall_s=9.0, peak_rss_mb=9.0))
    other = Output(thing=thing(store, b"y"), stats=STATS)
    assert key(a=first) == key(a=dearer)
    assert len({key(a=first), key(a=other), key(b=first), key(a=[first]), key(a=first.count), key()}) == 6


def test_key_sees_step_version_result_store_and_packages(store: Store, tmp_path: Path) -> None:
    keys = [
        key(StepCache(step="s", version=1)),
        key(StepCache(step="t", version=1)),
        key(StepCache(step="s", version=2)),
        key(StepCache(step="s", version=1, packages=("numpy",))),
        key(StepCache(step="s", version=1, packages=("no-such-package",))),
        key(StepCache(step="s", version=1, result="tasks.made.Output")),
        key(StepCache(step="s", version=1, result="tasks.moved.Output")),
    ]
    with activate(Store.open(tmp_path / "other")):
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert keys[0] == key()
    assert store.id != ""


def test_key_changes_with_a_package(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.id
    policy = StepCache(step="s", version=1, packages=("numpy",))
    before = key(policy)
    monkeypatch.setattr("tasks.runs.steps.package_version", lambda _name: "0.0.1")
    assert key(policy) != before
    assert package_version("numpy") == np.__version__
    assert package_version("no-such-package") == "not installed"


@cached_step("test-kept", version=1)
def make_output(content: str, times: int = 2) -> Output:
    return Output(thing=thing(active_store(), content.encode() * times), count=times, stats=STATS)


del STEPS["test-kept"]  # what decides a run counts all steps, and other processes do not have this one


def test_what_is_kept_is_found_without_a_server(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda *_, **__: pytest.fail("it is asked"))
    assert kept(make_output, ["a"]) is None
    made = Output(thing=thing(store, b"aa"), count=2, stats=STATS)
    key_of = make_output.cache_policy.compute_key(None, {"content": "a", "times": 2}, {})
    results.write(store, results.name_of("test-kept", 1, key_of), made.model_dump_json())
    assert kept(make_output, ["a"]) == kept(make_output, ["a", 2]) == made
    assert kept(make_output, ["b"]) is None and kept(make_output, ["a", 3]) is None
    store.path(made.thing, "f").chmod(0o644)
    store.path(made.thing, "f").write_bytes(b"xx")
    assert kept(make_output, ["a"]) is None, "what it refers to is damaged"
    results.write(store, results.name_of("test-kept", 1, key_of), "{")
    assert kept(make_output, ["a"]) is None


@pytest.mark.parametrize("value", [Path("/x"), {1, 2}, object(), b"x", np.zeros(2), [Path("/x")], {"a": object()}])
def test_what_has_no_content_is_refused(value: Any) -> None:
    """Prefect would run such a step uncached without a word."""
    with refusal(TypeError):
        identity(value)


def test_identity_of_plain_values() -> None:
    class Settings(BaseModel):
        a: int = 1

    class Speaks(BaseModel):
        path: str

        def cache_identity(self) -> str:
            return "content"

    assert identity((1, "a", None, True, 1.5, {"k": [2]})) == [1, "a", None, True, 1.5, {"k": [2]}]
    assert identity(Settings()) == {"a": 1}
    assert identity(Speaks(path="/a")) == identity(Speaks(path="/b")) == "content"


def test_a_stored_output_is_believed_only_with_its_objects(store: Store, tmp_path: Path) -> None:
    ref = thing(store)
    text = Output(thing=ref, stats=STATS).model_dump_json()
    assert Output.model_validate_json(text).thing == ref
    with activate(Store.open(tmp_path / "other")), pytest.raises(ObjectMissing):
        Output.model_validate_json(text)
    path = store.root / "objects" / ref.digest[:2] / ref.digest / "f"
    path.chmod(0o644)
    path.write_bytes(b"y")
    with pytest.raises(ObjectDamaged):
        Output.model_validate_json(text)
    path.unlink()
    with pytest.raises(ObjectMissing):
        Output.model_validate_json(text)


def test_measured_time_and_memory() -> None:
    with measured() as meter:
        block = np.ones(30_000_000)  # 229 MiB, touched
        time.sleep(0.05)
        during = peak_rss_mb()
    assert 0.05 <= meter.stats.wall_s < 5
    assert meter.stats.peak_rss_mb >= 229
    assert meter.stats.peak_rss_mb == pytest.approx(during, rel=0.2)
    assert block.size
    wall = meter.stats.wall_s
    time.sleep(0.02)
    assert meter.stats.wall_s == wall


def test_samples_are_counted_and_the_wait_for_them_is_told_from_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("tasks.runs.steps.time.perf_counter", lambda: clock)

    def slowly() -> Iterator[list[int]]:
        nonlocal clock
        for size in (8, 8, 4):
            clock += 3.0
            yield list(range(size))
        clock += 1.0

    with measured() as meter:
        meter.on("A card")
        clock += 50.0  # before the first is asked for
        for items in meter.fed(slowly(), len):
            assert items
            clock += 2.0
        clock += 50.0
    stats = meter.stats
    assert (stats.device, stats.samples_per_s, stats.waited) == ("A card", round(20 / 16, 3), round(10 / 16, 4))
    with measured() as meter:
        assert list(meter.fed(iter([]), len)) == []
    assert (meter.stats.device, meter.stats.samples_per_s, meter.stats.waited) == ("cpu", None, None)


def test_a_step_names_the_class_that_it_returns_and_prefect_reads_it_back_by_that_path() -> None:
    def work() -> Output:
        raise AssertionError

    step = cached_step("named", version=1)(work)
    try:
        assert step.cache_policy.result == STEPS["named"][2] == f"{__name__}.Output"
    finally:
        del STEPS["named"]


def test_a_step_that_does_not_say_what_it_returns_is_refused() -> None:
    def work():  # type: ignore[no-untyped-def]
        raise AssertionError

    with refusal(TypeError):
        cached_step("unnamed", version=1)(work)


def test_every_result_of_the_pipeline_lies_where_its_key_says() -> None:
    import importlib

    import flows.inputs  # noqa: F401  (imports every step)

    for _, _, path in STEPS.values():
        module, _, name = path.rpartition(".")
        assert issubclass(getattr(importlib.import_module(module), name), StepOutput), path
    assert len(STEPS) > 10
