"""What transformers alone makes of a folder: the reference, written without any of our code.

Its own model class, the tokenizer and the image processor that the files name; one text at a time and, but for SigLIP,
which was trained with its padding, unpadded; pictures as Pillow opens them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = ("seven", "A photo of TWO cats, on an old bench!", "", "一张猫的照片", "the number eight " * 60)
CONTEXTS = {"chinese_clip": 52, "altclip": 77}
"""Tokens that the authors' code gives models whose text encoder has room for more."""


@cache
def pictures() -> dict[str, bytes]:
    """Files of pictures: of every shape and mode that processors treat differently."""
    from PIL import Image
    from skimage import data

    photo = Image.fromarray(data.astronaut())
    alpha = Image.fromarray(data.coffee()).crop((100, 50, 400, 250)).convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    shapes = {
        "landscape": Image.fromarray(data.chelsea()).resize((150, 90)),
        "portrait": photo.crop((150, 0, 330, 300)).resize((61, 100)),
        "grey": Image.fromarray(data.camera()).resize((70, 50)),
        "palette": photo.resize((64, 64)).quantize(32),
        "transparent": alpha.resize((60, 44)),
    }
    files = {}
    for name, picture in shapes.items():
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        files[name] = stream.getvalue()
    return files


def _file(folder: Path) -> dict[str, Any]:
    """The image processor's settings: the section that transformers 5 writes comes before the file of its own."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            content: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            if name.startswith("pre") or "image_processor" in content:
                return content if name.startswith("pre") else content["image_processor"]
    raise FileNotFoundError(folder)


_DEFAULTS = {"siglip": "SiglipImageProcessor", "chinese_clip": "ChineseCLIPImageProcessor"}


def image_processor(folder: Path) -> Any:
    """The class that the file names, in its form on Pillow; the model's own where the file names none."""
    import transformers

    settings = _file(folder)
    named = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if named is None:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        named = _DEFAULTS.get(kind, "CLIPImageProcessor")
    name = named.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    return getattr(transformers, f"{name}Pil").from_dict(settings)


def model(folder: Path) -> Any:
    """In FP32, whatever the file says."""
    import torch
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def _features(method: Callable[..., Any], **inputs: Any) -> np.ndarray:
    import torch

    with torch.no_grad():
        made: np.ndarray = method(**inputs, return_dict=True).pooler_output[0].numpy()
    return made


def text_embeddings(folder: Path, loaded: Any, texts: tuple[str, ...] = TEXTS) -> np.ndarray:
    """Of each text alone."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    kind, part = loaded.config.model_type, loaded.config.text_config
    settings: dict[str, Any] = {"max_length": min(CONTEXTS.get(kind, 10**6), part.max_position_embeddings)}
    if kind == "siglip":
        settings |= {"padding": "max_length", "padding_side": "right"}
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, return_tensors="pt", **settings)
        wanted = {"input_ids"} if kind == "siglip" else {"input_ids", "attention_mask"}
        rows.append(_features(loaded.get_text_features, **{k: v for k, v in tokens.items() if k in wanted}))
    return np.stack(rows)


def picture_embeddings(folder: Path, loaded: Any) -> np.ndarray:
    """Of each picture, as its file is; a processor that does not make RGB is given what Pillow makes of it."""
    import torch
    from PIL import Image

    processor = image_processor(folder)
    rows = []
    for data in pictures().values():
        picture: Any = Image.open(io.BytesIO(data))
        picture = picture if processor.do_convert_rgb else picture.convert("RGB")
        made = processor(images=picture, return_tensors="np")["pixel_values"]
        rows.append(_features(loaded.get_image_features, pixel_values=torch.from_numpy(np.asarray(made))))
    return np.stack(rows)


def embeddings(folder: Path) -> dict[str, np.ndarray]:
    """Both, of one folder."""
    loaded = model(folder)
    return {"text": text_embeddings(folder, loaded), "image": picture_embeddings(folder, loaded)}
