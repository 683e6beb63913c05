"""Two executions of one graph are compared layer by layer, and one that computes something else is found."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from artifacts.errors import ExecutorsDisagree, StepStopped, StepTimedOut
from tasks.engines.graph_executor import GraphExecutor
from tasks.evaluation import judge as judge_module
from tasks.evaluation import onnx_runs
from tasks.evaluation.judge import LEAST_DB, judge
from tasks.runs.step_limit import step_limit
from tasks.torch_fp8 import torch_ops
from tasks.torch_fp8.onnx_graph import OnnxGraph, random_inputs
from tests.tasks.families.support import run_onnx

Feed = dict[str, np.ndarray]


def feeds(path: Path, *batches: int) -> list[Feed]:
    return [random_inputs(OnnxGraph.load(path), batch, seed=batch) for batch in batches]


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_every_layer_agrees_with_onnx_runtime(export: Path, encoder: str, precision: str) -> None:
    path = export / encoder / f"{precision}.onnx"
    given = feeds(path, 11, 3)
    verdict = judge(path, precision, given, "cpu")
    assert len(verdict.cosines) == 14
    assert sum("/MatMul" in name for name in verdict.layers) >= 2 * 8  # two blocks of eight products
    assert list(verdict.layers)[-1] == OnnxGraph.load(path).outputs[0].name
    assert min(verdict.layers.values()) >= LEAST_DB[precision]
    with GraphExecutor(path, "ours", "cpu") as runner:
        (found,) = runner.infer(given[0]).values()
    expected = run_onnx(path, given[0])
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert judge_module.cosine(expected, found).min() > 0.99


@pytest.mark.parametrize("scale", [0.98, float("nan")])
def test_an_executor_that_rounds_otherwise_is_found(
    export: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    right = torch_ops.round_trip

    def other(x: torch.Tensor, forth: float, back: float) -> torch.Tensor:
        return right(x, forth, back) * scale

    monkeypatch.setattr(torch_ops, "round_trip", other)
    with pytest.raises(ExecutorsDisagree, match=r"dB in vision_model.*layers\.0\."):
        judge(export / "image" / "fp8.onnx", "fp8", feeds(export / "image" / "fp8.onnx", 4), "cpu")


def test_a_layer_of_other_weights_is_named(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph that PyTorch executes has another bias in its second block: the layers in front of it still agree."""
    source = export / "image" / "fp16.onnx"
    model = onnx.load(str(source))
    (bias,) = [t for t in model.graph.initializer if "layers.1.mlp.fc1" in t.name and "bias" in t.name]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float16(0.05), bias.name))
    other = tmp_path / "fp16.onnx"
    onnx.save(model, str(other))
    load = judge_module.load_literal
    monkeypatch.setattr(judge_module, "load_literal", lambda _, device: load(other, device))
    with pytest.raises(ExecutorsDisagree, match=r"dB in .*layers\.1\.mlp\.fc2"):
        judge(source, "fp16", feeds(source, 4), "cpu")


def test_fp16_embeddings_are_held_to_their_cosine(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = export / "text" / "fp16.onnx"
    ended = judge_module.run_graph
    monkeypatch.setattr(judge_module, "run_graph", lambda *args: ended(*args).roll(1, dims=1))
    with pytest.raises(ExecutorsDisagree, match="cosine"):
        judge(source, "fp16", feeds(source, 4), "cpu")


def test_samples_are_computed_ahead_in_order_and_no_further_than_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_module, "_at_once", lambda: 3)
    begun: list[int] = []

    def compute(feed: Feed) -> int:
        begun.append(int(feed["x"][0]))
        return begun[-1] * 2

    given = [{"x": np.array([number])} for number in range(10)]
    taken = 0
    for feed, made in judge_module._side_by_side(compute, given):
        assert (int(feed["x"][0]), made) == (taken, 2 * taken)
        taken += 1
        assert len(begun) <= taken + 3
    assert taken == 10 and sorted(begun) == list(range(10))


def test_a_judge_that_takes_too_long_is_ended() -> None:
    asked = threading.Event()

    def call(_: Feed) -> None:
        asked.set()
        while not onnx_runs._stopping:  # as a run of ONNX Runtime that `runs_stopped` ends
            time.sleep(0.01)
        raise StepStopped("stopped")

    with step_limit(0.2), pytest.raises(StepTimedOut, match=r"(?s)not done after 0 s.*step_minutes"):
        list(judge_module._side_by_side(call, [{"x": np.array([0])}]))
    assert asked.is_set()
