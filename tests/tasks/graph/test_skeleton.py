"""A skeleton survives its file, and the file holds no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.demo import SNAPSHOT
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton, Weight, module_of
from tasks.quantizing.recipe import load_recipe


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_round_trip(encoder: str, precision: str, skeleton_of: Any, fake_quantized: Any, tmp_path: Path) -> None:
    skeleton = skeleton_of(SNAPSHOT, encoder)
    if precision == "fp8":
        skeleton = quantize(skeleton, load_recipe("fp8"), fake_quantized.amax)
    before = skeleton.model.SerializeToString(deterministic=True)
    skeleton.save(tmp_path / "a")
    loaded = Skeleton.load(tmp_path / "a")
    assert loaded.model == skeleton.model
    assert loaded.weights == skeleton.weights and list(loaded.weights) == list(skeleton.weights)
    assert loaded.inventory == skeleton.inventory
    assert skeleton.model.SerializeToString(deterministic=True) == before
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_is_small(skeleton_of: Any, tmp_path: Path) -> None:
    skeleton = skeleton_of(SNAPSHOT, "image")
    skeleton.save(tmp_path / "s")
    assert (tmp_path / "s").stat().st_size < 2 * skeleton.inventory.parameters / 10


@pytest.mark.parametrize(
    ("node", "module"),
    [("a.b.fc1/MatMul", "a.b.fc1"), ("a.b.self_attn/MatMul_2", "a.b.self_attn"), ("text_embeds/Shape", "text_embeds")],
)
def test_module_of(node: str, module: str) -> None:
    assert module_of(node) == module


def test_weights_are_strict() -> None:
    with pytest.raises(ValidationError):
        Weight(key="a", shape=(1,), precision="int8")
    with pytest.raises(ValidationError):
        Weight(key="a", shape=(1,), colour="red")
