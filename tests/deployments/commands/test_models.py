"""`clipsmith check` tells what a checkpoint is and reads no weights; `clipsmith models` lists what goes through."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from artifacts.exit_codes import ExitCode
from tasks.clip.hugging_face import ClipFamily
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.families import FAMILIES
from tests.deployments.conftest import Call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's snapshot, to be changed."""
    return Path(shutil.copytree(SNAPSHOT, tmp_path / "model", copy_function=shutil.copyfile))


def test_the_demo_in_a_dozen_lines(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WeightReader, "read", lambda *_: pytest.fail("no values are read"))
    code, out, err = call("check", "demo")
    assert (code, err) == (ExitCode.DONE, "")
    assert "demo  family clip, 1.1 M parameters" in out
    assert "pixel_values 3 x 32 x 32  19 of 19 linear layers, 6 of 6 products" in out
    assert "CLIPTokenizer, 603 tokens, texts of up to 16 tokens" in out and "CLIPImageProcessor" in out
    assert "94 tensors, all there" in out and "transformers, in every run" in out


def test_no_garbage_is_collected_while_libraries_are_imported(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took a quarter of the command's time; transformers imports a model's class when it is asked for."""
    collecting, build = [], ClipFamily.build
    monkeypatch.setattr(ClipFamily, "build", lambda *given: (collecting.append(gc.isenabled()), build(*given))[1])
    assert call("check", "demo")[0] == ExitCode.DONE
    assert collecting and not any(collecting)
    assert gc.isenabled()


def test_what_becomes_fp8_is_the_recipes(call: Call) -> None:
    code, out, _ = call("check", "demo", "--recipe", "fp8-no-attention", "--json")
    towers = {tower["encoder"]: tower for tower in json.loads(out)["towers"]}
    assert code == ExitCode.DONE
    assert [(tower["linear_fp8"], tower["attention_fp8"]) for tower in towers.values()] == [(19, 0), (13, 0)]


def test_without_weights_the_small_files_are_enough(call: Call, model: Path) -> None:
    (model / "model.safetensors").unlink()
    code, out, _ = call("check", model, "--json")
    found = json.loads(out)
    assert code == ExitCode.DONE and found["tensors"] is None and found["family"] == "clip"


def test_pickles_alone_are_refused_as_by_a_run(call: Call, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    code, _, err = call("check", model)
    assert code == ExitCode.WRONG_INPUT and "the weights are pickles (pytorch_model.bin)" in err


@pytest.fixture
def at_hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hub holds the demo's small files as `org/small`, and files of the names that the test puts into this list."""
    names: list[str] = []
    (model / "model.safetensors").unlink()
    folder = model.rename(tmp_path / ("c" * 40))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: names)
    return names


def test_weights_at_the_hub_are_named(call: Call, at_hub: list[str]) -> None:
    at_hub += [
        "README.md",
        "model-00002-of-00002.safetensors",
        "model-00001-of-00002.safetensors",
        "onnx/x.safetensors",
    ]
    code, out, _ = call("check", "org/small")
    assert code == ExitCode.DONE
    assert "weights    model-00001-of-00002.safetensors and 1 more at the hub; a run downloads them" in out


@pytest.mark.parametrize("command", ["check", "optimize"])
def test_pickles_at_the_hub_are_refused_from_their_names(
    command: str, call: Call, at_hub: list[str], tmp_path: Path
) -> None:
    at_hub += ["config.json", "pytorch_model.bin", "onnx/model.safetensors"]
    rest = () if command == "check" else ("--store", tmp_path / "store", "--calibration", "digits")
    code, _, err = call(command, "org/small", *rest)
    assert code == ExitCode.WRONG_INPUT and "the weights are pickles (pytorch_model.bin)" in err


@pytest.mark.usefixtures("at_hub")
def test_a_hub_that_does_not_answer_is_no_reason_to_refuse(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> list[str]:
        raise huggingface_hub.errors.OfflineModeIsEnabled("no network")

    monkeypatch.setattr(huggingface_hub, "list_repo_files", offline)
    code, out, _ = call("check", "org/small")
    assert code == ExitCode.DONE and "weights    not looked at" in out


def test_a_key_that_is_there_twice_is_refused(call: Call, model: Path) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "padding_side": "left", "padding_side": "right"}')
    code, _, err = call("check", model)
    assert code == ExitCode.WRONG_INPUT and "tokenizer_config.json cannot be read" in err


@pytest.mark.parametrize("named", [5, True, "CLIPModel", [None]])
def test_odd_architectures_change_nothing(named: Any, call: Call, model: Path) -> None:
    change(model / "config.json", architectures=named)
    assert call("check", model)[0] == ExitCode.DONE


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_changed_is_said(call: Call, model: Path) -> None:
    change(model / "tokenizer_config.json", padding_side="left")
    code, out, _ = call("check", model)
    assert code == ExitCode.DONE and "note       texts are padded on the right" in out


def test_a_refusal_has_one_line_for_its_reason(call: Call, model: Path) -> None:
    change(model / "preprocessor_config.json", do_center_crop=False)
    code, out, err = call("check", model)
    assert (code, out) == (ExitCode.WRONG_INPUT, "")
    assert err.startswith("CheckpointError: CLIPImageProcessor makes 3 x 32 x 64 of a picture of 128 x 64 pixels")


def test_names_and_shapes_of_weights_are_compared(call: Call, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    change(model / "config.json", text_config=config["text_config"] | {"num_hidden_layers": 3})
    code, _, err = call("check", model)
    assert code == ExitCode.WRONG_INPUT and "tensors are missing" in err


def test_every_family_is_listed(call: Call) -> None:
    code, out, _ = call("models")
    assert code == ExitCode.DONE
    for family in FAMILIES:
        assert f"{family.name} " in out and family.covers in out and family.oracle in out
        assert all(name in out for name in family.known) and family.known
    _, document, _ = call("models", "--json")
    assert [row["family"] for row in json.loads(document)["families"]] == [family.name for family in FAMILIES]
