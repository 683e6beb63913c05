"""SigLIP, and SigLIP 2 at fixed sizes, whose model is the same."""

from __future__ import annotations

from typing import Any

from tests.conformance.facts.form import GEMMA, SIGLIP, SIGLIP_MAP, Json, Published, squashing, tower

_TEXT, _VISION = {"model_type": "siglip_text_model"}, {"model_type": "siglip_vision_model"}
_BASE, _LARGE, _SO = tower(768, 3072, 12), tower(1024, 4096, 16, 24), tower(1152, 4304, 16, 27)
_F32: Json = {"torch_dtype": "float32"}
_EXPLICIT: Json = {"attention_dropout": 0.0, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-06}


def _config(text: Json, vision: Json, version: str = "4.37.0.dev0", /, **more: Any) -> Json:
    made = {"architectures": ["SiglipModel"], "initializer_factor": 1.0, "model_type": "siglip"}
    return (
        made | {"text_config": _TEXT | text, "transformers_version": version, "vision_config": _VISION | vision} | more
    )


def _second(vision: Json, text: Json | None = None) -> Json:
    """SigLIP 2: no class named, and a vocabulary of 256,000."""
    made = _config({"vocab_size": 256000} | (text or {}), vision, "4.49.0.dev0")
    return {key: value for key, value in made.items() if key != "architectures"}


def _first(side: int, **more: Any) -> Json:
    return {
        "tokens": "sentence_pieces",
        "tokenizer": SIGLIP,
        "special": SIGLIP_MAP,
        "processor": squashing(side, **more),
    }


_GEMMA: Json = {"tokens": "gemma", "tokenizer": GEMMA}
_NEW: Json = {"resample": 2, "do_convert_rgb": None}

SIGLIP_1_AND_2 = (
    Published(
        "siglip-so400m-patch14-384",
        _config(_SO, _SO | {"image_size": 384, "patch_size": 14}, **_F32),
        **_first(384),
    ),
    Published(
        "siglip-base-patch16-224", _config(_BASE | {"vocab_size": 32000}, {"patch_size": 16}, **_F32), **_first(224)
    ),
    Published(
        "siglip-base-patch16-224, for JavaScript",
        _config(_BASE | {"vocab_size": 32000}, {"patch_size": 16}, _name_or_path="nielsr/siglip-base-patch16-224"),
        **_first(224),
    ),
    Published(
        "siglip-base-patch16-224, saved by 4.42",
        _config({}, {}, "4.42.4", _name_or_path="google/siglip-base-patch16-224", **_F32),
        **_first(224),
    ),
    Published(
        "siglip-base-patch16-256",
        _config({}, {"image_size": 256}, _name_or_path="google/siglip-base-patch16-256"),
        **_first(256),
    ),
    Published(
        "siglip-base-patch16-256-multilingual",
        _config({"vocab_size": 250000}, {"image_size": 256}, **_F32),
        **_first(256),
    ),
    Published("siglip-base-patch16-512", _config({}, {"image_size": 512}, **_F32), **_first(512)),
    Published("siglip-large-patch16-256", _config(_LARGE, _LARGE | {"image_size": 256}), **_first(256)),
    Published("siglip-large-patch16-384", _config(_LARGE, _LARGE | {"image_size": 384}), **_first(384)),
    Published(
        "medsiglip-448",
        _config(
            _SO | _EXPLICIT | {"max_position_embeddings": 64, "projection_size": 1152, "vocab_size": 32000},
            _SO | _EXPLICIT | {"image_size": 448, "num_channels": 3, "patch_size": 14},
            "4.52.4",
            **_F32,
        ),
        **_first(448, rescale_factor=0.00392156862) | {"tokenizer": SIGLIP | {"extra_special_tokens": {}}},
    ),
    Published("siglip2-base-patch16-224", _second({}), **_GEMMA, processor=squashing(224, **_NEW), quick=True),
    Published("siglip2-base-patch16-512", _second({"image_size": 512}), **_GEMMA, processor=squashing(512, **_NEW)),
    Published(
        "siglip2-so400m-patch14-384",
        _second(
            _SO | _EXPLICIT | {"image_size": 384, "num_channels": 3, "patch_size": 14}, _SO | {"projection_size": 1152}
        ),
        **_GEMMA,
        processor=squashing(384, **_NEW),
    ),
)
