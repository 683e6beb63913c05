"""What can be known at once is: by the run's own errors, before anything of it starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import (
    CheckpointNotFound,
    ClipsmithError,
    ConfigError,
    DataNotFound,
    DataOverlap,
    DegenerateData,
    EngineUnavailable,
    NotClip,
    StoreReadOnly,
    TooFewSamples,
    UnknownRecipe,
)
from artifacts.exit_codes import ExitCode
from flows.parameters import parse_parameters
from flows.preflight import check_ahead, plan_line
from tasks.data import opened as opening
from tests.tasks.data.support import pictures
from tests.wording import refusal


def check(**values: Any) -> None:
    check_ahead(parse_parameters(values, where="test"))


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"model": "/no/such"}, CheckpointNotFound, "no model '/no/such'"),
        ({"revision": "main"}, CheckpointNotFound, "a local model has no revisions"),
        ({"image_size": [32, 32]}, ConfigError, "has one of its own"),
        ({"recipe": "fp9"}, UnknownRecipe, "no recipe 'fp9'"),
        ({"targets": ["tensorrt"]}, EngineUnavailable, "target tensorrt cannot be built here"),
        ({"evaluation": {"source": "/no/such"}}, DataNotFound, "no data source '/no/such'"),
        ({"calibration": {"source": "/no/such"}}, DataNotFound, "no data source '/no/such'"),
        ({"evaluation": {"source": "{empty}"}}, DataNotFound, "no table of captions or labels"),
        ({"evaluation": {"source": "{few}"}}, TooFewSamples, "only 2 of 8 samples"),
        ({"evaluation": {"source": "{one}"}}, DegenerateData, "of one class, 'cat'"),
        ({"calibration": {"source": "{both}"}, "evaluation": {"source": "{both}"}}, DataOverlap, "8 of 8 evaluation"),
        ({"store": "/proc/store"}, StoreReadOnly, "the store cannot be written"),
    ],
)
def test_what_is_wrong_is_told_and_no_store_made(
    values: dict[str, Any], error: type[ClipsmithError], words: str, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    (tmp_path / "empty").mkdir()
    pictures(tmp_path / "few", "cat/0.png", "dog/1.png")
    names = [f"{n}.png" for n in range(8)]
    (pictures(tmp_path / "one", *names) / "labels.csv").write_text(
        "\n".join(["file,label", *(f"{name},cat" for name in names)])
    )
    pictures(tmp_path / "both", *(f"{name}/{n}.png" for name in ("cat", "dog") for n in range(4)))
    given = json.loads(re.sub(r"\{(\w+)\}", rf"{tmp_path}/\1", json.dumps(values)))
    with pytest.raises(error, match=words) as caught:
        check(**({"store": str(store)} | given))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    assert not store.exists()


def test_a_folder_that_is_no_clip_model(tmp_path: Path, small_clip: Path) -> None:
    with pytest.raises(NotClip, match=r"no config\.json"):
        check(model=str(tmp_path), store=str(tmp_path / "store"))
    model = Path(shutil.copytree(small_clip, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(NotClip, match="bert"):
        check(model=str(model), store=str(tmp_path / "store"))


def test_a_model_of_ones_own_needs_calibration_data_for_fp8_alone(small_clip: Path, tmp_path: Path) -> None:
    own = {"model": str(small_clip), "store": str(tmp_path / "store")}
    with refusal(ConfigError):
        check(**own)
    check(**own, precisions=["fp16"])
    check(**own, calibration={"source": "digits"})


def test_what_is_on_the_hub_is_left_to_the_run(tmp_path: Path) -> None:
    hub: dict[str, Any] = {"model": "openai/clip-vit-base-patch32", "store": str(tmp_path / "store")}
    check(**hub, calibration={"source": "digits"})
    check(**hub, precisions=["fp16"])
    with pytest.raises(ConfigError, match=r"no calibration data for openai/clip-vit-base-patch32"):
        check(**hub)


def test_what_is_sound_is_open_for_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the demo's own data are, whose opening the run then asks for."""
    check(store=str(tmp_path / "store"))
    assert (tmp_path / "store" / "store.json").is_file()
    monkeypatch.setattr(opening, "open_dataset", lambda *_: pytest.fail("opened again"))
    assert opening.opened("digits", "evaluation", 512).dataset.samples


def test_the_plan_in_a_line() -> None:
    parameters = parse_parameters({"targets": ["onnxruntime", "trtrtx-sm89"], "store": "here"}, where="test")
    assert plan_line(parameters) == "optimize demo: fp16 and fp8 for onnxruntime, trtrtx-sm89, into here"


def test_nothing_slow_is_imported() -> None:
    program = (
        "import sys, flows.preflight; print([m for m in ('prefect', 'torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "[]\n"
