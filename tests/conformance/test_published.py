"""Published checkpoints, small and in the form of their files, go through the steps and embed as transformers does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.refs import ArtifactRef
from artifacts.store.store import Store, activate
from tasks.pipeline.graph_audit import audit
from tasks.pipeline.onnx_export import export_fp16, trace_encoder
from tests.conformance import oracle
from tests.conformance.facts.everything import ALL
from tests.conformance.facts.form import Published
from tests.conformance.ours import Ours
from tests.conformance.shrinking import folder_of
from tests.tasks.families.support import ENCODERS, cosines, run_onnx

LEAST = 0.9999
Trace = Callable[[Ours, str], ArtifactRef]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all: equal architectures are traced once."""
    with activate(Store.open(tmp_path_factory.mktemp("published") / "store")) as opened:
        yield opened


_BOTH = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "hidden_act", "layer_norm_eps")
_WIDTHS = ("project_dim", "projection_size")
_GRAPH = {
    "image": (*_BOTH, "image_size", "patch_size", "num_channels"),
    "text": (*_BOTH, "vocab_size", "max_position_embeddings", "eos_token_id", "pad_token_id", *_WIDTHS),
}
"""What of a section a graph depends on."""


@pytest.fixture(scope="module")
def skeleton() -> Trace:
    """`skeleton(ours, encoder)`: made once for every architecture, read from a file in its published form."""
    made: dict[str, ArtifactRef] = {}

    def trace(ours: Ours, encoder: Any) -> ArtifactRef:
        family = ours.snapshot.family
        config = ours.snapshot.config
        section = config["vision_config" if encoder == "image" else "text_config"]
        values = [config.get("projection_dim"), *(section.get(name) for name in _GRAPH[encoder])]
        key = json.dumps([family, encoder, *values])
        if key not in made:
            made[key] = trace_encoder(family, ours.snapshot.stored_config, encoder).skeleton
        return made[key]

    return trace


def linear_layers(module: Any) -> int:
    """Of the pooling attention's stack, PyTorch counts the last of four alone."""
    from torch import nn

    kinds = [type(part) for part in module.modules()]
    return sum(issubclass(kind, nn.Linear) for kind in kinds) + 3 * kinds.count(nn.MultiheadAttention)


@pytest.mark.parametrize(
    "published", [pytest.param(each, id=each.name, marks=[] if each.quick else pytest.mark.heavy) for each in ALL]
)
def test_published(published: Published, shared: Store, skeleton: Trace, tmp_path: Path) -> None:
    folder = folder_of(published, tmp_path / "model")
    loaded = oracle.model(folder)
    ours = Ours.of(folder, shared)
    expected = {
        "text": oracle.text_embeddings(folder, loaded),
        "image": oracle.picture_embeddings(folder, loaded),
    }
    in_fp32 = ours.embeddings()
    towers = {"text": loaded.text_model, "image": loaded.vision_model}
    for encoder in ENCODERS:
        assert cosines(in_fp32[encoder], expected[encoder]).min() >= LEAST, encoder
        assert cosines(expected[encoder], np.roll(expected[encoder], 1, axis=0)).min() < 0.999
        traced = skeleton(ours, encoder)
        exported = export_fp16(ours.snapshot, traced, encoder).onnx
        coverage = audit(exported, traced, "fp16", None).coverage
        projected = 0 if published.config["model_type"] == "siglip" else 1
        linear = sum(row["kind"] == "linear" for row in coverage)
        assert linear == linear_layers(towers[encoder]) + projected
        feed = {n: v.astype(np.float16) if n == "pixel_values" else v for n, v in ours.feeds[encoder].items()}
        made = run_onnx(shared.path(exported, "fp16.onnx"), feed)
        assert cosines(made, expected[encoder]).min() >= LEAST, f"{encoder} in FP16"


def test_there_are_enough() -> None:
    """At least forty, each under a name of its own, and not all of one form."""
    assert len({each.name for each in ALL}) == len(ALL) >= 40
    assert 6 <= sum(each.quick for each in ALL) <= 8
