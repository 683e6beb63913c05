"""`clipsmith judge`: a published release held to other gates on what it keeps; no model runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tasks.data.pinned import pin_data
from tasks.pipeline.accuracy import Accuracy
from tests.artifacts.support import files_of
from tests.deployments.conftest import Call, release
from tests.tasks.support import Case

SAMPLES = 60


@pytest.fixture
def case(store: Store) -> Case:
    """Pictures that are nearly their class's text: FP32 is right in all of 60, and FP8 wrong in six of them."""
    data, dataset = pin_data("digits", "evaluation", SAMPLES)
    made = Case(store, data, {"fp16": 0.001, "fp8": 0.01})
    assert dataset.classes is not None
    labels = [sample.label or 0 for sample in dataset.samples]
    prompts = {
        template.replace("{}", name): label
        for label, name in enumerate(dataset.classes.names)
        for template in dataset.classes.templates
    }
    rng = np.random.default_rng(2)
    for precision in ("fp32", "fp16", "fp8"):
        shown = [(label + 1) % 10 if precision == "fp8" and row < 6 else label for row, label in enumerate(labels)]
        pictures = np.eye(10)[shown] + 0.01 * rng.standard_normal((SAMPLES, 10))
        texts = [np.eye(10)[prompts[text]] if text in prompts else np.ones(10) for text in made.texts]
        made.arrays["image", precision] = pictures.astype(np.float32)
        made.arrays["text", precision] = (np.array(texts) + 0.01 * rng.standard_normal(10)).astype(np.float32)
    return made


def published(store: Store, case: Case, *, embeddings: bool = True, tables: Accuracy | None = None) -> Manifest:
    """A release of the case, with its embeddings or only its tables."""
    scored = tables or case.score()
    files = [*files_of(scored.evaluation, "evidence/evaluation")]
    for made in case.embeddings() if embeddings else ():
        about = {"encoder": made.encoder, "precision": made.precision, "target": made.target}
        folder = "evidence/embeddings-" + "-".join(about.values())
        files += [file.model_copy(update=about) for file in files_of(made.outputs, folder)]
    return release(store, 1, model="digits", files=tuple(files), tables={"accuracy": scored.rows})


def gates_file(folder: Path, text: str) -> Path:
    path = folder / "gates.yaml"
    path.write_text(text)
    return path


OFF = "min_cosine_mean: null, max_size_ratio: null"


def judged(call: Call, store: Store, gates: Path) -> tuple[int, dict[str, Any], str]:
    code, out, err = call("judge", "digits", "--gates", gates, "--store", store.root, "--json")
    return code, json.loads(out), err


@pytest.mark.parametrize("embeddings", [True, False])
def test_a_release_is_judged_on_what_it_keeps(
    call: Call, store: Store, case: Case, tmp_path: Path, embeddings: bool
) -> None:
    published(store, case, embeddings=embeddings)
    basis = "embeddings" if embeddings else "tables"
    code, found, err = judged(call, store, gates_file(tmp_path, f"gates: {{max_top1_drop: 0.3, {OFF}}}"))
    assert (code, err) == (0, "")
    assert (found["ref"], found["accepted"], found["basis"]) == ("digits@1", True, basis)
    drops = [gate for gate in found["gates"] if gate["name"] == "max_top1_drop"]
    assert [gate["reference"] for gate in drops] == ["fp32", "fp16"]
    assert [gate["value"] for gate in drops] == pytest.approx([0.1, 0.1])
    assert {gate["samples"] for gate in drops} == {SAMPLES}


def test_the_embeddings_are_scored_again_not_the_tables_believed(
    call: Call, store: Store, case: Case, tmp_path: Path
) -> None:
    """Tables say that FP8 lost nothing; the embeddings know that it did."""
    scored = case.score()
    rows = [dict(row) for row in scored.rows]
    for row in rows:
        if row["metric"] == "top1_difference":
            row.update(value=0.0, low=0.0, high=0.0)
    published(store, case, tables=scored.model_copy(update={"rows": tuple(rows)}))
    code, found, _ = judged(call, store, gates_file(tmp_path, f"gates: {{max_top1_drop: 0.001, {OFF}}}"))
    drops = [gate["value"] for gate in found["gates"] if gate["name"] == "max_top1_drop"]
    assert code == 3 and drops == pytest.approx([0.1, 0.1])


def test_what_does_not_pass_exits_with_3_and_says_what_would_settle_it(
    call: Call, store: Store, case: Case, tmp_path: Path
) -> None:
    published(store, case)
    code, found, err = judged(call, store, gates_file(tmp_path, f"gates: {{max_top1_drop: 0.05, {OFF}}}"))
    assert (code, found["accepted"]) == (3, False)
    undecided = [gate for gate in found["gates"] if gate["status"] == "undecided"]
    assert undecided and all(gate["needed"] > SAMPLES for gate in undecided)
    assert f"{undecided[0]['needed'] - SAMPLES:,} more samples than these 60 would settle it" in " ".join(err.split())
    code, found, _ = judged(call, store, gates_file(tmp_path, f"gates: {{max_top1_drop: 0.001, {OFF}}}"))
    assert code == 3 and {g["status"] for g in found["gates"] if g["name"] == "max_top1_drop"} == {"failed"}


def test_people_read_the_gates_and_the_task(call: Call, store: Store, case: Case, tmp_path: Path) -> None:
    published(store, case)
    gates = gates_file(tmp_path, f"gates: {{max_top1_drop: 0.3, {OFF}}}")
    code, out, _ = call("judge", "digits", "--gates", gates, "--store", store.root)
    assert code == 0
    assert "digits@1, judged on its saved embeddings" in out
    assert "zero-shot top-1" in out and "90.00 %" in out and "mean per-class recall" in out


def test_labels_that_were_shuffled_are_at_chance(call: Call, store: Store, case: Case, tmp_path: Path) -> None:
    """Another evaluation set's labels beside these pictures: FP8 loses nothing, and the release does not pass."""
    shuffled = case.arrays["image", "fp32"][np.random.default_rng(7).permutation(SAMPLES)]
    for precision, length in (("fp32", 1.0), ("fp16", 1.001), ("fp8", 1.002)):
        case.arrays["image", precision] = shuffled * np.float32(length)
    published(store, case)
    code, found, err = judged(call, store, gates_file(tmp_path, f"gates: {{max_top1_drop: 0.2, {OFF}}}"))
    statuses = {gate["name"]: gate["status"] for gate in found["gates"]}
    assert (code, statuses) == (3, {"max_top1_drop": "passed", "above_chance": "failed"})
    assert "accuracy is at chance" in " ".join(err.split())


BAD = {
    "no gates": ("model: demo", "there is no `gates` block"),
    "unknown": ("gates: {max_top2_drop: 0.1}", "max_top2_drop"),
    "zero": ("gates: {max_top1_drop: 0}", "max_top1_drop"),
    "not a mapping": ("gates: 4", "wrong gates"),
    "no YAML": ("{", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_gates(call: Call, store: Store, tmp_path: Path, name: str) -> None:
    text, said = BAD[name]
    path = gates_file(tmp_path, text)
    code, out, err = call("judge", "digits", "--gates", path, "--store", store.root)
    assert (code, out) == (2, "")
    assert said in err and "ConfigError" in err
