"""What can be known at once is: by the run's own errors, before anything of it starts."""

from __future__ import annotations

import json
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
    EngineUnavailable,
    NotClip,
    StoreReadOnly,
    UnknownRecipe,
)
from artifacts.exit_codes import ExitCode
from flows.parameters import parse_parameters
from flows.preflight import check_ahead, plan_line
from tasks.data import opened as opening


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
        ({"store": "/proc/store"}, StoreReadOnly, "the store cannot be written"),
    ],
)
def test_what_is_wrong_is_told_and_no_store_made(
    values: dict[str, Any], error: type[ClipsmithError], words: str, tmp_path: Path
) -> None:
    store, empty = tmp_path / "store", tmp_path / "empty"
    empty.mkdir()
    given = json.loads(json.dumps(values).replace("{empty}", str(empty)))
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
    with pytest.raises(ConfigError, match="no calibration data for"):
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
