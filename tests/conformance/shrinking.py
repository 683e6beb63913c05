"""A published folder made small: the form of its files stays, its numbers become those of a tiny model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.conformance import vocabularies
from tests.conformance.facts.form import Json, Published
from tests.conformance.folders import random_model, save_tensors, tensors
from tests.conformance.vocabularies import write_json

_TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
_PATCHES = {14: 2, 16: 2, 32: 4}
"""Patches of few pixels; pictures shrink with them, so that there are as many as in the model."""
_VOCABULARIES = {"sentence_pieces": 200, "gemma": 400, "word_pieces": 250, "xlm_roberta": 250, "byte_level": 522}
_DIMS = ("projection_dim", "project_dim", "projection_size")
_SECTIONS = ("text_config", "vision_config", "text_config_dict", "vision_config_dict")


_NUMBERS = {49406: 520, 49407: 521}


def _dim(width: int) -> int:
    """What is unequal stays unequal."""
    return 16 if width == 512 else 24


def _leaves_its_end_token_out(published: Published) -> bool:
    """The defaults, 49407 of 49408 tokens, hold for such a file: its vocabulary cannot be made small."""
    sections = [published.config.get(name) for name in ("text_config_dict", "text_config")]
    return "eos_token_id" not in next(section for section in sections if section is not None)


def _ends(published: Published) -> tuple[int, int]:
    """The numbers of a byte-level vocabulary's start and end."""
    return (49406, 49407) if _leaves_its_end_token_out(published) else (520, 521)


def pixels(published: Published, side: int) -> int:
    """A side of a picture in the small model."""
    vision = published.config["vision_config"]
    if "patch_size" not in vision or "image_size" not in vision:
        return side  # a default that the file does not name stays what it is
    return round(side * _PATCHES[vision["patch_size"]] / vision["patch_size"])


def small_config(published: Published) -> Json:
    """The configuration with small sizes in every section that it has; no key goes, and the sizes are in all."""
    config = copy.deepcopy(published.config)
    config |= {key: _dim(config[key]) for key in _DIMS if key in config}
    for name in _SECTIONS:
        section = config.get(name)
        if section is not None:
            config[name] = _small_section(published, section, name.startswith("vision"))
    return config


def _small_section(published: Published, section: Json, vision: bool) -> Json:
    section |= {key: _dim(section[key]) for key in _DIMS if key in section} | _TOWER
    if published.config["model_type"] == "siglip" and "projection_size" in section:
        section["projection_size"] = _TOWER["hidden_size"]
    if not vision and published.tokens == "byte_level":
        if not _leaves_its_end_token_out(published):
            section["vocab_size"] = _VOCABULARIES["byte_level"]
            section |= {key: _NUMBERS.get(section[key], section[key]) for key in ("bos_token_id", "eos_token_id")}
    elif not vision and "vocab_size" in section:
        section["vocab_size"] = _VOCABULARIES[published.tokens]
    if vision and "image_size" in section:
        section["image_size"] = pixels(published, section["image_size"])
    whole = published.config["vision_config"]
    if vision and "patch_size" in section and "image_size" in whole:
        section["patch_size"] = _PATCHES[section["patch_size"]]
        section["image_size"] = pixels(published, whole["image_size"])
    return section


def small_processor(published: Published) -> Json:
    """Its sizes with the model's."""

    def shrink(size: Any) -> Any:
        if isinstance(size, dict):
            return {key: pixels(published, value) for key, value in size.items()}
        return pixels(published, size)

    return published.processor | {
        key: shrink(published.processor[key]) for key in ("size", "crop_size") if key in published.processor
    }


def folder_of(published: Published, folder: Path) -> Path:
    """The folder with random weights and a tokenizer of the kind."""
    from transformers import AutoConfig

    folder.mkdir(parents=True)
    _write(published, folder / "config.json", small_config(published))
    random_model(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    _write(published, folder / "config.json", small_config(published))
    _store_as_then(published, folder)
    _tokenizer(published, folder)
    processor = small_processor(published)
    if published.nested:
        _write(
            published,
            folder / "processor_config.json",
            {"image_processor": processor, "processor_class": "CLIPProcessor"},
        )
    else:
        _write(published, folder / "preprocessor_config.json", processor)
    return folder


def _write(published: Published, path: Path, content: Json) -> None:
    text = json.dumps(content, indent=published.indent) + ("\n" if published.last_end else "")
    path.write_bytes(text.replace("\n", published.ends).encode())


def _store_as_then(published: Published, folder: Path) -> None:
    """The type of the weights, and the buffers that checkpoints brought before version 4.31."""
    import torch

    version = published.config.get("transformers_version")
    older = version is None or tuple(int(part) for part in version.split(".")[:2]) < (4, 31)
    if not older and published.weights == "float32":
        return
    state = {name: values.to(getattr(torch, published.weights)) for name, values in tensors(folder).items()}
    if older:
        tables = [name for name in state if "position_embedding" in name]
        for name in tables:
            buffer = name.partition("embeddings.")[0] + "embeddings.position_ids"
            state[buffer] = torch.arange(len(state[name]))[None]
    save_tensors(folder, state)


def _tokenizer(published: Published, folder: Path) -> None:
    if published.tokens == "byte_level":
        vocabularies.byte_level(folder, *_ends(published))
    else:
        writers = {
            "sentence_pieces": vocabularies.siglip_pieces,
            "gemma": vocabularies.gemma,
            "word_pieces": vocabularies.word_pieces,
            "xlm_roberta": vocabularies.xlm_roberta_pieces,
        }
        writers[published.tokens](folder)
    if published.tokenizer is not None:
        settings = copy.deepcopy(published.tokenizer)
        if published.tokens == "byte_level" and "added_tokens_decoder" in settings:
            numbers = dict(zip(("49406", "49407"), map(str, _ends(published)), strict=True))
            added = settings["added_tokens_decoder"]
            settings["added_tokens_decoder"] = {numbers.get(key, key): token for key, token in added.items()}
        _write(published, folder / "tokenizer_config.json", settings)
    if published.special is not None:
        write_json(folder / "special_tokens_map.json", published.special)
