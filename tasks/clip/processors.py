"""Loading a checkpoint's tokenizer and image processor as plain transformers does, but without torchvision.

`AutoImageProcessor` finds nothing without torchvision, so the image processor's class is looked up here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts.strict_json import strict_json
from tasks.clip.lean import model_class

TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges*",
    "*.model",
    "*.spm",
)
"""Patterns of all files that transformers' tokenizers read."""
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")


def vocabularies(folder: Path) -> list[str]:
    """The files in a folder that hold a tokenizer's vocabulary."""
    return [name for name in _VOCABULARIES if (folder / name).is_file()]


def load_tokenizer(folder: Path, **options: Any) -> Any:
    """Load the tokenizer that `tokenizer_config.json` or the configuration names; never code from the folder.

    If the named class needs a vocabulary file that is missing (SigLIP's `spiece.model`), transformers' generic class
    reads `tokenizer.json`, which holds everything. `options` are passed to transformers.

    Raises:
        ValueError: the tokenizer is code in the folder.
        Exception: errors of transformers and its libraries about files that they cannot use.
    """
    import transformers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    own = _own_code(folder)
    if own is not None and not any(hasattr(transformers, name) for name in (own, f"{own}Fast")):
        raise ValueError(f"{own} is code of the checkpoint's own, which is not run")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, TypeError, ValueError):
        if vocabularies(folder) != ["tokenizer.json"]:
            raise
        options.pop("config", None)
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **options)


def _own_code(folder: Path) -> str | None:
    """The class that `tokenizer_config.json` names, if its code is in the folder; else None."""
    path = folder / "tokenizer_config.json"
    settings = strict_json(path.read_bytes()) if path.is_file() else {}
    code = settings.get("auto_map") if isinstance(settings, dict) else None
    named = settings.get("tokenizer_class") if isinstance(code, dict) and "AutoTokenizer" in code else None
    return named if isinstance(named, str) else None


def load_image_processor(folder: Path, model_type: str) -> Any:
    """Load the image processor of a folder: the class that its files name, with that class's defaults.

    `preprocessor_config.json`, or `processor_config.json` of transformers 5, names the class as `image_processor_type`,
    or as the older `feature_extractor_type`; a class whose name ends in `Fast` computes the same. If no class is named,
    it is transformers' class for the model's type, or CLIP's if there is none.

    Raises:
        OSError: there is no such file, or it is not JSON.
        ValueError: transformers has no such class, or it does not run on Pillow.
    """
    from transformers.image_processing_utils import ImageProcessingMixin

    if not any((folder / name).is_file() for name in _IMAGE_FILES):
        raise OSError(f"there is no {_IMAGE_FILES[0]} and no {_IMAGE_FILES[1]}")
    settings, _ = ImageProcessingMixin.get_image_processor_dict(folder, local_files_only=True)
    return processor_class(settings, model_type).from_pretrained(folder, local_files_only=True)


def processor_class(settings: dict[str, Any], model_type: str) -> Any:
    """The class that an image processor's settings name, in its Pillow version.

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
