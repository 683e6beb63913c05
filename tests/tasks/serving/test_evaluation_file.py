"""The evaluation set of a release for the bench, against ONNX Runtime and the release's own table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import DataError
from tasks.bench.evaluation import Evaluation
from tasks.serving.evaluation_file import write_evaluation
from tests.wording import refusal


@pytest.fixture(scope="module")
def release(demo_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the exported demo, with its evaluation set."""
    folder = tmp_path_factory.mktemp("release") / "demo"
    shutil.copytree(demo_export, folder)
    write_evaluation(folder)
    return folder


def test_the_inputs_give_the_fp32_embeddings_that_are_beside_them(
    release: Path, run_onnx: Callable[..., np.ndarray]
) -> None:
    data = Evaluation.load(release)
    for encoder in ("image", "text"):
        (feed,) = data.inputs[encoder].values()
        made = run_onnx(release / encoder / "fp16.onnx", feed).astype(np.float64)
        expected = data.references[encoder].astype(np.float64)
        similarity = (made * expected).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(expected, axis=1)
        assert similarity.min() > 0.9999


def test_the_task_is_the_releases(release: Path) -> None:
    data = Evaluation.load(release)
    manifest = json.loads((release / "manifest.json").read_text())
    hits = data.task.hits(data.references["image"], data.references["text"])
    for metric, outcome in hits.items():
        (row,) = [r for r in manifest["tables"]["accuracy"] if (r["precision"], r["metric"]) == ("fp32", metric)]
        assert (outcome.mean(), len(outcome)) == (row["value"], row["samples"])


def test_data_that_changed_is_refused(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "release"
    shutil.copytree(release, folder)
    (folder / "evaluation.npz").unlink()
    monkeypatch.setattr("tasks.data.opened.dataset_digest", lambda _: 64 * "0")
    monkeypatch.setattr("tasks.data.opened._kept", {})
    with pytest.raises(DataError, match="changed"):
        write_evaluation(folder)
    assert not (folder / "evaluation.npz").exists()


def test_a_release_without_fp32_embeddings_is_refused(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(release, folder)
    shutil.rmtree(folder / "evidence" / "embeddings-text-fp32-pytorch")
    with refusal(DataError, "embeddings-text-fp32-pytorch"):
        write_evaluation(folder)
