"""Two engines of different releases are timed in one turn at their device."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from artifacts.store.store import Store, activate
from tasks.comparing import paired_latency
from tasks.device.device_turn import device_turn
from tasks.device.interleaved import LatencySettings
from tasks.families import family_named
from tests.processes import new_mark
from tests.tasks.pipeline.test_latency import Fake, engines

LOCKS = Path("/tmp")
pytestmark = pytest.mark.usefixtures("in_store")


class Sides(Fake):
    """Runners are named by their side first."""

    def runner(self, engine: Any, name: str) -> Any:
        return super().runner(engine, name.partition(" ")[2])


def test_they_are_timed_while_nobody_else_has_the_device(
    prepared: Any, in_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"test-{next(iter(new_mark().values()))}"
    backend = Sides()
    monkeypatch.setattr(paired_latency, "backend_for", lambda _target: backend)
    monkeypatch.setattr(paired_latency, "device_key", lambda _device: key)
    refs = engines(in_store, "fp16", "fp8")
    spec = family_named(prepared.snapshot.family).encoder_spec(prepared.snapshot.config, "image")
    pair: Any = {"before": ("fp16", refs["fp16"]), "after": ("fp8", refs["fp8"])}
    found: list[Any] = []

    def work() -> None:
        with activate(in_store):
            found.extend(paired_latency.latency_rows(spec, "fake", pair, [1], LatencySettings(batches=[1], rounds=5)))

    with device_turn(key):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert backend.log == []
    thread.join(30)
    (LOCKS / f"clipsmith-{key}.lock").unlink()
    (row,) = found
    assert (row["status"], row["rounds"]) == ("measured", 5)
    assert row["speedup"] == pytest.approx(2, rel=0.05)
