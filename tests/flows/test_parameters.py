"""The one parameter model: strict, closed, and the same from YAML and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from artifacts.errors import ConfigError, ProfileError, UnknownTarget
from flows.parameters import OptimizeParameters, parse_parameters, read_config
from tasks.quantizing.recipe import Mse, Percentile
from tests.wording import refusal


def test_defaults_are_the_demo() -> None:
    parameters = OptimizeParameters()
    assert parameters.model == "demo"
    assert parameters.targets == ["onnxruntime", "trtrtx-sm89", "trtrtx-sm120"]
    on = {name: bound for name, bound in parameters.gates if bound is not None}
    assert on == {"min_cosine_mean": 0.9, "max_size_ratio": 0.98}  # the accuracy gates are off


def test_the_published_preset_is_the_published_workflow() -> None:
    calibration = OptimizeParameters.model_validate({"calibration": {"preset": "published"}}).calibration
    assert (calibration.sample_count, calibration.batch_size) == (8192, 512)
    explicit = OptimizeParameters.model_validate({"calibration": {"preset": "published", "samples": 9}}).calibration
    assert (explicit.sample_count, explicit.batch_size) == (9, 512)


def test_each_encoder_has_its_candidates() -> None:
    values = {"image": {"method": "auto", "percentile": 99.9}, "text": {"method": "mse"}}
    calibration = OptimizeParameters.model_validate({"calibration": values}).calibration
    assert calibration.of("image").candidates() == ("max", Percentile(percentile=99.9), Mse())
    assert calibration.of("text").candidates() == (Mse(),)
    assert OptimizeParameters().calibration.of("text").candidates() == ("max",)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "typo": ({"modell": "demo"}, "modell"),
    "typo in a section": ({"latency": {"round": 5}}, "latency.round"),
    "text for a number": ({"calibration": {"samples": "64"}}, "calibration.samples"),
    "float for a number": ({"calibration": {"samples": 64.0}}, "calibration.samples"),
    "true for a number": ({"evaluation": {"batch": True}}, "evaluation.batch"),
    "number for text": ({"model": 7}, "model"),
    "text for a list": ({"targets": "onnxruntime"}, "targets"),
    "unknown encoder": ({"encoders": ["audio"]}, "encoders.0"),
    "unknown precision": ({"precisions": ["int8"]}, "precisions.0"),
    "a size of one side": ({"image_size": [256]}, "image_size"),
    "a size of text": ({"image_size": ["256", "256"]}, "image_size.0"),
    "a size of zero": ({"image_size": [256, 0]}, "image_size.1"),
    "no encoders": ({"encoders": []}, "encoders"),
    "no precisions": ({"precisions": []}, "precisions"),
    "encoder twice": ({"encoders": ["text", "text"]}, "encoders"),
    "empty model": ({"model": ""}, "model"),
    "empty store": ({"store": ""}, "store"),
    "seven samples": ({"evaluation": {"samples": 7}}, "evaluation.samples"),
    "batch of zero": ({"calibration": {"batch": 0}}, "calibration.batch"),
    "unknown preset": ({"calibration": {"preset": "big"}}, "calibration.preset"),
    "unknown method": ({"calibration": {"text": {"method": "median"}}}, "calibration.text.method"),
    "entropy": ({"calibration": {"image": {"method": "entropy"}}}, "does not offer FP8"),
    "percentile of 100": ({"calibration": {"image": {"percentile": 100.0}}}, "calibration.image.percentile"),
    "method for no encoder": ({"calibration": {"audio": {"method": "max"}}}, "calibration.audio"),
    "two rounds": ({"latency": {"rounds": 2}}, "latency.rounds"),
    "no batches": ({"latency": {"batches": []}}, "latency.batches"),
    "batch of zero to time": ({"latency": {"batches": [0]}}, "latency.batches"),
    "negative batch to time": ({"latency": {"batches": [1, -8]}}, "latency.batches"),
    "no time": ({"latency": {"seconds": 0.0}}, "latency.seconds"),
    "gate of zero": ({"gates": {"max_top1_drop": 0.0}}, "gates.max_top1_drop"),
    "gate above one": ({"gates": {"min_cosine_mean": 1.01}}, "gates.min_cosine_mean"),
    "gate NaN": ({"gates": {"min_cosine_mean": float("nan")}}, "gates.min_cosine_mean"),
    "gate below zero": ({"gates": {"max_size_ratio": -0.5}}, "gates.max_size_ratio"),
    "gate as text": ({"gates": {"max_recall_drop": "0.01"}}, "gates.max_recall_drop"),
    "no section": ({"gates": None}, "gates"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_named(name: str) -> None:
    values, field = WRONG[name]
    with pytest.raises(ConfigError, match="wrong parameters") as caught:
        parse_parameters(values, where="file.yaml")
    assert field in str(caught.value)
    assert caught.value.where == "file.yaml"


def test_every_wrong_field_is_named() -> None:
    with refusal(ConfigError, "x"):
        parse_parameters({"modell": "x", "calibration": {"batch": 0}}, where="x")


def test_typed_errors_come_through() -> None:
    with pytest.raises(UnknownTarget, match="nope"):
        parse_parameters({"targets": ["nope"]}, where="x")
    for profile in ({"min": 9}, {"opt": 64}, {"min": 0, "opt": 1}, {"min": -1}):
        with pytest.raises(ProfileError):
            parse_parameters({"profile": profile}, where="x")


def test_parameters_are_frozen() -> None:
    with pytest.raises(ValidationError):
        OptimizeParameters().model = "other"  # type: ignore[misc]


def test_every_section_refuses_unknown_fields() -> None:
    for name, field in OptimizeParameters.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            with pytest.raises(ConfigError, match=f"{name}.surplus"):
                parse_parameters({name: {"surplus": 1}}, where="x")


@pytest.mark.parametrize("content", ["- a\n", "text", "", "a: [", "{a: 1, b", "!!python/name:os.system", "\x00"])
def test_files_that_are_not_a_mapping_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "c.yaml")
    assert caught.value.where == str(tmp_path / "c.yaml")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
    for name in ("none.yaml", ".", "latin.yaml"):
        with pytest.raises(ConfigError):
            read_config(tmp_path / name)


def test_a_whole_model_survives_yaml(tmp_path: Path) -> None:
    import yaml

    values = {
        "model": "x/y",
        "targets": ["trtrtx-sm120"],
        "profile": {"min": 2, "opt": 4, "max": 9},
        "latency": {"batches": [3], "rounds": 7, "seconds": 1.5},
        "gates": {"max_top1_drop": 0.01, "min_cosine_mean": None},
        "store": "/s",
    }
    parameters = parse_parameters(values, where="x")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(parameters.model_dump(mode="json")))
    assert parse_parameters(read_config(tmp_path / "c.yaml"), where="x") == parameters


def test_the_form_of_the_ui_has_every_parameter() -> None:
    from flows.optimize import optimize

    schema = optimize.parameters.model_dump()
    (definition,) = [d for name, d in schema["definitions"].items() if name == "OptimizeParameters"]
    assert definition["properties"].keys() == OptimizeParameters.model_fields.keys()
    assert definition["additionalProperties"] is False


def test_latency_batches_outside_the_profile_are_refused() -> None:
    with pytest.raises(ProfileError, match=r"\[8\] are outside"):
        parse_parameters({"profile": {"min": 1, "opt": 2, "max": 4}, "latency": {"batches": [1, 8]}}, where="test")
