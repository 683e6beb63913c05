"""What the `config.json` of published checkpoints says, without what changes nothing.

Files of 2021 and 2022 have `text_config_dict` and `vision_config_dict` beside the sections: null, or some of their
values again. OpenAI's say end token 2 where the tokenizer's is 49407.
"""

from __future__ import annotations

import copy
from typing import Any

_TEXT = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "max_position_embeddings": 77, "vocab_size": 49408}


def _section(
    hidden: int, layers: int, heads: int, projection: int, mlp: int | None = None, **extra: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp or 4 * hidden,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "projection_dim": projection,
        **extra,
    }


SWITCHES = {
    "return_dict": False,
    "output_attentions": True,
    "output_hidden_states": True,
    "attn_implementation": "flash_attention_2",
    "_attn_implementation": "flash_attention_2",
    "torch_dtype": "float16",
    "dtype": "bfloat16",
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "auto_map": {"AutoModel": "modeling_other.OtherModel"},
    "transformers_version": "4.16.0.dev0",
    "architectures": ["SomethingElse"],
    "_name_or_path": "/home/somebody/model",
    "id2label": {"0": "cat", "1": "dog", "2": "bird"},
}
"""Keys of published and re-saved files, at the top and in sections: how a model was run, not what it computes."""

_B32_TEXT, _B32_VISION = _section(512, 12, 8, 512), _section(768, 12, 12, 512)
_L14_TEXT, _L14_VISION = _section(768, 12, 12, 768), _section(1024, 24, 16, 768, patch_size=14)
_BIGG_TEXT = _section(1280, 32, 20, 1280, hidden_act="gelu")
_BIGG_VISION = _section(1664, 48, 16, 1280, mlp=8192, patch_size=14, hidden_act="gelu")

_CONFIGS: dict[str, dict[str, Any]] = {
    "clip-vit-base-patch32": {
        "projection_dim": 512,
        "text_config": _TEXT | _B32_TEXT | {"hidden_act": "quick_gelu"},
        "text_config_dict": None,
        "vision_config": _B32_VISION | {"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu"},
        "vision_config_dict": None,
    },
    "clip-vit-base-patch16": {
        "projection_dim": 512,
        "text_config": _TEXT | _B32_TEXT | {"hidden_act": "quick_gelu"},
        "text_config_dict": None,
        "vision_config": _B32_VISION | {"image_size": 224, "patch_size": 16, "hidden_act": "quick_gelu"},
        "vision_config_dict": {"patch_size": 16},
    },
    "clip-vit-large-patch14": {
        "projection_dim": 768,
        "text_config": _TEXT | _L14_TEXT | {"hidden_act": "quick_gelu"},
        "text_config_dict": _L14_TEXT,
        "vision_config": _L14_VISION | {"image_size": 224, "hidden_act": "quick_gelu"},
        "vision_config_dict": _L14_VISION,
    },
    "CLIP-ViT-bigG-14-laion2B-39B-b160k": {
        "projection_dim": 1280,
        "text_config": _TEXT | _BIGG_TEXT,
        "text_config_dict": _BIGG_TEXT,
        "vision_config": _BIGG_VISION | {"image_size": 224},
        "vision_config_dict": _BIGG_VISION,
    },
}
"""By the last part of the checkpoint's name; sections as the files have them, `null` included."""


def published(name: str) -> dict[str, Any]:
    """The `config.json` of a checkpoint, in full size."""
    return copy.deepcopy({"model_type": "clip", **_CONFIGS[name]})


def shrunk(config: dict[str, Any], text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    """A configuration with other values in every section that it has, so that what it says twice agrees as before."""
    values = {"text_config": text, "vision_config": vision}
    values |= {f"{section}_dict": changes for section, changes in values.items()}
    return config | {name: config[name] | values[name] for name in values if config.get(name) is not None}
