"""Two releases are measured again: what comes out is what their own tables say, and nothing is published."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.errors import (
    CheckpointNotFound,
    ConfigError,
    DataOverlap,
    EngineMismatch,
    ReleaseNotFound,
    UnknownTarget,
)
from artifacts.manifest import Manifest, Row
from artifacts.store.store import Store
from flows import compare as module
from flows.compare import CompareParameters, Remeasured, compare
from tasks.checkpoints.snapshot import Snapshot
from tasks.comparing import opened_release
from tasks.engines import backend_for
from tasks.engines.onnx_runtime import OnnxRuntime
from tasks.pipeline import checkpoint
from tasks.prefect_ui.comparison_artifacts import words
from tasks.prefect_ui.pages import cell
from tests.artifacts.support import digest
from tests.flows.conftest import spied
from tests.wording import refusal

Made = tuple[Path, Manifest]


@pytest.fixture(scope="module")
def made(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A copy of the demo's store, and its release."""
    root = tmp_path_factory.mktemp("compare") / "store"
    shutil.copytree(demo_store, root)
    return root, Store.open(root, writable=False).find("demo@1")


def remeasured(made: Made, **changes: Any) -> Remeasured:
    latency = {"batches": [1], "rounds": 5}
    values = {"before": "demo@1", "after": "demo@1", "store": str(made[0]), "latency": latency}
    return compare(CompareParameters.model_validate(values | changes))


def only_text(manifest: Manifest, version: int, sequence: int) -> Manifest:
    """The FP16 text encoder of a release alone, as it would be without a recipe: it holds no checkpoint."""
    kinds = ("preprocess", "onnx", "engine")
    files = [f for f in manifest.files if f.kind in kinds and f.encoder != "image" and f.precision != "fp8"]
    changes = {"model": "text", "version": version, "sequence": sequence, "identity": digest("text")}
    return manifest.model_copy(update={"files": tuple(files), **changes})


@pytest.fixture
def no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **_options: Any) -> None:
        raise CheckpointNotFound("the hub is far away")

    monkeypatch.setattr(opened_release, "resolve", resolve)


def one(rows: Sequence[Row], **about: Any) -> Row:
    (row,) = [row for row in rows if all(row[name] == value for name, value in about.items())]
    return row


def test_fp8_against_fp16_is_what_the_release_says_of_itself(made: Made) -> None:
    with spied() as calls:
        found = remeasured(made, precision_before="fp16")
    assert not [call for call in calls if call.startswith(("embed", "build"))]  # as `optimize` had embedded them
    table = made[1].tables["accuracy"]
    for encoder in ("image", "text"):
        row = one(found.accuracy, encoder=encoder, metric="mean cosine with FP32")
        for side, precision in (("before", "fp16"), ("after", "fp8")):
            known = one(table, encoder=encoder, precision=precision, reference="fp32", metric="cosine_mean")
            assert row[side] == pytest.approx(known["value"], abs=1e-12)
        known = one(table, encoder=encoder, precision="fp8", reference="fp16", metric="cosine_mean")
        between = one(found.accuracy, encoder=encoder, metric="mean cosine between the two")
        assert between["after"] == pytest.approx(known["value"], abs=1e-12)
    known = one(table, metric="top1_difference", reference="fp16")
    row = one(found.accuracy, metric="top1")
    assert (row["low"], row["high"], row["samples"]) == (known["low"], known["high"], known["samples"])
    assert row["difference"] == pytest.approx(known["value"])
    assert row["fp32"] == one(table, metric="top1", precision="fp32")["value"]
    assert (found.before, found.after) == (f"{made[1].ref} fp16", f"{made[1].ref} fp8")


def test_a_release_against_itself_differs_in_nothing_and_nothing_is_published(made: Made) -> None:
    before = sorted((made[0] / "releases").rglob("*"))
    found = remeasured(made)
    assert all(row["difference"] == 0 for row in found.accuracy if row["difference"] is not None)
    top1 = one(found.accuracy, metric="top1")
    assert (top1["low"], top1["high"]) == (0, 0)
    assert one(found.accuracy, encoder="image", metric="least cosine between the two")["after"] == pytest.approx(1)
    assert sorted((made[0] / "releases").rglob("*")) == before


def test_latency_is_emulated_on_a_processor_and_makes_no_claim(made: Made) -> None:
    found = remeasured(made, encoders=["image"], precision_before="fp16")
    (row,) = found.latency
    assert (row["status"], row["speedup"], row["rounds"]) == ("emulated", None, 5)
    assert float(row["before_ms"] or 0) > 0
    assert float(row["after_ms"] or 0) > 0


def test_what_was_really_measured_is_compared(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "emulation", lambda *_: None)
    (row,) = remeasured(made, encoders=["text"]).latency
    assert row["status"] == "measured"
    assert row["speedup"] == pytest.approx(float(row["before_ms"] or 0) / float(row["after_ms"] or 1))
    assert float(row["low"] or 9) <= float(row["speedup"] or 0) <= float(row["high"] or 0)


def test_what_cannot_run_here_is_listed_with_why(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    found = remeasured(made, targets=["onnxruntime", "tensorrt"], latency={"batches": [1, 64], "rounds": 3})
    row = one(found.latency, encoder="image", target="tensorrt")
    assert (row["status"], row["note"]) == ("not run", f"{made[1].ref} fp8 has no engine for it")
    row = one(found.latency, encoder="text", batch=64)
    assert (row["status"], row["note"]) == ("not run", "outside the batch sizes that the engines were built for")
    assert one(found.latency, encoder="text", batch=1)["status"] == "emulated"
    monkeypatch.setattr(OnnxRuntime, "why_not_run", lambda *_: "it is Sunday")
    found = remeasured(made)
    assert found.accuracy == []
    assert {(row["status"], row["note"]) for row in found.latency} == {("not run", "it is Sunday")}


def test_an_engine_of_another_machine_is_not_run(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise EngineMismatch("built for another machine")

    with spied():
        remeasured(made)  # so that accuracy comes from the cache
    monkeypatch.setattr(type(backend_for("onnxruntime")), "runner", refuse)
    found = remeasured(made)
    assert found.accuracy
    assert {(row["status"], row["note"]) for row in found.latency} == {("not run", "built for another machine")}


@pytest.mark.usefixtures("no_checkpoint")
def test_without_the_checkpoint_the_engines_are_still_compared(made: Made) -> None:
    found = remeasured(made, precision_before="fp16")
    assert not [row for row in found.accuracy if row["metric"] == "mean cosine with FP32"]
    known = one(made[1].tables["accuracy"], metric="top1_difference", reference="fp16")
    row = one(found.accuracy, metric="top1")
    assert (row["fp32"], row["difference"]) == (None, pytest.approx(known["value"]))
    assert found.notes == ["No FP32 reference for demo@1: the hub is far away."]


def test_a_changed_checkpoint_is_no_reference(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*arguments: Any, **options: Any) -> Snapshot:
        return checkpoint.resolve(*arguments, **options).model_copy(update={"digest": digest("other")})

    monkeypatch.setattr(opened_release, "resolve", resolve)
    assert "is not what it was" in remeasured(made, encoders=["text"]).notes[0]


def test_releases_and_engines_that_are_not_there(made: Made) -> None:
    with pytest.raises(ReleaseNotFound, match="nobody"):
        remeasured(made, before="nobody")
    with pytest.raises(UnknownTarget):
        CompareParameters(targets=["abacus"])


def test_data_that_it_was_calibrated_on_is_refused(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.data import open_dataset

    hashes = {sample.image_hash for sample in open_dataset("digits", "evaluation", 512).samples}
    monkeypatch.setattr(module, "calibrated_on", lambda *_: hashes)
    with pytest.raises(DataOverlap):
        remeasured(made)


@pytest.fixture(scope="module")
def text_only(made: Made) -> str:
    """A release of the text encoder alone, in FP16."""
    store = Store.open(made[0])
    manifest, _ = store.publish("text", digest("text"), lambda *numbers: only_text(made[1], *numbers))
    store.close()
    return manifest.ref


def test_an_encoder_that_one_of_them_lacks(made: Made, text_only: str) -> None:
    with refusal(ConfigError, "store"):
        remeasured(made, before=text_only, precision_before="fp8")
    found = remeasured(made, before=text_only, precision_before="fp16")
    assert {row["encoder"] for row in found.latency} == {"text"}
    assert one(found.accuracy, metric="top1")["difference"] is not None  # FP32 stands in for the pictures
    assert {row["encoder"] for row in found.accuracy} == {"text", "both"}


@pytest.mark.usefixtures("no_checkpoint")
def test_a_release_of_which_nothing_says_what_the_model_is(made: Made, text_only: str) -> None:
    with refusal(CheckpointNotFound, "demo"):
        remeasured(made, before=text_only, precision_before="fp16")


def test_hits_are_those_of_the_definition() -> None:
    """A class is the mean direction of its prompts; a picture's answers are the classes by cosine, one by one here."""
    from tasks.data import open_dataset
    from tasks.data.texts import evaluation_texts, prompts_of
    from tasks.evaluation.question import task_of

    rng = np.random.default_rng(3)
    dataset = open_dataset("digits", "evaluation", 40)
    assert dataset.classes is not None
    indices = list(range(0, 40, 2))
    images, texts = (rng.standard_normal((n, 16)).astype(np.float32) for n in (20, len(evaluation_texts(dataset))))
    direction = {text: row / np.linalg.norm(row) for text, row in zip(evaluation_texts(dataset), texts, strict=True)}
    prompts = np.array_split(list(prompts_of(dataset)), len(dataset.classes.names))
    means = [np.mean([direction[prompt] for prompt in own], axis=0) for own in prompts]
    found = task_of(dataset, indices).hits(images, texts)
    for row, index in enumerate(indices):
        cosines = [images[row] @ mean / np.linalg.norm(mean) for mean in means]
        answers = sorted(range(len(means)), key=lambda label: -cosines[label])
        place = answers.index(dataset.samples[index].label or 0)
        assert (bool(found["top1"][row]), bool(found["top5"][row])) == (place == 0, place < 5)
    assert found["top1"].any()
    assert not found["top5"].all()


def test_words() -> None:
    score = {"encoder": "both", "target": "ort", "metric": "top1", "before": 0.9, "after": 0.88, "low": -0.03}
    time = {"encoder": "image", "target": "trt", "batch": 8, "speedup": 1.5, "low": 1.4, "high": 1.6, "note": None}
    note: Row = dict.fromkeys(time) | {"target": "rtx", "status": "not run", "note": "no GPU"}
    text = words("a@1 fp8", "a@2 fp8", [score | {"high": -0.01}], [time, note, note], ["Careful."])
    assert text.splitlines() == [
        "# a@2 fp8 against a@1 fp8",
        "",
        "> Careful.",
        "",
        "- top1 on ort: 90.00 % before, 88.00 % after: -2.00 points (95 %: -3.00 to -1.00)",
        "- image on trt, batch 8: 1.5 times as fast (95 %: 1.4 to 1.6)",
        "- rtx: latency not run: no GPU",
    ]
    assert [cell(value) for value in (None, 0.1 + 0.2, 3, "x")] == ["", 0.3, 3, "x"]
