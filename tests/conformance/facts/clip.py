"""CLIP: OpenAI's, LAION's, MetaCLIP's, DFN's and what people save of them again."""

from __future__ import annotations

from typing import Any

from tests.conformance.facts.form import (
    CLIP_5,
    CLIP_MAP_2021,
    FIFTH,
    Json,
    Published,
    clip_2021,
    clip_2023,
    clip_map_2023,
    cropping,
    extractor,
    spoken,
    tower,
)

_TEXT, _VISION = {"model_type": "clip_text_model"}, {"model_type": "clip_vision_model"}
_TUNED: Json = {"attention_dropout": 0.0, "initializer_factor": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-05}
_WORDS = {"max_position_embeddings": 77, "vocab_size": 49408}
_OLD_ENDS = {"bos_token_id": 0, "eos_token_id": 2}
_NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

_B_TEXT, _B_VISION = tower(512, 2048, 8, 12), tower(768, 3072, 12, 12)
_L_TEXT, _L_VISION = tower(768, 3072, 12), tower(1024, 4096, 16, 24, patch_size=14)
_H_TEXT, _H_VISION = tower(1024, 4096, 16, 24), tower(1280, 5120, 16, 32, patch_size=14)
_G_TEXT, _G_VISION = tower(1280, 5120, 20, 32), tower(1664, 8192, 16, 48)


def _config(dim: int, text: Json, vision: Json, version: str | None, /, named: str | None = None, **more: Any) -> Json:
    top = {"architectures": ["CLIPModel"], "initializer_factor": 1.0, "logit_scale_init_value": 2.6592}
    made = top | {"model_type": "clip", "projection_dim": dim, "text_config": _TEXT | text}
    made |= {"transformers_version": version, "vision_config": _VISION | vision}
    return ({} if named is None else {"_name_or_path": named}) | made | more


def _old(dim: int, text: Json, vision: Json, inside: str, /, act: str = "quick_gelu", **more: Any) -> Json:
    """Every value and every setting of generation in both sections; the version stands inside, and is null above."""
    said = spoken(inside, later=inside > "4.2") | _TUNED | {"hidden_act": act}
    sections = said | _WORDS | _OLD_ENDS | {"pad_token_id": 1} | text, said | _NO_ENDS | vision
    return _config(dim, *sections, None, torch_dtype="float32") | more


_DROP: Json = {"dropout": 0.0}
_B32_OLD = {"projection_dim": 512, **_DROP}
_2021: Json = {"tokens": "byte_level", "special": CLIP_MAP_2021}
_B16_2021: Json = _2021 | {"tokenizer": clip_2021("openai/clip-vit-base-patch16"), "processor": extractor(224)}
_L14_2021: Json = _2021 | {"tokenizer": clip_2021("openai/clip-vit-base-patch32"), "processor": extractor(224)}
_2023: Json = {"tokens": "byte_level", "special": clip_map_2023(), "processor": cropping(224)}
_2023 |= {"tokenizer": clip_2023(processor_class="CLIPProcessor")}
_5: Json = {"tokens": "byte_level", "tokenizer": CLIP_5, "nested": True}
_JS: Json = {"tokens": "byte_level", "tokenizer": clip_2023(processor_class="CLIPProcessor")}
_JS |= {"processor": cropping(224, "CLIPFeatureExtractor", feature_extractor_type="CLIPFeatureExtractor")}


def _small(version: str, *, text: Json | None = None, vision: Json | None = None, **more: Any) -> Json:
    """What versions 4.26 to 4.49 write of B/32: what differs from the defaults."""
    name = more.pop("named", "openai/clip-vit-base-patch32")
    return (
        _config(512, _DROP | (_OLD_ENDS if text is None else text), _DROP | (vision or {}), version, named=name) | more
    )


def _large(version: str, *, text: Json | None = None, vision: Json | None = None, **more: Any) -> Json:
    """The same of L/14, which does not name its end token."""
    name = more.pop("named", "openai/clip-vit-large-patch14")
    sections = _DROP | _L_TEXT | {"projection_dim": 768}, _DROP | _L_VISION | {"projection_dim": 768}
    return _config(768, sections[0] | (text or {}), sections[1] | (vision or {}), version, named=name) | more


def _explicit(dim: int, text: Json, vision: Json, version: str, /, side: int = 224, **more: Any) -> Json:
    """Since 4.50 everything is said again, but for generation."""
    said = _TUNED | {"hidden_act": "quick_gelu", "projection_dim": dim}
    sections = said | _WORDS | text, said | {"image_size": side, "num_channels": 3} | vision
    return _config(dim, *sections, version, **more)


_F32: Json = {"torch_dtype": "float32"}

CLIP = (
    Published(
        "clip-vit-base-patch32",
        _old(
            512,
            _B_TEXT | _B32_OLD,
            _B_VISION | _B32_OLD | {"image_size": 224, "patch_size": 32},
            "4.16.0.dev0",
            _name_or_path="openai/clip-vit-base-patch32",
            text_config_dict=None,
            vision_config_dict=None,
        ),
        **_B16_2021,
        quick=True,
    ),
    Published(
        "clip-vit-large-patch14",
        _old(
            768,
            tower(768, 3072, 12, 12, projection_dim=768, **_DROP),
            _L_VISION | {"image_size": 224, "projection_dim": 768, **_DROP},
            "4.16.0.dev0",
            _name_or_path="clip-vit-large-patch14/",
            text_config_dict=tower(768, 3072, 12, 12, projection_dim=768),
            vision_config_dict=_L_VISION | {"projection_dim": 768},
        ),
        **_L14_2021,
        quick=True,
    ),
    Published(
        "clip-vit-base-patch16",
        _old(
            512,
            _B_TEXT | _B32_OLD,
            _B_VISION | _B32_OLD | {"image_size": 224, "patch_size": 16},
            "4.12.0.dev0",
            text_config_dict=None,
            vision_config_dict={"patch_size": 16},
        ),
        **_B16_2021,
    ),
    Published(
        "CLIP-ViT-bigG-14-laion2B-39B-b160k",
        _old(
            1280,
            _G_TEXT | {"projection_dim": 1280, **_DROP},
            _G_VISION | {"image_size": 224, "patch_size": 14, "num_channels": 3, "projection_dim": 1280, **_DROP},
            "4.24.0",
            act="gelu",
            _commit_hash=None,
            text_config_dict=_G_TEXT | {"hidden_act": "gelu", "projection_dim": 1280},
            vision_config_dict=_G_VISION | {"hidden_act": "gelu", "patch_size": 14, "projection_dim": 1280},
        ),
        **_L14_2021,
    ),
    Published(
        "CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        _old(
            768,
            tower(768, 3072, 12, 12, projection_dim=512),
            _L_VISION | {"image_size": 224, "num_channels": 3, "projection_dim": 512},
            "4.29.1",
            act="gelu",
            _commit_hash=None,
        ),
        tokens="byte_level",
        tokenizer=clip_2021("openai/clip-vit-large-patch14"),
        special=CLIP_MAP_2021,
        processor=cropping(224),
    ),
    Published(
        "plip",
        _old(
            512,
            _B_TEXT | _DROP,
            _B_VISION | _DROP | {"image_size": 224, "patch_size": 32, "num_channels": 3},
            "4.21.0",
            _commit_hash=None,
            _name_or_path="vinid/plip",
            text_config_dict=None,
            vision_config_dict=None,
        ),
        **_B16_2021,
    ),
    Published("clip-vit-large-patch14, lines end as on Windows", _large("4.44.2", **_F32), **_L14_2021, ends="\r\n"),
    # --- LAION, MetaCLIP, DFN and others
    Published(
        "CLIP-ViT-B-32-laion2B-s34B-b79K, saved by 4.37",
        _small(
            "4.37.2",
            text={"hidden_act": "gelu"},
            vision={"hidden_act": "gelu"},
            named="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            **_F32,
        ),
        tokens="byte_level",
        tokenizer=clip_2023("!"),
        special=clip_map_2023("!"),
        processor=cropping(224),
    ),
    Published(
        "CLIP-ViT-H-14-laion2B-safeclip",
        _config(
            1024,
            _DROP | _H_TEXT | {"hidden_act": "gelu", "projection_dim": 1024},
            _DROP | _H_VISION | {"hidden_act": "gelu", "projection_dim": 1024},
            "4.37.2",
            named="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            **_F32,
        ),
        **_2023,
    ),
    Published(
        "CLIP-ViT-H-14-laion2B-safeclip-sd20",
        _config(
            1024,
            tower(1024, 4096, 16, 23)
            | _OLD_ENDS
            | {"_name_or_path": "aimagelab/safeclip_sd_20", "architectures": ["CLIPTextModelWithProjection"]}
            | {"hidden_act": "gelu", "projection_dim": 1024, **_DROP, **_F32},
            _DROP | _H_VISION | {"hidden_act": "gelu", "projection_dim": 1024},
            "4.37.2",
            named="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            **_F32,
        ),
        tokens="byte_level",
        tokenizer=clip_2021("hf-models/stable-diffusion-v2-768x768/tokenizer"),
        special=CLIP_MAP_2021 | {"pad_token": "!"},  # the other file says the end token
        processor=extractor(224, do_convert_rgb=True),
    ),
    Published(
        "CLIP-ViT-H-14-laion2B, in FP16",
        _config(
            1024, _H_TEXT | {"hidden_act": "gelu"}, _H_VISION | {"hidden_act": "gelu"}, "4.35.2", torch_dtype="float16"
        ),
        **_2023 | {"processor": cropping(224, feature_extractor_type="CLIPFeatureExtractor", use_square_size=False)},
        weights="float16",
    ),
    Published(
        "DFN5B-CLIP-ViT-H-14-378",
        _config(
            1024,
            tower(1024, 4096, 16, 24),
            tower(1280, 5120, 16, 32, image_size=378, patch_size=14),
            "4.44.2",
            **_F32,
        ),
        **_B16_2021 | {"processor": extractor(378)},
    ),
    Published(
        "metaclip-b32-400m",
        _config(512, {"heads": 8, "layers": 12}, {}, "4.34.0", **_F32),
        **_2023,
        indent=None,
        last_end=False,
    ),
    Published(
        "metaclip-b32-fullcc2.5b", _config(512, {"heads": 8, "layers": 12}, {}, "4.34.0", **_F32), **_2023, indent="\t"
    ),
    Published(
        "metaclip-b16-fullcc2.5b",
        _config(512, {"heads": 8, "layers": 12}, {"patch_size": 16}, "4.34.0", **_F32),
        **_2023,
    ),
    Published("metaclip-l14-fullcc2.5b", _config(768, _L_TEXT, _L_VISION, "4.34.0", **_F32), **_2023),
    Published("fashion-clip, its onnx folder", _small("4.37.2", named="patrickjohncyh/fashion-clip"), **_2023),
    Published(
        "fashion-clip, saved by 4.46",
        _small("4.46.3", named="patrickjohncyh/fashion-clip", **_F32),
        **_2023
        | {"processor": cropping(224, feature_extractor_type="CLIPFeatureExtractor", processor_class="CLIPProcessor")},
    ),
    Published(
        "plip-omicsclip",
        _small("4.32.1", named="../../../plip/", **_F32) | {"architectures": ["OmicsCLIP"]},
        **_B16_2021,
    ),
    Published(
        "StreetCLIP",
        _large("4.25.1", vision={"image_size": 336}, **_F32),
        **_L14_2021 | {"processor": extractor(336, do_convert_rgb=True, processor_class="CLIPProcessor")},
    ),
    Published(
        "LongCLIP-GmP-ViT-L-14",
        _large(
            "4.44.2",
            text={"max_position_embeddings": 248},
            named="LongCLIP-GmP-ViT-L-14/",
            logit_scale_init_value=4.6052,
            **_F32,
        ),
        **_L14_2021 | {"tokenizer": clip_2021("zer0int/LongCLIP-GmP-ViT-L-14", length=248)},
    ),
    Published(
        "LongCLIP-GmP-ViT-L-14, as it was uploaded first",
        _large("4.44.2", named="LongCLIP-GmP-ViT-L-14/", logit_scale_init_value=4.6052, **_F32),
        **_L14_2021 | {"tokenizer": clip_2021("zer0int/LongCLIP-GmP-ViT-L-14", length=248)},
        ends="\r\n",
    ),
    # --- what people save again
    Published("clip-vit-base-patch32, for JavaScript", _small("4.41.2"), **_JS),
    Published("clip-vit-base-patch32, for Paddle", _small("4.36.2"), **_2023),
    Published("clip-vit-base-patch32, tuned by somebody", _small("4.38.2", text={}, **_F32), **_2023),
    Published(
        "clip-vit-base-patch16, saved by 4.38",
        _small("4.38.0.dev0", vision={"patch_size": 16}, **_F32),
        **_2023,
        ends="\r\n",
    ),
    Published("clip-vit-large-patch14, for JavaScript", _large("4.34.0"), **_JS),
    Published("clip-vit-large-patch14, saved by 4.47", _large("4.47.0", **_F32), **_2023),
    Published("clip-vit-large-patch14, saved by 4.49", _large("4.49.0", text=_F32, vision=_F32, **_F32), **_2023),
    Published(
        "clip-vit-large-patch14-336, saved by 4.45",
        _large("4.45.0.dev0", vision={"image_size": 336}, named="openai/clip-vit-large-patch14-336", **_F32),
        **_2023
        | {
            "processor": cropping(
                336,
                processor_class="LlavaProcessor",
                _valid_processor_keys=["images", "do_resize", "size", "resample", "crop_size", "return_tensors"],
            )
        },
    ),
    Published(
        "clip-vit-large-patch14-336, for JavaScript",
        _large("4.33.0.dev0", vision={"image_size": 336}, named="openai/clip-vit-large-patch14-336"),
        **_JS | {"processor": cropping(336, "CLIPFeatureExtractor", feature_extractor_type="CLIPFeatureExtractor")},
    ),
    Published(
        "clip-vit-base-patch32, saved by 4.52",
        _explicit(
            512,
            _B_TEXT | _DROP | _OLD_ENDS | _F32,
            _B_VISION | _DROP | {"patch_size": 32} | _F32,
            "4.52.4",
            **_F32,
        ),
        **_2023,
    ),
    Published(
        "clip-vit-base-patch32, saved by 4.57",
        _explicit(
            512,
            _B_TEXT | _DROP | _OLD_ENDS | {"dtype": "float32"},
            _B_VISION | _DROP | {"patch_size": 32, "dtype": "float32"},
            "4.57.0",
            dtype="float32",
        ),
        **_2023,
        quick=True,
    ),
    Published(
        "clip-vit-large-patch14, saved by 4.52",
        _explicit(768, _L_TEXT | _DROP | {"num_hidden_layers": 12} | _F32, _L_VISION | _DROP | _F32, "4.52.3", **_F32),
        **_2023,
    ),
    Published(
        "clip-vit-base-patch32, saved by 5.0",
        _explicit(
            512,
            _B_TEXT | FIFTH | _OLD_ENDS | {"pad_token_id": 1},
            _B_VISION | FIFTH | _NO_ENDS | {"patch_size": 32},
            "5.0.0",
            dtype="float32",
        ),
        **_5,
        processor=cropping(224, "CLIPImageProcessorFast", data_format="channels_first"),
        quick=True,
    ),
    Published(
        "clip-vit-large-patch14, saved by 5.5",
        _explicit(
            768,
            tower(768, 3072, 12, 12) | FIFTH | {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1},
            _L_VISION | FIFTH | _NO_ENDS,
            "5.5.4",
            dtype="float32",
        ),
        **_5 | {"tokenizer": CLIP_5 | {"processor_class": "CLIPProcessor"}},
        processor=cropping(224),
    ),
    Published(
        "clip-vit-base-patch32, new weights by 5.0",
        _explicit(
            512,
            _B_TEXT | {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1},
            _B_VISION | {"patch_size": 32},
            "5.0.0",
            dtype="float32",
        ),
        **_5,
        processor=cropping(224, "CLIPImageProcessorFast", data_format="channels_first"),
    ),
)
