"""Latency: interleaved rounds, order statistics, and no claims where nothing was measured."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.schema import check_rows
from artifacts.store.store import Store, activate
from tasks.device.device_turn import device_turn
from tasks.device.interleaved import MIN_ROUNDS, LatencySettings
from tasks.pipeline import latency
from tasks.pipeline.latency import measure
from tests.processes import new_mark

pytestmark = pytest.mark.usefixtures("in_store")


class Engine:
    def __init__(self, precision: str, log: list[str], milliseconds: float) -> None:
        self.precision, self.log, self.milliseconds = precision, log, milliseconds
        self.calls = 0
        self.feeds: list[dict[str, np.ndarray]] = []

    def infer(self, feed: dict[str, np.ndarray]) -> None:
        self.calls += 1
        self.log.append(self.precision)
        self.feeds.append(feed)

    def last_inference_time(self) -> float:
        return self.milliseconds * (1 + 0.01 * (self.calls % 7)) / 1e3


class Fake:
    """A backend whose FP8 takes 1 ms and whose FP16 takes 2 ms."""

    def __init__(self, emulated: str | None = None, absent: str | None = None) -> None:
        self.emulated, self.absent = emulated, absent
        self.log: list[str] = []
        self.engines: dict[str, Engine] = {}

    def why_not_run(self, _target: str) -> str | None:
        return self.absent

    def device(self) -> str:
        return "Fake 1"

    def state(self) -> None:
        return None

    def emulation(self, precision: str) -> str | None:
        return self.emulated if precision == "fp8" else None

    @contextmanager
    def runner(self, engine: Path, name: str) -> Iterator[Engine]:
        assert engine.name == f"{name.split()[0]}.fake.engine"
        precision = name.split()[0]
        yield self.engines.setdefault(precision, Engine(precision, self.log, {"fp16": 2.0, "fp8": 1.0}[precision]))


def engines(store: Store, *precisions: str) -> Any:
    refs = {}
    for precision in precisions:
        with store.staging() as folder:
            (folder / f"{precision}.fake.engine").write_text(precision)
            refs[precision] = store.add("engine", folder)
    return refs


def run(
    backend: Fake, prepared: Any, monkeypatch: pytest.MonkeyPatch, *precisions: str, **settings: Any
) -> tuple[list[dict[str, Any]], dict[str, list[float]]]:
    monkeypatch.setattr(latency, "backend_for", lambda _target: backend)
    values = LatencySettings(**({"batches": [1, 4], "rounds": 20} | settings))
    result = measure(prepared.snapshot, "image", "fake", engines(prepared.store, *precisions), values)
    check_rows("latency", result.rows)
    raw = json.loads(prepared.store.path(result.samples, "latencies.json").read_text())
    return list(result.rows), raw


def test_numbers_are_those_of_the_samples(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, raw = run(Fake(), prepared, monkeypatch, "fp16", "fp8")
    assert [(row["precision"], row["batch"]) for row in rows] == [("fp16", 1), ("fp8", 1), ("fp16", 4), ("fp8", 4)]
    for row in rows:
        times = raw[f"image {row['precision']} fake batch {row['batch']}"]
        assert row["rounds"] == len(times) == 20
        for name, quantile in (("median_ms", 50), ("p95_ms", 95), ("p99_ms", 99)):
            assert row[name] == pytest.approx(np.percentile(times, quantile), abs=1e-5)
        assert row["throughput"] == pytest.approx(1000 * row["batch"] / np.median(times), rel=1e-4)
        assert (row["status"], row["device"]) == ("measured", "Fake 1")
        assert row["load"] >= 0
    for row in rows[1::2]:
        assert row["speedup"] == pytest.approx(2, rel=0.05)
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
    assert all(row["speedup"] is None for row in rows[::2])


def test_rounds_are_interleaved_after_warm_up(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Fake()
    run(backend, prepared, monkeypatch, "fp16", "fp8", batches=[4])
    timed = backend.log[-40:]
    warm_up = backend.log[:-40]
    assert {"fp16", "fp8"} == set(warm_up)
    pairs = [tuple(timed[index : index + 2]) for index in range(0, 40, 2)]
    assert pairs == [("fp16", "fp8"), ("fp8", "fp16")] * 10
    for engine in backend.engines.values():
        for feed in engine.feeds:
            assert {name: (array.dtype, array.shape) for name, array in feed.items()} == {
                "pixel_values": (np.float16, (4, 3, 32, 32))
            }


def test_emulation_is_never_called_a_speedup(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = run(Fake(emulated="FP8 is emulated"), prepared, monkeypatch, "fp16", "fp8")
    for row in rows:
        assert row["speedup"] is row["speedup_low"] is row["speedup_high"] is None
        emulated = row["precision"] == "fp8"
        assert (row["status"], row["note"]) == (("emulated", "FP8 is emulated") if emulated else ("measured", None))


def test_what_cannot_run_is_listed_as_built(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, raw = run(Fake(absent="no GPU"), prepared, monkeypatch, "fp16", "fp8")
    assert raw == {}
    assert len(rows) == 4
    for row in rows:
        assert (row["status"], row["note"], row["median_ms"]) == ("built, not run", "no GPU", None)


def test_one_precision_alone_has_no_speedup(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = run(Fake(), prepared, monkeypatch, "fp8")
    assert [row["speedup"] for row in rows] == [None, None]


def test_time_ends_it_but_not_before_a_few_rounds(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = run(Fake(), prepared, monkeypatch, "fp16", "fp8", batches=[1], rounds=10_000, seconds=1e-9)
    assert {row["rounds"] for row in rows} == {MIN_ROUNDS}


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The device of `Fake`, which only this test knows."""
    made = f"test-{next(iter(new_mark().values()))}"
    monkeypatch.setattr(latency, "device_key", lambda _device: made)
    yield made
    (Path("/tmp") / f"clipsmith-{made}.lock").unlink(missing_ok=True)


def test_another_benchmark_is_waited_for_and_that_is_not_the_steps_time(
    prepared: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Fake()
    monkeypatch.setattr(latency, "backend_for", lambda _target: backend)
    found: list[latency.Latency] = []

    def work() -> None:
        with activate(prepared.store):
            refs = engines(prepared.store, "fp16", "fp8")
            found.append(measure(prepared.snapshot, "image", "fake", refs, LatencySettings(batches=[1], rounds=5)))

    with device_turn(key):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(2)
        assert thread.is_alive()
        assert backend.log == []
    thread.join(30)
    assert [row["status"] for row in found[0].rows] == ["measured"] * 2
    assert found[0].stats.wall_s < 1.5


def test_what_cannot_run_waits_for_nobody(prepared: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with device_turn(key):
        rows, _ = run(Fake(absent="no GPU"), prepared, monkeypatch, "fp16", "fp8")
    assert len(rows) == 4
