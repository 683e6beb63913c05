"""Who computes embeddings: as asked for, and by itself PyTorch where it takes less time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.evaluation import executors
from tasks.evaluation.executors import PAYS_FROM, PAYS_FROM_BYTES, choose_executor, gpu_batch
from tasks.pipeline import embedding
from tasks.pipeline.embedding import batch_and_device

MANY, LARGE = PAYS_FROM, PAYS_FROM_BYTES


@pytest.mark.parametrize(
    ("gpu", "given", "expected"),
    [
        (None, ("auto", "fp8", MANY, LARGE), "torch"),
        (None, ("auto", "fp8", MANY - 1, LARGE), "onnxruntime"),
        (None, ("auto", "fp8", MANY, LARGE - 1), "onnxruntime"),
        (None, ("auto", "fp16", MANY, LARGE), "onnxruntime"),
        (None, ("auto", "fp32", MANY, LARGE), "onnxruntime"),
        (None, ("torch", "fp16", 8, 1), "torch"),
        ("A card", ("auto", "fp32", 8, 0), "torch"),
        ("A card", ("auto", "fp16", 8, 1), "torch"),
        ("A card", ("onnxruntime", "fp8", MANY, LARGE), "onnxruntime"),
    ],
)
def test_the_choice(monkeypatch: pytest.MonkeyPatch, gpu: str | None, given: Any, expected: str) -> None:
    monkeypatch.setattr(executors, "torch_gpu", lambda: gpu)
    *asked, size = given
    assert choose_executor(*asked, SimpleNamespace(size=size)) == expected


@pytest.mark.parametrize(
    ("gpu", "target", "executor", "expected"),
    [
        ("A card", "onnxruntime", "torch", (128, "A card", "torch")),
        ("A card", "pytorch", "torch", (128, "A card", "torch")),
        ("A card", "onnxruntime", "onnxruntime", (32, "a processor", "onnxruntime")),
        (None, "onnxruntime", "torch", (32, "a processor", "torch")),
        (None, "pytorch", "torch", (32, "a processor", "onnxruntime")),
    ],
)
def test_batches_and_devices(
    monkeypatch: pytest.MonkeyPatch, gpu: str | None, target: str, executor: Any, expected: tuple[int, str, str]
) -> None:
    """FP32 on a processor has one cache key, whatever executes the graphs."""
    monkeypatch.setattr(embedding, "torch_gpu", lambda: gpu)
    monkeypatch.setattr(executors, "_gpu_memory", lambda: 24 * 10**9)
    monkeypatch.setattr(embedding, "cpu_name", lambda: "a processor")
    assert batch_and_device(target, 32, 8, executor) == expected


@pytest.mark.parametrize(("memory", "expected"), [(0, [32, 500]), (16 * 10**9, [32, 500]), (24 * 10**9, [128, 500])])
def test_a_large_gpu_gets_large_batches(monkeypatch: pytest.MonkeyPatch, memory: int, expected: list[int]) -> None:
    monkeypatch.setattr(executors, "_gpu_memory", lambda: memory)
    assert [gpu_batch(32), gpu_batch(500)] == expected
