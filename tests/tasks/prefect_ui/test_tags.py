"""The name and the tags of a run, as the API gets them."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

import tasks.prefect_ui.tags as module
from tasks.prefect_ui.tags import name_run, tag_run


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], ["target:onnxruntime", "target:trtrtx-sm89", "variant:clip"]),
        (["mine"], ["mine", "target:onnxruntime", "target:trtrtx-sm89", "variant:clip"]),
        (["variant:photos"], ["target:onnxruntime", "target:trtrtx-sm89", "variant:photos"]),
    ],
)
def test_a_run_says_its_variant_and_targets(
    before: list[str], after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    run = SimpleNamespace(id=uuid4(), tags=before)
    client = SimpleNamespace(update_flow_run=lambda run_id, tags: told.append((run_id, tags)))
    monkeypatch.setattr(module.FlowRunContext, "get", classmethod(lambda _: SimpleNamespace(flow_run=run)))
    monkeypatch.setattr(module, "get_client", lambda **_: nullcontext(client))
    tag_run("clip", ["trtrtx-sm89", "onnxruntime"])
    assert told == [(run.id, after)]


def test_a_run_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    run = SimpleNamespace(id=uuid4(), name="demo fp8", tags=["mine"])
    client = SimpleNamespace(update_flow_run=lambda run_id, name: told.append((run_id, name)))
    monkeypatch.setattr(module.FlowRunContext, "get", classmethod(lambda _: SimpleNamespace(flow_run=run)))
    monkeypatch.setattr(module, "get_client", lambda **_: nullcontext(client))
    name_run("demo fp8")
    name_run("demo ae8b3497d733 fp8")
    assert told == [(run.id, "demo ae8b3497d733 fp8")]
    run.tags.append("variant:photos")
    name_run("demo@2 fp8")
    assert told[1:] == [(run.id, "photos: demo@2 fp8")]


def test_outside_a_run_nothing_is_tagged_or_named() -> None:
    tag_run("clip", ["onnxruntime"])
    name_run("clip")
