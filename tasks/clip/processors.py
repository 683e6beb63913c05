"""A checkpoint's tokenizer and image processor, as plain transformers finds them, without torchvision.

Without it `AutoImageProcessor` finds nothing: which image processor a checkpoint names is found here.
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
"""All files that a tokenizer of transformers' reads, as patterns."""
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
    """What `tokenizer_config.json` or the configuration names; never code from the folder.

    Where the named class wants a vocabulary file that is not there (SigLIP's `spiece.model`), `tokenizer.json` alone
    says everything, and transformers' class for such files reads it. `options` go to transformers.

    Raises:
        ValueError: the tokenizer is code of the folder's own.
        Exception: whatever transformers and its libraries raise for files that they cannot use.
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
    """The class that `tokenizer_config.json` names, if it also says where in the folder its code is."""
    path = folder / "tokenizer_config.json"
    settings = strict_json(path.read_bytes()) if path.is_file() else {}
    code = settings.get("auto_map") if isinstance(settings, dict) else None
    named = settings.get("tokenizer_class") if isinstance(code, dict) and "AutoTokenizer" in code else None
    return named if isinstance(named, str) else None


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

    if not any((folder / name).is_file() for name in _IMAGE_FILES):
        raise OSError(f"there is no {_IMAGE_FILES[0]} and no {_IMAGE_FILES[1]}")
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
