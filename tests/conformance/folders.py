"""Small checkpoints of every family as folders: configuration, random weights, tokenizer and image processor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance import vocabularies
from tests.conformance.vocabularies import END, START, write_json

OPENAI = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
VISION = TOWER | {"image_size": 32, "patch_size": 8}

CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {
        "model_type": "clip",
        "projection_dim": 24,
        "text_config": TOWER | {"vocab_size": 522, "bos_token_id": 520, "eos_token_id": 521, "pad_token_id": 521},
        "vision_config": VISION,
    },
    "siglip": {"model_type": "siglip", "text_config": TOWER | {"vocab_size": 200}, "vision_config": VISION},
    "siglip2": {"model_type": "siglip", "text_config": TOWER | {"vocab_size": 360}, "vision_config": VISION},
    "chinese_clip": {
        "model_type": "chinese_clip",
        "projection_dim": 24,
        "text_config": TOWER | {"vocab_size": 220, "max_position_embeddings": 512, "pad_token_id": 0},
        "vision_config": VISION,
    },
    "altclip": {
        "model_type": "altclip",
        "projection_dim": 24,
        "text_config": TOWER
        | {"vocab_size": 200, "max_position_embeddings": 514, "pad_token_id": 1, "project_dim": 24, "eos_token_id": 2},
        "vision_config": VISION,
    },
    "metaclip_2": {
        "model_type": "metaclip_2",
        "projection_dim": 24,
        "text_config": TOWER | {"vocab_size": 200, "eos_token_id": 2},
        "vision_config": VISION,
    },
}

_SQUARE = {"height": 32, "width": 32}
_ALWAYS = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "resample": 3}
CROPPING = _ALWAYS | {
    "do_center_crop": True,
    "size": {"shortest_edge": 32},
    "crop_size": _SQUARE,
    "do_convert_rgb": True,
}
SQUASHING = _ALWAYS | {"size": _SQUARE}
PROCESSORS: dict[str, dict[str, Any]] = {
    "clip": CROPPING | OPENAI | {"image_processor_type": "CLIPImageProcessor"},
    "siglip": SQUASHING | HALF | {"image_processor_type": "SiglipImageProcessor"},
    "siglip2": SQUASHING
    | HALF
    | {"image_processor_type": "SiglipImageProcessor", "resample": 2, "do_convert_rgb": None},
    "chinese_clip": SQUASHING
    | OPENAI
    | {"image_processor_type": "ChineseCLIPImageProcessor", "do_center_crop": False, "do_convert_rgb": True},
    "altclip": CROPPING | OPENAI | {"image_processor_type": "CLIPImageProcessor"},
    "metaclip_2": CROPPING | OPENAI | {"image_processor_type": "CLIPImageProcessor"},
}

_CLIP_TOKENS = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
_XLM_TOKENS = {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>"}
TOKENIZERS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "clip": (
        lambda folder: vocabularies.byte_level(folder, 520, 521),
        _CLIP_TOKENS | {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77},
    ),
    "siglip": (
        vocabularies.siglip_pieces,
        {
            "tokenizer_class": "SiglipTokenizer",
            "model_max_length": 64,
            "eos_token": "</s>",
            "pad_token": "</s>",
            "unk_token": "<unk>",
            "do_lower_case": True,
            "model_input_names": ["input_ids"],
        },
    ),
    "siglip2": (
        vocabularies.gemma,
        {
            "tokenizer_class": "GemmaTokenizer",
            "add_bos_token": False,
            "add_eos_token": True,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
        },
    ),
    "chinese_clip": (
        vocabularies.word_pieces,
        {"tokenizer_class": "BertTokenizer", "model_max_length": 10**30, "pad_token": "[PAD]", "do_lower_case": True},
    ),
    "altclip": (vocabularies.xlm_roberta_pieces, _XLM_TOKENS | {"model_max_length": 512}),
    "metaclip_2": (vocabularies.xlm_roberta_pieces, _XLM_TOKENS | {"model_max_length": 77}),
}
NAMES = list(CONFIGS)


_SPREAD = {"embedding": 1.0, "fc2.weight": 0.8, ".output.dense.weight": 0.8}
_BEFORE_ACTIVATION = ("fc1.bias", "intermediate.dense.bias")
"""Activations of one kind differ most at -2, and a feed-forward that counts for much shows it in the embeddings."""


def random_model(config: Any, seed: int = 0) -> Any:
    """transformers' model with weights that let inputs through; a wrong bias, norm or activation shows."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = AutoModel.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                wanted = next((std for part, std in _SPREAD.items() if part in name), 0.15)
                parameter.mul_(wanted / max(float(parameter.std()), 1e-6))
            if name.endswith(_BEFORE_ACTIVATION):
                parameter.sub_(2)
    return model.eval()


def checkpoint(name: str, folder: Path) -> Path:
    """A folder of one of `NAMES`, sound in every way."""
    from transformers import AutoConfig

    config = CONFIGS[name]
    folder.mkdir(parents=True)
    random_model(AutoConfig.for_model(**json.loads(json.dumps(config)))).save_pretrained(folder)
    write_json(folder / "config.json", config | {"transformers_version": "4.49.0"})
    write_json(folder / "preprocessor_config.json", PROCESSORS[name])
    write, settings = TOKENIZERS[name]
    write(folder)
    write_json(folder / "tokenizer_config.json", settings)
    return folder


# --- changing a folder --------------------------------------------------------------------------------------


def edit(folder: Path, file: str, **changes: Any) -> None:
    """Set keys of a JSON file; `...` takes one away."""
    content = json.loads((folder / file).read_text(encoding="utf-8")) | changes
    write_json(folder / file, {key: value for key, value in content.items() if value is not ...})


def edit_section(folder: Path, section: str, **changes: Any) -> None:
    """The same in a section of `config.json`."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    changed = content[section] | changes
    content[section] = {key: value for key, value in changed.items() if value is not ...}
    write_json(folder / "config.json", content)


def tensors(folder: Path) -> dict[str, Any]:
    """What `model.safetensors` holds."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save_tensors(folder: Path, state: dict[str, Any], name: str = "model.safetensors") -> None:
    """Write a state dict, with the metadata that transformers asks for."""
    from safetensors.torch import save_file

    (folder / name).unlink(missing_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / name, metadata={"format": "pt"})
