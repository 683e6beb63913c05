"""A step that takes too long is ended, says so, and leaves nothing behind; what was done before is found again."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flows.optimize
import tasks.pipeline.engine_build
import tasks.pipeline.fp16_range
from artifacts.errors import StepTimedOut
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tasks.engines.child import build_in_child
from tasks.runs.step_limit import step_limit_s
from tests.flows.conftest import replace_work
from tests.wording import refusal

Run = Callable[..., tuple[Manifest, list[str]]]


def test_the_run_fails_and_the_next_goes_on_from_there(
    run: Run, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @functools.wraps(tasks.pipeline.fp16_range.check_range)
    def for_ever(*_: Any, **__: Any) -> None:
        while True:
            time.sleep(0.01)

    folder = tmp_path / "store"
    text = {"encoders": ["text"], "precisions": ["fp16"]}
    with monkeypatch.context() as patched:
        patched.setattr(flows.optimize, "_MINUTE_S", 1)
        replace_work(patched, tasks.pipeline.fp16_range, "check_range", for_ever)
        with refusal(StepTimedOut):
            run(small_clip, folder, step_minutes=10, **text)
    assert not list(Store.open(folder, writable=False).releases())
    assert not list((folder / "locks").iterdir())
    release, calls = run(small_clip, folder, **text)
    assert release.model == small_clip.name
    assert "fp16-range text" in calls and "check" not in calls
    assert "step_minutes" not in release.provenance.parameters  # it decides nothing about what is made


def test_builds_know_the_limit_in_their_threads(
    run: Run, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect can end nothing there: the process that builds is ended by who waits for it."""
    limits: list[float | None] = []

    def noting(job: Any) -> Any:
        limits.append(step_limit_s())
        return build_in_child(job)

    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", noting)
    run(small_clip, tmp_path / "store", step_minutes=7, encoders=["text"], precisions=["fp16"])
    assert limits == [420]
