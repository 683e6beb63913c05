"""The class of an image processor is the one that the files name, in its form for Pillow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.clip.processors import load_image_processor, processor_class
from tests.golden.make_image_processors import OUT, chosen
from tests.wording import refusal

FOUND: dict[str, Any] = json.loads(OUT.read_text())
"""What transformers' own choice of a class is, where torchvision lets it choose."""
OURS_ALONE = {"the old name in the new key, clip": "CLIPImageProcessorPil"}
"""Files that people have and `AutoImageProcessor` refuses."""


@pytest.mark.parametrize("case", FOUND)
def test_class_and_settings_are_those_that_transformers_chooses(case: str, tmp_path: Path) -> None:
    for name, content in FOUND[case]["files"].items():
        (tmp_path / name).write_text(json.dumps(content))
    model_type, found = FOUND[case]["files"]["config.json"]["model_type"], FOUND[case]["found"]
    if case in OURS_ALONE:
        assert found == {"error": "ValueError"}
        assert type(load_image_processor(tmp_path, model_type)).__name__ == OURS_ALONE[case]
    elif "error" in found:
        with pytest.raises(ValueError, match="no image processor"):
            load_image_processor(tmp_path, model_type)
    else:
        images = load_image_processor(tmp_path, model_type)
        assert type(images).__name__ == found["class"] + "Pil"
        assert chosen(images) == found["settings"]


@pytest.mark.parametrize(
    ("settings", "model_type", "name"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "siglip", "CLIPImageProcessorPil"),
        ({"image_processor_type": "CLIPImageProcessorFast"}, "clip", "CLIPImageProcessorPil"),
        ({"image_processor_type": "CLIPFeatureExtractor"}, "clip", "CLIPImageProcessorPil"),
        ({"feature_extractor_type": "CLIPFeatureExtractor"}, "chinese_clip", "CLIPImageProcessorPil"),
        ({"feature_extractor_type": "ViTFeatureExtractor"}, "clip", "ViTImageProcessorPil"),
        ({"image_processor_type": "SiglipImageProcessorPil"}, "clip", "SiglipImageProcessorPil"),
        (
            {"image_processor_type": "ViTImageProcessor", "feature_extractor_type": "CLIPFeatureExtractor"},
            "clip",
            "ViTImageProcessorPil",
        ),
        ({}, "clip", "CLIPImageProcessorPil"),
        ({}, "metaclip_2", "CLIPImageProcessorPil"),
        ({}, "altclip", "CLIPImageProcessorPil"),
        ({}, "siglip", "SiglipImageProcessorPil"),
        ({}, "chinese_clip", "ChineseCLIPImageProcessorPil"),
    ],
)
def test_class(settings: dict[str, Any], model_type: str, name: str) -> None:
    assert processor_class(settings, model_type).__name__ == name


def test_an_unknown_class_is_not_replaced_by_another() -> None:
    with refusal(ValueError):
        processor_class({"image_processor_type": "SatelliteImageProcessor"}, "clip")


def test_a_class_that_needs_torchvision_is_named() -> None:
    with refusal(ValueError):
        processor_class({"image_processor_type": "Sam2ImageProcessor"}, "clip")


def test_defaults_are_those_of_the_class(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor"}))
    images = load_image_processor(tmp_path, "clip")
    assert (images.resample, list(images.image_mean), images.size["height"]) == (2, [0.5, 0.5, 0.5], 224)


def test_transformers_5_keeps_it_inside_the_processor(tmp_path: Path) -> None:
    nested = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 48, "width": 32}}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": nested}))
    images = load_image_processor(tmp_path, "clip")
    assert type(images).__name__ == "SiglipImageProcessorPil" and dict(images.size) == {"height": 48, "width": 32}
