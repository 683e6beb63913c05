"""Write `image_processors.json`: the image processor that transformers' `AutoImageProcessor` finds in folders.

`AutoImageProcessor` needs torchvision, which clipsmith's environment does not have. To make the file again, in an
environment with torchvision and the locked version of transformers:

    python tests/golden/make_image_processors.py

Each case has the files of a folder, and the class and settings that were found or the class of the error.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "image_processors.json"
KEYS = (
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "crop_size",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
)
BOX = {"height": 32, "width": 48}
FORMS: dict[str, dict[str, Any]] = {
    "names nothing": {},
    "the plain class": {"image_processor_type": "CLIPImageProcessor"},
    "the fast class": {"image_processor_type": "CLIPImageProcessorFast"},
    "the old name in the new key": {"image_processor_type": "CLIPFeatureExtractor"},
    "the old key": {"feature_extractor_type": "CLIPFeatureExtractor"},
    "the old key of another class": {"feature_extractor_type": "ViTFeatureExtractor"},
    "both keys": {"image_processor_type": "ViTImageProcessor", "feature_extractor_type": "CLIPFeatureExtractor"},
    "another family's class": {"image_processor_type": "SiglipImageProcessor"},
    "a class without a crop": {"image_processor_type": "ChineseCLIPImageProcessor"},
    "BLIP's": {"image_processor_type": "BlipImageProcessor"},
    "ConvNeXt's": {"image_processor_type": "ConvNextImageProcessor"},
    "BiT's": {"image_processor_type": "BitImageProcessor"},
    "DeiT's": {"image_processor_type": "DeiTImageProcessor"},
    "no such class": {"image_processor_type": "SatelliteImageProcessor"},
    "numbers": {"image_processor_type": "CLIPImageProcessor", "size": 40, "crop_size": 32},
    "numbers for SigLIP": {"image_processor_type": "SiglipImageProcessor", "size": 40},
    "numbers for ViT": {"image_processor_type": "ViTImageProcessor", "size": 40},
    "boxes": {"image_processor_type": "CLIPImageProcessor", "size": BOX, "crop_size": BOX},
    "a crop that is disabled": {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": BOX,
        "do_center_crop": False,
    },
    "nothing said of RGB": {"image_processor_type": "SiglipImageProcessor", "do_convert_rgb": None},
    "a filter": {"image_processor_type": "SiglipImageProcessor", "resample": 2},
    "means": {
        "image_processor_type": "CLIPImageProcessor",
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
    },
}
FAMILIES = ("clip", "siglip", "chinese_clip", "altclip", "metaclip_2")


def folders() -> dict[str, dict[str, Any]]:
    """Files by name, for each case: every form in a folder of CLIP's, and what concerns the family in all of them."""
    made = {
        f"{form}, clip": {"config.json": {"model_type": "clip"}, "preprocessor_config.json": settings}
        for form, settings in FORMS.items()
    }
    for family in FAMILIES[1:]:
        for form in ("names nothing", "the plain class"):
            files = {"config.json": {"model_type": family}, "preprocessor_config.json": FORMS[form]}
            made[f"{form}, {family}"] = files
    nested = {"image_processor": FORMS["another family's class"] | {"size": BOX}, "processor_class": "SiglipProcessor"}
    made["inside processor_config.json"] = {"config.json": {"model_type": "siglip"}, "processor_config.json": nested}
    made["in both files"] = made["inside processor_config.json"] | {
        "preprocessor_config.json": FORMS["the plain class"] | {"crop_size": 24}
    }
    return made


def found(files: dict[str, Any]) -> dict[str, Any]:
    """What transformers makes of a folder with these files."""
    from transformers import AutoImageProcessor

    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content))
        try:
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            return {"error": type(error).__name__}
    return {"class": type(processor).__name__, "settings": chosen(processor)}


def chosen(processor: Any) -> dict[str, Any]:
    """The settings of an image processor, as JSON has them."""
    settings = json.loads(json.dumps(processor.to_dict(), default=dict))
    return {key: settings[key] for key in KEYS if settings.get(key) is not None}


if __name__ == "__main__":
    cases = {name: {"files": files, "found": found(files)} for name, files in folders().items()}
    OUT.write_text(json.dumps(cases, indent=1, sort_keys=True) + "\n")
    print(f"{OUT}: {len(cases)} cases")
