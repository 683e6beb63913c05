"""Engines are built side by side: in which order a release shows them, and what a failed build leaves undone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flows.optimize
import tasks.pipeline.engine_build
from artifacts.errors import BuildError
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tasks.engines.child import build_in_child

Run = Callable[..., tuple[Manifest, list[str]]]


def test_builds_overlap_and_the_release_keeps_their_order(
    run: Run, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)  # breaks unless two builds are there at once

    def at_once(job: Any) -> Any:
        together.wait(timeout=60)
        return build_in_child(job)

    monkeypatch.setattr(flows.optimize, "builds_at_once", lambda _: 2)
    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", at_once)
    release, _ = run(small_clip, tmp_path / "store")
    builds = [row for row in release.tables["stages"] if row["step"] == "build"]
    assert [(row["encoder"], row["precision"]) for row in builds] == [
        ("image", "fp16"),
        ("image", "fp8"),
        ("text", "fp16"),
        ("text", "fp8"),
    ]


def test_after_a_build_that_fails_no_other_begins(
    run: Run, small_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def refuse(job: Any) -> Any:
        begun.append(job.onnx.name)
        raise BuildError("the builder refuses the graph")

    monkeypatch.setattr(flows.optimize, "builds_at_once", lambda _: 1)
    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", refuse)
    with pytest.raises(BuildError, match="refuses the graph"):
        run(small_clip, tmp_path / "store")
    assert 1 <= len(begun) < 4
    assert not Store.open(tmp_path / "store", writable=False).releases()
