"""`clipsmith init` writes a variant that is sound as it is; `variants check` says all that is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.errors import VariantsFailed
from artifacts.exit_codes import ExitCode
from deployments.commands.listing_command import EXAMPLES, examples
from deployments.server import run_optimize
from deployments.server.embedded_api import EmbeddedApi
from flows.nightly import NightlyParameters
from flows.variants import Variant, read_variants, variants_folder
from tasks.families import FAMILIES
from tasks.prefect_ui.nightly_summary import Outcome
from tests.deployments.conftest import Call

WRONG = """\
promote: Not an alias
schedul: {}
schedule: {cron: "99 * * * *"}
parameters:
  targets: [onnxruntime, nope, trtrtx-sm88]
  recipe: fp9
  gates: {max_top1: 0.1, min_cosine_mean: 2}
"""


@pytest.mark.parametrize("like", examples())
def test_what_is_written_is_sound_as_it_is(like: str, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    code, out, err = call("init", file, "--like", like)
    assert (code, err) == (ExitCode.DONE, "") and f"clipsmith variants check {file}" in out
    assert file.read_text() == (EXAMPLES / f"{like}.yaml").read_text() and file.read_text().startswith("# ")
    assert call("variants", "check", file) == (ExitCode.DONE, f"ok      {file}\n", "")
    (found,) = read_variants(tmp_path)
    assert isinstance(found, Variant) and found.name == "mine"
    assert max(len(line) for line in file.read_text().splitlines()) <= 130


def test_unless_told_otherwise_it_is_the_template(call: Call, tmp_path: Path) -> None:
    assert json.loads(call("init", tmp_path / "a.yml", "--json")[1]) == {
        "schema": 1,
        "file": str(tmp_path / "a.yml"),
        "like": "variant",
    }
    assert yaml.safe_load((tmp_path / "a.yml").read_text())["parameters"]["model"] == "demo"


def test_the_examples_are_of_models_that_go_through() -> None:
    assert set(examples()) == {"variant", "clip-l-14", "openclip", "siglip"}
    models = {yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())["parameters"]["model"] for name in examples()}
    assert models == {"demo", "openai/clip-vit-large-patch14", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"} | {
        "google/siglip-base-patch16-224"
    }
    assert "google/siglip-base-patch16-224" in {model for family in FAMILIES for model in family.known}


def test_the_variants_that_come_with_the_package_are_sound(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPSMITH_VARIANTS", raising=False)
    files = sorted(variants_folder().glob("*.yaml"))
    assert files and call("variants", "check", *files)[0] == ExitCode.DONE


@pytest.mark.parametrize(
    ("name", "like", "words"),
    [
        ("there.yaml", "variant", "the file exists already, and is not overwritten"),
        ("mine.json", "variant", "a variant's file ends in .yaml or .yml"),
        ("none/mine.yaml", "variant", "there is no folder for the file"),
        ("mine.yaml", "sigli", "did you mean siglip?"),
        ("mine.yaml", "../variants/demo", "no example '../variants/demo'"),
    ],
)
def test_what_init_refuses(name: str, like: str, words: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    code, out, err = call("init", tmp_path / name, "--like", like)
    assert (code, out) == (ExitCode.WRONG_INPUT, "") and err.startswith("ConfigError: ") and words in err
    assert (tmp_path / "there.yaml").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a mistake of every kind; nothing may be started for it."""
    monkeypatch.setattr(EmbeddedApi, "start", lambda: pytest.fail("a server was started"))
    (tmp_path / "wrong.yaml").write_text(WRONG)
    return tmp_path / "wrong.yaml"


def test_everything_that_is_wrong_is_told_at_once(wrong: Path, call: Call) -> None:
    code, out, err = call("variants", "check", wrong, "--json")
    document = json.loads(out)
    assert (code, err, document["sound"]) == (ExitCode.WRONG_INPUT, "", False)
    (file,) = document["files"]
    found = {(each["key"], each["what"][:26]): each for each in file["complaints"]}
    assert file["file"] == str(wrong)
    assert sorted(key for key, _ in found) == [
        "parameters.gates.max_top1",
        "parameters.gates.min_cosine_mean",
        "parameters.recipe",
        "parameters.targets",
        "parameters.targets",
        "promote",
        "schedul",
        "schedule.cron",
    ]
    gate = found["parameters.gates.max_top1", "Extra inputs are not permi"]
    assert gate["nearest"] == "max_top1_drop" and "max_recall_drop" in gate["valid"]
    assert "name" not in found["schedul", "Extra inputs are not permi"]["valid"]
    assert "one of fp8, " in found["parameters.recipe", "no recipe 'fp9'"]["expected"]
    assert "did you mean trtrtx-sm89?" in [each["fix"] or "" for each in file["complaints"]][2]


def test_for_people_by_file_and_in_lines_that_fit(wrong: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("parameters: {model: demo}\n")
    code, out, err = call("variants", "check", tmp_path / "good.yaml", wrong)
    lines = out.splitlines()
    assert (code, err) == (ExitCode.WRONG_INPUT, "")
    assert lines[:2] == [f"ok      {tmp_path / 'good.yaml'}", f"not ok  {wrong}"]
    at = lines.index("    schedul: there is no such key")
    assert lines[at + 1 : at + 3] == [
        "        expected: one of schedule, promote, max_drop_against_production, parameters",
        "        next: did you mean schedule?",
    ]
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", None, "cannot be read"),
        ("a.yaml", "parameters: [", "cannot be read"),
        ("a.yaml", "- a\n", "it is not a mapping"),
        ("a.yaml", "promote: x\npromote: y\n", "'promote' is given twice"),
        ("a.yml.txt", "parameters: {}\n", "a.yml.txt is not read"),
        ("a.yaml", "parameters: 3\n", "parameters: Input should be"),
        ("a.yaml", "parameters: {recipe: 3}\n", "parameters.recipe: Input should be a valid string"),
    ],
)
def test_files_that_are_no_variant_at_all(name: str, text: str | None, words: str, call: Call, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    code, out, err = call("variants", "check", tmp_path / name)
    assert (code, err) == (ExitCode.WRONG_INPUT, "") and words in " ".join(out.split())


@pytest.fixture
def nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The parameters that nights are run with; of the variants `a` and `b`, `b` fails. No server is started."""
    given: list[Any] = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("{}\n")
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(tmp_path))

    def run(parameters: Any) -> list[Outcome]:
        given.append(parameters)
        done = [Outcome(variant="a", result="promoted", release="demo@2", production="demo@1", why="new data")]
        if parameters.variants == ["a"]:
            return done
        error = VariantsFailed("1 of 2 variants failed: b", fix="correct it")
        error.outcomes = [each.model_dump(mode="json") for each in (*done, Outcome.failed("b", "no model"))]
        raise error

    monkeypatch.setattr(run_optimize, "run_nightly", run)
    return given


def test_a_night_by_hand_has_the_parameters_of_the_deployment(nights: list[Any], call: Call, tmp_path: Path) -> None:
    options = ("--at-once", 3, "--hours", 5, "--store", tmp_path / "store")
    code, out, err = call("nightly", "a", *options)
    assert (code, err) == (ExitCode.DONE, "") and nights[0].model_dump() == {
        "variants": ["a"],
        "at_once": 3,
        "hours": 5,
        "store": str(tmp_path / "store"),
    }
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["a", "promoted", "demo@2", "demo@1"],
        ["a:", "made", "because", "new", "data"],
    ]
    call("nightly", "a")
    assert nights[1] == NightlyParameters(variants=["a"])


def test_what_became_of_each_is_told_where_one_fails(nights: list[Any], call: Call) -> None:
    code, out, err = call("nightly", "--json")
    outcomes = {each["variant"]: each for each in json.loads(out)["outcomes"]}
    assert code == ExitCode.FAILED and err.startswith("VariantsFailed: 1 of 2 variants failed: b")
    assert (outcomes["a"]["result"], outcomes["b"]["error"]) == ("promoted", "no model")
    assert nights[0].variants == []


def test_a_variant_that_there_is_not_starts_nothing(nights: list[Any], call: Call) -> None:
    code, out, err = call("nightly", "aa")
    assert (code, out, nights) == (ExitCode.WRONG_INPUT, "", [])
    assert "no variant aa" in err and "did you mean a?" in err
    assert call("nightly", "a", "--at-once", 0)[0] == ExitCode.WRONG_INPUT


def test_it_needs_a_file(call: Call) -> None:
    assert call("variants", "check")[:2] == (ExitCode.WRONG_INPUT, "")


@pytest.mark.parametrize(
    ("parameters", "sound"),
    [
        ({}, True),
        ({"model": "openai/clip-vit-base-patch32"}, False),
        ({"model": "openai/clip-vit-base-patch32", "targets": ["nope"]}, False),
        ({"model": "openai/clip-vit-base-patch32", "precisions": ["fp16"]}, True),
        ({"model": "openai/clip-vit-base-patch32", "calibration": {"source": "datasets:mine"}}, True),
        ({"model": "/models/on-another-machine"}, True),
        ({"model": "{own}"}, False),
    ],
    ids=str,
)
def test_a_model_that_needs_calibration_data_names_it(
    call: Call, tmp_path: Path, small_clip: Path, parameters: dict[str, Any], sound: bool
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"parameters": parameters}).replace("{own}", str(small_clip)))
    _, out, _ = call("variants", "check", file, "--json")
    (checked,) = json.loads(out)["files"]
    complaints = [each for each in checked["complaints"] if each["key"] == "parameters.calibration.source"]
    assert len(complaints) == (0 if sound else 1)
    for each in complaints:
        assert each["what"].startswith("no calibration data for ") and "pictures and captions" in each["expected"]
        assert "calibration.source" in each["fix"] and checked["file"] == str(file)
