"""What `compare` measures, and with what: engines, batches, samples; the measuring itself is made up."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from flows import compare as module
from flows.compare import CompareParameters, Remeasured, compare
from tasks.comparing.paired_accuracy import Outputs
from tasks.engines import BatchProfile


class Side:
    """A release in one precision, with an engine for each encoder and target."""

    def __init__(self, name: str, precision: str) -> None:
        self.manifest = SimpleNamespace(ref=name)
        self.precision = precision
        self.name = f"{name} {precision}"
        self.snapshot = SimpleNamespace(kind="folder", family="clip", config={}, of=name)
        self.no_fp32: str | None = None
        self.encoders = ["image", "text"]
        self.profile = BatchProfile(min=1, opt=8, max=32)
        self.preprocess = f"{name} preprocess"
        self.lacks: set[tuple[str, str]] = set()

    def onnx(self, encoder: str) -> str:
        return f"{self.name} {encoder} graph"

    def engine(self, encoder: str, target: str) -> str | None:
        return None if (encoder, target) in self.lacks else f"{self.name} {encoder} {target}"


class Bench:
    """Two sides, and everything that was asked to be measured."""

    def __init__(self) -> None:
        self.sides: dict[str, Side] = {}
        self.change: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, str] = {}
        self.calibrated = {"a@1": {"one", "both"}, "a@2": {"both", "two"}}
        self.pinned: list[Any] = []
        self.whole: list[tuple[Any, ...]] = []
        self.apart: list[tuple[Any, ...]] = []
        self.embedded: list[tuple[Any, ...]] = []
        self.judged: list[tuple[Any, ...]] = []
        self.discarded: list[tuple[str, int]] = []
        self.timed: list[tuple[str, dict[str, Any], list[int]]] = []
        self.shown: list[tuple[Any, ...]] = []

    def side(self, _store: object, name: str, precision: str) -> Side:
        side = Side(name, precision)
        for attribute, value in self.change.get(name, {}).items():
            setattr(side, attribute, value)
        self.sides[name] = side
        return side

    def pin(self, *arguments: Any) -> Any:
        self.pinned.append(arguments)
        return SimpleNamespace(
            evaluation=SimpleNamespace(samples=20, open=lambda: "samples", seen_by=lambda _encoder: None)
        )

    def embed(self, snapshot: Any, preprocess: str, _data: object, *rest: Any) -> str:
        encoder, precision, target, engine, batch, *_where = rest
        assert preprocess == f"{snapshot.of} preprocess"
        self.embedded.append((snapshot.of, encoder, precision, target, engine, batch))
        return f"{snapshot.of} {encoder} {target}"

    def judge(self, snapshot: Any, preprocess: str, _data: object, encoder: str, precision: str, *rest: str) -> None:
        assert preprocess == f"{snapshot.of} preprocess"
        self.judged.append((snapshot.of, encoder, precision, *rest))

    def discard(self, preprocess: str, _data: object) -> None:
        self.discarded.append((preprocess, len(self.embedded)))

    def accuracy(self, _dataset: object, target: str, before: Outputs, after: Outputs) -> list[dict[str, Any]]:
        return [{"target": target, "before": before, "after": after}]

    def time(self, _spec: object, target: str, pair: dict[str, Any], batches: list[int], _settings: object) -> Any:
        self.timed.append((target, pair, batches))
        return [{"target": target, "status": "measured", "batch": batch} for batch in batches]

    def run(self, **changes: Any) -> Remeasured:
        """Compare `a@1` in FP16 with `a@2` in FP8."""
        values = {"before": "a@1", "after": "a@2", "precision_before": "fp16", "store": "store"}
        found: Remeasured = compare.fn(CompareParameters.model_validate(values | changes))
        return found


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    step = SimpleNamespace(with_options=lambda **_: bench.embed)
    family = SimpleNamespace(encoder_spec=lambda _config, encoder: encoder)

    def backend(target: str) -> Any:
        why = bench.refused.get(target)
        return SimpleNamespace(why_not_run=lambda _target: why, device=lambda: "device")

    for name, value in {
        "open_store": str,
        "activate": nullcontext,
        "active_store": lambda: None,
        "release_side": bench.side,
        "calibrated_on": lambda _store, manifest: bench.calibrated[manifest.ref],
        "pin_data_task": bench.pin,
        "require_whole_captions": lambda *arguments: bench.whole.append(arguments),
        "require_classes_apart": lambda *arguments: bench.apart.append(arguments),
        "embed_task": step,
        "judge_task": SimpleNamespace(with_options=lambda **_: bench.judge),
        "discard_pictures": bench.discard,
        "accuracy_rows": bench.accuracy,
        "_time": bench.time,
        "family_named": lambda _name: family,
        "show_comparison_task": lambda *arguments: bench.shown.append(arguments),
        "get_run_logger": logging.getLogger,
        "Remeasured": SimpleNamespace,
    }.items():
        monkeypatch.setattr(module, name, value)
    for where in (module, __import__("tasks.pipeline.embedding", fromlist=["backend_for"])):
        monkeypatch.setattr(where, "backend_for", backend)
    return bench


def test_each_side_is_read_in_its_own_precision_and_shown(bench: Bench) -> None:
    found = bench.run()
    assert (found.before, found.after) == ("a@1 fp16", "a@2 fp8")
    assert bench.shown == [(found.before, found.after, found.accuracy, found.latency, found.notes)]


def test_what_pytorch_executes_is_judged_by_onnx_runtime(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()
    assert bench.judged == []
    monkeypatch.setattr(module, "choose_executor", lambda *_: "torch")
    monkeypatch.setattr(module, "batch_and_device", lambda *_: (128, "A card", "torch"))
    bench.run(targets=["onnxruntime", "trtrtx"])
    assert bench.judged == [
        (ref, encoder, precision, f"{ref} {precision} {encoder} graph", "A card")
        for ref, precision in (("a@1", "fp16"), ("a@2", "fp8"))
        for encoder in ("image", "text")
    ]


def test_decoded_pictures_are_kept_until_all_is_embedded(bench: Bench) -> None:
    bench.run()
    assert bench.discarded == [(f"{side} preprocess", len(bench.embedded)) for side in ("a@1", "a@2")]


def test_samples_that_either_was_calibrated_on_are_kept_out(bench: Bench) -> None:
    bench.run()
    assert [arguments[4] for arguments in bench.pinned] == [["both", "one", "two"]]


@pytest.mark.parametrize("strict", [False, True])
def test_cut_captions_are_refused_for_both_when_that_is_asked_for(bench: Bench, strict: bool) -> None:
    bench.run(evaluation={"strict_captions": strict})
    checked = [(snapshot.of, preprocess) for snapshot, preprocess, _data in bench.whole]
    assert checked == ([("a@1", "a@1 preprocess"), ("a@2", "a@2 preprocess")] if strict else [])


def test_classes_have_to_be_told_apart_by_both(bench: Bench) -> None:
    bench.run()
    checked = [(snapshot.of, preprocess) for snapshot, preprocess, _data in bench.apart]
    assert checked == [("a@1", "a@1 preprocess"), ("a@2", "a@2 preprocess")]


def test_onnx_runtime_runs_the_graph_and_everything_else_its_engine(bench: Bench) -> None:
    bench.change = {"a@1": {"profile": BatchProfile(min=1, opt=2, max=4)}, "a@2": {"no_fp32": "no weights"}}
    found = bench.run(targets=["onnxruntime", "tensorrt"], encoders=["text"], evaluation={"batch": 16})
    assert bench.embedded == [
        ("a@1", "text", "fp16", "onnxruntime", "a@1 fp16 text graph", 16),
        ("a@1", "image", "fp32", "pytorch", None, 16),
        ("a@1", "text", "fp32", "pytorch", None, 16),
        ("a@2", "text", "fp8", "onnxruntime", "a@2 fp8 text graph", 16),
        ("a@1", "text", "fp16", "tensorrt", "a@1 fp16 text tensorrt", 4),
        ("a@1", "image", "fp32", "pytorch", None, 16),
        ("a@1", "text", "fp32", "pytorch", None, 16),
        ("a@2", "text", "fp8", "tensorrt", "a@2 fp8 text tensorrt", 16),
    ]
    assert found.notes == ["No FP32 reference for a@2: no weights."]


def test_each_side_is_timed_with_its_own_engine(bench: Bench) -> None:
    bench.run(encoders=["image"], latency={"batches": [1]})
    assert bench.timed == [
        (
            "onnxruntime",
            {"before": ("fp16", "a@1 fp16 image onnxruntime"), "after": ("fp8", "a@2 fp8 image onnxruntime")},
            [1],
        )
    ]


def test_only_batches_that_both_were_built_for_are_timed_and_the_others_listed(bench: Bench) -> None:
    bench.change = {
        "a@1": {"profile": BatchProfile(min=1, opt=8, max=8)},
        "a@2": {"profile": BatchProfile(min=2, opt=8, max=32)},
    }
    found = bench.run(encoders=["image"], latency={"batches": [1, 2, 8, 16]})
    assert [batches for _, _, batches in bench.timed] == [[2, 8]]
    assert [(row["batch"], row["status"]) for row in found.latency] == [
        (2, "measured"),
        (8, "measured"),
        (1, "not run"),
        (16, "not run"),
    ]


def test_when_no_batch_is_left_nothing_is_timed(bench: Bench) -> None:
    found = bench.run(encoders=["image"], latency={"batches": [64]})
    assert bench.timed == []
    assert [row["status"] for row in found.latency] == ["not run"]


@pytest.mark.parametrize(("lacking", "encoder"), [("a@1", "image"), ("a@2", "text")])
def test_what_one_side_has_no_engine_for_is_measured_on_neither(bench: Bench, lacking: str, encoder: str) -> None:
    bench.change = {lacking: {"lacks": {(encoder, "tensorrt")}}}
    found = bench.run(targets=["tensorrt"])
    assert (found.accuracy, bench.embedded, bench.timed) == ([], [], [])
    notes = {(row["status"], row["note"]) for row in found.latency}
    assert notes == {("not run", f"{bench.sides[lacking].name} has no engine for it")}


def test_what_cannot_run_here_does_not_keep_the_rest_from_it(bench: Bench) -> None:
    bench.refused = {"tensorrt": "no GPU"}
    found = bench.run(targets=["tensorrt", "onnxruntime"], encoders=["text"], latency={"batches": [1]})
    assert [row["target"] for row in found.accuracy] == ["onnxruntime"]
    assert [(row["target"], row["status"]) for row in found.latency] == [
        ("tensorrt", "not run"),
        ("onnxruntime", "measured"),
    ]
    assert found.latency[0]["note"] == "no GPU"


def test_only_encoders_that_were_asked_for_and_that_both_have(bench: Bench) -> None:
    bench.change = {"a@1": {"encoders": ["text"]}}
    bench.run(latency={"batches": [1]})
    assert {encoder for _, encoder, precision, *_ in bench.embedded if precision != "fp32"} == {"text"}
    assert len(bench.timed) == 1


def test_a_target_that_is_named_twice_is_measured_once() -> None:
    assert CompareParameters(targets=["onnxruntime", "onnxruntime"]).targets == ["onnxruntime"]
