"""Accuracy and bit-stability: against scikit-learn and against bits that are flipped on purpose."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from sklearn.metrics.pairwise import cosine_similarity, paired_cosine_distances

from artifacts.errors import DataError, NumericError
from artifacts.schema import check_rows
from tasks.bench import machine
from tasks.bench.accuracy import Scores
from tasks.bench.evaluation import EVALUATION_FILE, Evaluation
from tasks.bench.report import BenchReport, Machine, markdown
from tasks.bench.run import bench
from tasks.bench.settings import BenchSettings
from tasks.bench.stability import AGAIN, MOVED, SMALLER
from tasks.evaluation.scoring import Classification, Retrieval, Task
from tasks.torch_fp8.onnx_graph import OnnxGraph, random_inputs
from tasks.torch_fp8.torch_graph import load
from tests.processes import own_environment
from tests.wording import refusal

ROOT = Path(__file__).parents[3]
PICTURES, CLASSES, TEMPLATES, WIDTH = 45, 6, 2, 16
BLOCKED = ("prefect", "modelopt", "pydantic", "sklearn", "pandas", "onnxruntime", "scipy", "transformers", "polygraphy")
RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, CLASSES, PICTURES)
TASK = Classification(CLASSES, np.arange(CLASSES * TEMPLATES)[::-1].copy(), LABELS)


def evaluation(task: Task = TASK) -> Evaluation:
    """Inputs are what embeddings are made of: the encoder below multiplies."""
    inputs = {
        "image": {"pixel_values": RNG.standard_normal((PICTURES, WIDTH)).astype(np.float16)},
        "text": {"input_ids": RNG.integers(1, 9, (CLASSES * TEMPLATES, WIDTH))},
    }
    arrays = {encoder: next(iter(feed.values())).astype(np.float32) for encoder, feed in inputs.items()}
    return Evaluation(
        inputs, {e: a * 2 + 0.01 * RNG.standard_normal(a.shape, np.float32) for e, a in arrays.items()}, task
    )


class Encoder:
    """Doubles its input, with some noise that depends on the value; `flip` flips the last bit of what it says."""

    def __init__(self, noise: float, flip: str = "") -> None:
        self.noise, self.flip, self.calls = noise, flip, 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        y = x.float() * 2 + self.noise * torch.sin(x.float() * 37)
        if (self.flip == "second pass" and self.calls == 3) or (self.flip == "small batches" and len(x) < 32):
            y.view(torch.int32)[0, 0] ^= 1
        return y


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEVICE", "cpu")


def value(rows: list[Any], **where: Any) -> Any:
    (row,) = [row for row in rows if all(row[name] == wanted for name, wanted in where.items())]
    return row["value"]


def zero_shot(images: np.ndarray, texts: np.ndarray) -> float:
    """Top-1 by scikit-learn: classes are means of normalised prompts."""
    unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    classes = [unit[TASK.prompts[c * TEMPLATES : (c + 1) * TEMPLATES]].mean(axis=0) for c in range(CLASSES)]
    return float(accuracy_score(LABELS, cosine_similarity(images, np.array(classes)).argmax(axis=1)))


def test_the_table_is_the_cpus() -> None:
    data = evaluation()
    scores = Scores(data)
    noise = {"fp16": 0.01, "fp8": 0.7}
    for encoder in ("image", "text"):
        for precision, size in noise.items():
            scores.measure(encoder, "t", precision, Encoder(size))
    rows = scores.rows()
    check_rows("accuracy", rows)
    made = {}
    for encoder, feed in data.inputs.items():
        x = next(iter(feed.values())).astype(np.float64)
        made[encoder, "fp32"] = data.references[encoder].astype(np.float64)
        made |= {(encoder, p): x * 2 + size * np.sin(x * 37) for p, size in noise.items()}
        for precision, reference in (("fp16", "fp32"), ("fp8", "fp32"), ("fp8", "fp16")):
            first, second = made[encoder, reference], made[encoder, precision]
            similarity = 1 - paired_cosine_distances(first, second)
            where = {"encoder": encoder, "target": "t", "precision": precision, "reference": reference}
            assert value(rows, **where, metric="cosine_mean") == pytest.approx(similarity.mean(), abs=1e-6)
            assert value(rows, **where, metric="cosine_min") == pytest.approx(similarity.min(), abs=1e-6)
            assert value(rows, **where, metric="max_abs") == pytest.approx(np.abs(first - second).max(), rel=1e-4)
    top1 = {p: zero_shot(made["image", p], made["text", p]) for p in ("fp32", "fp16", "fp8")}
    for precision, expected in top1.items():
        target = "pytorch" if precision == "fp32" else "t"
        assert value(rows, target=target, precision=precision, reference="labels", metric="top1") == expected
    difference = value(rows, precision="fp8", reference="fp32", metric="top1_difference")
    assert difference == pytest.approx(top1["fp8"] - top1["fp32"])
    assert {row["metric"] for row in rows} >= {"mean_class_recall", "top1_mcnemar_p", "top1_over_chance"}


def test_identical_embeddings_leave_nothing_open() -> None:
    data = evaluation()
    scores = Scores(data)
    for encoder in ("image", "text"):
        for precision in ("fp16", "fp8"):
            scores.measure(encoder, "t", precision, Encoder(0.3))
    (row,) = [r for r in scores.rows() if (r["metric"], r["reference"]) == ("top1_difference", "fp16")]
    assert (row["value"], row["low"], row["high"]) == (0, 0, 0)


def test_two_targets_share_fp32s_rows() -> None:
    scores = Scores(evaluation())
    for target in ("a", "b"):
        for encoder in ("image", "text"):
            scores.measure(encoder, target, "fp16", Encoder(0.01))
    top1 = [row["target"] for row in scores.rows() if row["metric"] == "top1"]
    assert sorted(str(target) for target in top1) == ["a", "b", "pytorch"]


def test_retrieval_is_scored_too(tmp_path: Path) -> None:
    pairs = np.repeat(np.arange(12), 2).reshape(12, 2)
    data = evaluation(Retrieval(np.arange(12), np.arange(12)[::-1].copy(), pairs))
    data.save(tmp_path)
    scores = Scores(Evaluation.load(tmp_path))
    for encoder in ("image", "text"):
        scores.measure(encoder, "t", "fp8", Encoder(0.1))
    found = {row["metric"] for row in scores.rows() if row["reference"] == "captions"}
    assert found == {f"recall@{k}_{way}" for k in (1, 5, 10) for way in ("image_to_text", "text_to_image")}


@pytest.mark.parametrize(
    ("flip", "differing"),
    [
        ("", {AGAIN: 0, MOVED: 0, SMALLER: 0}),
        ("second pass", {AGAIN: 1, MOVED: 0, SMALLER: 0}),
        ("small batches", {AGAIN: 0, MOVED: 0, SMALLER: 6}),
    ],
)
def test_a_flipped_bit_is_counted(flip: str, differing: dict[str, int]) -> None:
    scores = Scores(evaluation())
    scores.measure("image", "t", "fp16", Encoder(0.01, flip))
    assert {item.compared: item.differing for item in scores.stability} == differing
    again = scores.stability[0]
    assert (again.runs, again.elements) == (5, PICTURES * WIDTH)
    assert (again.max_abs > 0) == (flip == "second pass")
    text = markdown(BenchReport("x", Machine(None, None, None, "", "", None), "", stability=scores.stability))
    assert ("bit-identical in 5 runs" in text) == (flip != "second pass")
    assert (f"1 of {PICTURES * WIDTH} elements differ" in text) == (flip == "second pass")


def test_what_is_not_finite_is_no_row() -> None:
    scores = Scores(evaluation())
    with refusal(NumericError):
        scores.measure("image", "t", "fp8", Encoder(float("nan")))
    assert scores.rows() == [] and scores.stability == []


@pytest.mark.usefixtures("device")
def test_the_bench_scores_what_it_has_made_ready(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "export"
    shutil.copytree(export, folder)
    inputs = {e: random_inputs(OnnxGraph.load(folder / e / "fp16.onnx"), 3, seed=4) for e in ("image", "text")}
    references = {}
    for encoder, feed in inputs.items():
        literal = load(folder / encoder / "fp16.onnx", "cpu", fused=False).module
        with torch.no_grad():
            references[encoder] = literal(*map(torch.from_numpy, feed.values())).float().numpy()
    places = np.arange(3)
    Evaluation(inputs, references, Retrieval(places, places, np.stack([places, places], axis=1))).save(folder)
    for name, size in (("accuracy.BATCH", 2), ("stability.BATCH", 2), ("stability._OTHER_BATCH", 1)):
        monkeypatch.setattr(f"tasks.bench.{name}", size)
    seen: list[int] = []
    settings = BenchSettings(batches=(), baselines=(), targets=("torch-fp8", "other"))
    report = bench(folder, settings, watch=lambda found: seen.append(len(found.accuracy)))
    assert 0 < seen[0] < seen[1], "what is known is handed out after each encoder"
    for encoder in ("image", "text"):
        where = {"encoder": encoder, "target": "torch-fp8", "reference": "fp32", "metric": "cosine_min"}
        assert value(report.accuracy, precision="fp16", **where) > 0.9999
        assert 0.98 < value(report.accuracy, precision="fp8", **where) < 0.99999
        assert {i.precision for i in report.stability if i.encoder == encoder and not i.differing} == {"fp16", "fp8"}
    assert len(report.unscored) == 4 and all("other" in reason for reason in report.unscored)
    assert "accuracy not measured: image other fp8" in markdown(report)
    assert json.loads(report.to_json())["stability"][0]["compared"] == AGAIN


# --- the file ----------------------------------------------------------------------------------------------


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    data = evaluation()
    data.save(tmp_path)
    found = Evaluation.load(tmp_path)
    for encoder in ("image", "text"):
        np.testing.assert_array_equal(found.references[encoder], data.references[encoder])
        for name, array in data.inputs[encoder].items():
            assert found.inputs[encoder][name].dtype == array.dtype
            np.testing.assert_array_equal(found.inputs[encoder][name], array)
    assert isinstance(found.task, Classification)
    assert vars(found.task).keys() == vars(TASK).keys()


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04 cut"])
def test_a_bad_file_says_so(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / EVALUATION_FILE).write_bytes(content)
    with pytest.raises(DataError, match=EVALUATION_FILE):
        Evaluation.load(tmp_path)


@pytest.mark.parametrize("missing", ["fp32/text", "task/labels", "input/text/input_ids"])
def test_an_incomplete_file_says_so(missing: str, tmp_path: Path) -> None:
    path = evaluation().save(tmp_path)
    with np.load(path) as arrays:
        rest = {name: array for name, array in arrays.items() if name != missing}
    np.savez(path, **rest)
    with pytest.raises(DataError, match="cannot be read"):
        Evaluation.load(tmp_path)


def test_nothing_that_a_gpu_machine_lacks_is_needed(tmp_path: Path) -> None:
    evaluation().save(tmp_path)
    code = (
        "import sys, torch, json\n"
        f"sys.modules |= dict.fromkeys({BLOCKED!r})\n"
        "from pathlib import Path\n"
        "from tasks.bench import machine\n"
        "from tasks.bench.accuracy import Scores\n"
        "from tasks.bench.evaluation import Evaluation\n"
        "machine.DEVICE = 'cpu'\n"
        f"scores = Scores(Evaluation.load(Path({str(tmp_path)!r})))\n"
        "for encoder in ('image', 'text'):\n"
        "    scores.measure(encoder, 't', 'fp16', lambda x: x.float() * 2)\n"
        "print(json.dumps(scores.rows()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=own_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {row["metric"] for row in json.loads(done.stdout)} >= {"cosine_mean", "top1"}
