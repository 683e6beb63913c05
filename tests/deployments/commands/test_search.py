"""`clipsmith search`: what it refuses, and on the demo a recipe that is as good in a release as was said."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CLIPSMITH
from tests.deployments.conftest import Call
from tests.processes import own_environment

DATA = ("--calibration-samples", 64, "--evaluation-samples", 64)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--gate", "min_cosine_mean=high"), "'high' is no bound"),
        (("--gate", "min_cosine_meen=0.9"), "min_cosine_meen"),
        (("--gate", "nowhere.yaml"), "cannot be read"),
        (("--gate", "min_cosine_mean=2"), "less than or equal to 1"),
        (("--gate", "max_size_ratio=0.5"), "no `max_size_ratio`"),
        (("--gate", "min_attention_fused=0.5"), "nor gates on engines"),
        (("--gate", "min_products_fp8=0.5"), "nor gates on engines"),
        (("--recipe", "fp8-auto"), "a search asks none"),
        (("--out", "recipe.txt"), "a .yaml file"),
        (("--out", "nowhere/recipe.yaml"), "a folder that exists"),
        (("--recipe", "none-such"), "none-such"),
        (("--image-size", "64", "64"), "has one of its own: 32 x 32"),
    ],
)
def test_what_cannot_be_searched_with(
    arguments: tuple[str, ...], complaint: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("search", "demo", "--store", tmp_path / "store", *arguments)
    assert code == 2 and complaint in err and out == ""


@pytest.mark.heavy
def test_a_recipe_that_is_found_is_as_good_in_a_release(
    call: Call, clipsmith: Callable[..., Any], tmp_path: Path
) -> None:
    out, store = tmp_path / "found.yaml", tmp_path / "store"
    arguments = ("search", "demo", "--samples", 16, "--budget", 12, "--out", out, "--store", store, "--json", *DATA)
    arguments += ("--compare",)
    gate = "min_cosine_mean=0.9995"
    code, text, err = call(*arguments, "--gate", gate)
    assert code == 0, err
    found = json.loads(text)
    assert found["best"]["excluded"] and not found["everything"]["passed"] and found["evaluations"] <= 12
    # Attention is not auto_quantize's to choose, so it may get nowhere; what it tried is told in any case.
    rival = [trial["fp8_share"] for trial in found["auto_quantize"] if trial["passed"]]
    assert 1 < len(found["auto_quantize"]) <= 12 and all(share <= found["best"]["fp8_share"] for share in rival)
    assert (tmp_path / "found.svg").read_text().startswith("<svg")
    assert list((store / "cache" / "partial").glob("*")) == []  # pictures are not kept beyond the search
    # The journal has everything: nothing is measured again, and another gate is judged on what was.
    journal = (tmp_path / "found.journal.jsonl").read_bytes()
    assert json.loads(call(*arguments, "--gate", gate)[1]) == found
    assert (tmp_path / "found.journal.jsonl").read_bytes() == journal
    config = tmp_path / "optimize.yaml"
    config.write_text("gates: {min_cosine_mean: 0.9995}\ntargets: [onnxruntime]\nlatency: {batches: [1]}\n")
    done = clipsmith("optimize", "demo", "--recipe", out, "--config", config, "--store", store, "--json", *DATA)
    assert done.code == 0, done.err
    made = {g["encoder"]: g["value"] for g in done.document["gates"] if g["name"] == "min_cosine_mean"}
    assert made == {g["encoder"]: g["value"] for g in found["best"]["gates"] if g["name"] == "min_cosine_mean"}


@pytest.mark.heavy
def test_nothing_meets_an_impossible_gate(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "found.yaml"
    arguments = ("search", "demo", "--samples", 8, "--budget", 2, "--out", out, "--store", tmp_path / "store", *DATA)
    code, text, err = call(*arguments, "--gate", "min_cosine_mean=1")
    assert code == 3 and text == "" and "no recipe met the gates in 2 evaluations" in err
    assert not out.exists() and (tmp_path / "found.svg").exists()


def killed_after(records: int, command: list[str], journal: Path) -> bytes:
    """Kill the command once its journal has so many records; the journal then."""
    child = subprocess.Popen(command, env=own_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with child:
        while not journal.exists() or journal.read_bytes().count(b"\n") < records:
            assert child.poll() is None, child.communicate()[1]
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    return journal.read_bytes()


@pytest.mark.heavy
def test_a_search_that_was_killed_goes_on_and_finds_the_same(call: Call, tmp_path: Path) -> None:
    """Killed twice: while it measures, and while it evaluates."""
    given = ("search", "demo", "--samples", 8, "--budget", 4, "--json", *DATA, "--gate", "min_cosine_mean=0.9995")
    undisturbed, disturbed = tmp_path / "undisturbed.yaml", tmp_path / "disturbed.yaml"
    code, text, err = call(*given, "--out", undisturbed, "--store", tmp_path / "store")
    assert code == 0, err
    records = undisturbed.with_suffix(".journal.jsonl").read_bytes().count(b"\n")
    arguments = (*given, "--out", disturbed, "--store", tmp_path / "another")
    journal = disturbed.with_suffix(".journal.jsonl")
    command = [str(word) for word in (CLIPSMITH, *arguments)]
    for wanted in (records // 2, records - 1):
        had = killed_after(wanted, command, journal)
        assert had.count(b"\n") < records, "it was killed before its end"
    code, again, err = call(*arguments)
    assert code == 0, err
    found, same = json.loads(text), json.loads(again)
    assert same == found | {"recipe": str(disturbed), "plot": str(disturbed.with_suffix(".svg"))}
    whole = journal.read_bytes()
    assert whole.startswith(had[: had.rfind(b"\n") + 1]) and whole.count(b"\n") == records, "nothing is measured again"
    assert disturbed.read_bytes() == undisturbed.read_bytes()
    # A store that does not have the FP32 embeddings that the journal names: they are made again.
    journal.write_bytes(whole[: whole.rstrip().rfind(b"\n") + 1])
    code, again, err = call(*given, "--out", disturbed, "--store", tmp_path / "third")
    assert code == 0 and json.loads(again) == same, err
    assert journal.read_bytes().count(b"\n") == records + len(("image", "text"))
    code, _, err = call(*arguments, "--seed", 1)
    assert code == 2 and "the journal of another search" in err
