"""Engines are built side by side: in which order a release shows them, and what a failed build leaves undone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import flows.wiring
import tasks.pipeline.engine_build
from artifacts.errors import BuildError
from tasks.engines.child import build_in_child
from tests.flows.keyed import Base, StepOutput, compute

OTHER = {"profile__opt": 16}
"""All engines have to be built again."""


def only_builds(base: Base) -> Any:
    """Engines are really built; the rest are stand-ins."""

    def make(step: Any, inputs: dict[str, Any], key: str) -> StepOutput:
        return (compute if step.name == "build" else base.stand_in)(step, inputs, key)

    return make


def test_builds_overlap_and_the_release_keeps_their_order(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)  # breaks unless two builds are there at once

    def at_once(job: Any) -> Any:
        together.wait(timeout=60)
        return build_in_child(job)

    monkeypatch.setattr(flows.wiring, "builds_at_once", lambda _: 2)
    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", at_once)
    made, _ = base.run(make=only_builds(base), **OTHER)
    builds = [row for row in made.draft.tables["stages"] if row["step"] == "build"]
    assert [(row["encoder"], row["precision"]) for row in builds] == [
        ("image", "fp16"),
        ("image", "fp8"),
        ("text", "fp16"),
        ("text", "fp8"),
    ]


def test_after_a_build_that_fails_no_other_begins(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def refuse(job: Any) -> Any:
        begun.append(job.onnx.name)
        raise BuildError("the builder refuses the graph")

    monkeypatch.setattr(flows.wiring, "builds_at_once", lambda _: 1)
    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", refuse)
    with pytest.raises(BuildError, match="refuses the graph"):
        base.run(make=only_builds(base), **OTHER)
    assert 1 <= len(begun) < 4
