"""The memory that is asked for covers what a batch is known to take, and only where a GPU runs the step."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.clip.base import EncoderSpec, InputSpec
from tasks.pipeline import gpu_room as module
from tasks.pipeline.gpu_room import batch_bytes, gpu_room
from tests.tasks.conftest import Prepared


def spec(encoder: Any, shape: tuple[int, ...], heads: int, width: int) -> EncoderSpec:
    return EncoderSpec(encoder, (InputSpec("x", "float16", shape),), "y", 1, width, heads, width, ())


@pytest.mark.parametrize(
    ("encoder", "shape", "heads", "width", "gigabytes"),
    [
        ("image", (3, 384, 384), 16, 1152, 13),  # SigLIP so400m at batch 128: its scores alone, as measured on a GPU
        ("image", (3, 224, 224), 16, 1024, 4),
        ("text", (77,), 12, 768, 0.6),
    ],
)
def test_a_batch_of_128_has_room(
    encoder: str, shape: tuple[int, ...], heads: int, width: int, gigabytes: float
) -> None:
    assert gigabytes < batch_bytes(spec(encoder, shape, heads, width), 128) / 1e9 < 2.2 * gigabytes


def test_twice_the_batch_takes_twice_the_room() -> None:
    text = spec("text", (64,), 12, 768)
    assert batch_bytes(text, 16) == 2 * batch_bytes(text, 8)


@pytest.mark.usefixtures("in_store")
def test_weights_are_part_of_it_and_the_processor_asks_for_nothing(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "gpu_name", lambda: "a GPU")
    monkeypatch.setattr(module, "gpu_work", lambda need: asked.append(need) or module.nullcontext())
    with gpu_room(prepared.snapshot, "image", 4, "cpu"):
        assert asked == []
    with gpu_room(prepared.snapshot, "image", 4, "a GPU"):
        (need,) = asked
    stored = sum(file.stat().st_size for file in prepared.snapshot.weight_files())
    assert need > stored / 2
