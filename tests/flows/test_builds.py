"""What a failed build leaves undone; that builds overlap is in `test_caching.py`."""

from __future__ import annotations

import time
from typing import Any

import pytest

import flows.wiring
import tasks.pipeline.engine_build
from artifacts.errors import BuildError
from tests.flows.keyed import Base, StepOutput, compute

OTHER = {"profile__opt": 16}
"""All engines have to be built again."""


def only_builds(base: Base) -> Any:
    """Engines are really built; the rest are stand-ins."""

    def make(step: Any, inputs: dict[str, Any], key: str) -> StepOutput:
        return (compute if step.name == "build" else base.stand_in)(step, inputs, key)

    return make


def test_after_a_build_that_fails_no_other_begins(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def refuse(job: Any) -> Any:
        begun.append(job.onnx.name)
        if len(begun) > 1:  # it had begun before the run could know of the first; a third has the time to be kept back
            time.sleep(3)
        raise BuildError("the builder refuses the graph")

    monkeypatch.setattr(flows.wiring, "builds_at_once", lambda _: 1)
    monkeypatch.setattr(tasks.pipeline.engine_build, "build_in_child", refuse)
    with pytest.raises(BuildError, match="refuses the graph"):
        base.run(make=only_builds(base), **OTHER)
    assert len(begun) in (1, 2)
