"""Repeating one traced block must give the very graph that tracing all blocks gives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.demo import SNAPSHOT
from tasks.families import family_named
from tasks.graph import replicate
from tasks.graph.replicate import trace_by_block
from tasks.graph.skeleton import Skeleton
from tasks.graph.tracing import trace

CONFIG = json.loads((SNAPSHOT / "config.json").read_text())


def _variant(**changes: Any) -> dict[str, Any]:
    return CONFIG | {s: CONFIG[s] | changes for s in ("text_config", "vision_config")}


def _same(first: Skeleton, second: Skeleton) -> None:
    assert first.model.SerializeToString(deterministic=True) == second.model.SerializeToString(deterministic=True)
    assert list(first.weights.items()) == list(second.weights.items())
    assert first.inventory == second.inventory


@pytest.mark.parametrize("encoder", ["image", "text"])
@pytest.mark.parametrize("layers", [1, 3, pytest.param(12, marks=pytest.mark.heavy)])
def test_repeated_graph_is_byte_identical_to_the_full_trace(encoder: Any, layers: int) -> None:
    config = _variant(num_hidden_layers=layers, hidden_act="gelu")
    repeated = trace_by_block(family_named("clip"), config, encoder)
    assert sum(".self_attn/Softmax" in node.name for node in repeated.model.graph.node) == layers
    _same(repeated, trace(family_named("clip"), config, encoder))


def test_more_than_ten_layers_keep_their_numbers_apart() -> None:
    config = _variant(num_hidden_layers=12)
    skeleton = trace_by_block(family_named("clip"), config, "text")
    keys = {weight.key for name, weight in skeleton.weights.items() if name.endswith("mlp.fc1.weight.T")}
    assert keys == {f"text_model.encoder.layers.{layer}.mlp.fc1.weight" for layer in range(12)}


def test_a_graph_of_another_form_is_traced_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    config = _variant(num_hidden_layers=2)
    monkeypatch.setattr(replicate, "_block", lambda _: None)
    monkeypatch.setattr(replicate, "trace", lambda *of: of)
    of: Any = (family_named("clip"), config, "text")
    assert trace_by_block(*of) == of
