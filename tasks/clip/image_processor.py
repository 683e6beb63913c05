"""Which image processor a checkpoint names, loaded on Pillow: without torchvision `AutoImageProcessor` finds none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.clip.lean import model_class

_FILES = ("preprocessor_config.json", "processor_config.json")


def load_image_processor(folder: Path, model_type: str) -> Any:
    """The image processor of a folder, of the class that its files name, with that class's own defaults.

    `preprocessor_config.json`, or `processor_config.json` as transformers 5 writes it, names the class as
    `image_processor_type` or by the older `feature_extractor_type`; one with a name ending in `Fast` computes the same.
    A file that names none means the class that transformers has for the model's type, or CLIP's if it has none.

    Raises:
        OSError: there is no such file, or it is not JSON.
        ValueError: transformers has no such class, or it does not run on Pillow.
    """
    from transformers.image_processing_utils import ImageProcessingMixin

    if not any((folder / name).is_file() for name in _FILES):
        raise OSError(f"there is no {_FILES[0]} and no {_FILES[1]}")
    settings, _ = ImageProcessingMixin.get_image_processor_dict(folder, local_files_only=True)
    return processor_class(settings, model_type).from_pretrained(folder, local_files_only=True)


def processor_class(settings: dict[str, Any], model_type: str) -> Any:
    """The class that the settings of an image processor name, in its form for Pillow.

    Raises:
        ValueError: transformers has no such class, or it does not run on Pillow.
    """
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

    known = {forms.get("torchvision"): forms.get("pil") for forms in IMAGE_PROCESSOR_MAPPING_NAMES.values()}
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if named is None:
        default = IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type, IMAGE_PROCESSOR_MAPPING_NAMES["clip"])
        return model_class(str(default["pil"]))
    plain = str(named).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    if plain not in known:
        raise ValueError(f"transformers has no image processor {named!r}")
    if known[plain] is None:
        raise ValueError(f"the image processor {named!r} needs torchvision")
    return model_class(str(known[plain]))
