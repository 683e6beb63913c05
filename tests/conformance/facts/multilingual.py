"""MetaCLIP 2, ChineseCLIP and AltCLIP."""

from __future__ import annotations

from typing import Any

from tests.conformance.facts.form import (
    BERT,
    BERT_MAP,
    FACTOR,
    XLM_ROBERTA,
    Json,
    Published,
    chinese,
    cropping,
    extractor,
    spoken,
    tower,
)

_TOP: Json = {"initializer_factor": 1.0, "logit_scale_init_value": 2.6592}
_TUNED: Json = {"initializer_factor": 1.0, "initializer_range": 0.02, "layer_norm_eps": 1e-05}


def _metaclip(named: str, dim: int, text: Json, vision: Json, version: str) -> Json:
    made = _TOP | {"architectures": [named], "dtype": "float32", "model_type": "metaclip_2", "projection_dim": dim}
    sections = _TUNED | {"hidden_act": "quick_gelu"}
    made |= {"text_config": {"model_type": "metaclip_2_text_model"} | sections | text}
    return made | {
        "transformers_version": version,
        "vision_config": {"model_type": "metaclip_2_vision_model"} | sections | vision,
    }


METACLIP_2 = (
    Published(
        "metaclip-2-distil-60",
        _metaclip(
            "MetaCLIP2Model",
            1024,
            tower(1024, 4096, 16, 14, attention_dropout=0.0, eos_token_id=2, max_position_embeddings=77)
            | {"projection_dim": 1024, "vocab_size": 901629},
            tower(1280, 5120, 16, 19, attention_dropout=0.0, image_size=224, num_channels=3, patch_size=14)
            | {"projection_dim": 1024},
            "4.57.0",
        ),
        tokens="xlm_roberta",
        tokenizer=XLM_ROBERTA,
        processor=cropping(224),
    ),
    Published(
        "tiny-random-metaclip_2",
        _metaclip(
            "MetaClip2Model",
            64,
            tower(32, 37, 4, 5, attention_dropout=0.1, dropout=0.1, bos_token_id=0, eos_token_id=2)
            | {"max_position_embeddings": 512, "projection_dim": 32, "vocab_size": 1024},
            tower(32, 37, 4, 5, attention_dropout=0.1, dropout=0.1, bos_token_id=0, eos_token_id=2, pad_token_id=1)
            | {"image_size": 224, "max_position_embeddings": 512, "num_channels": 3, "patch_size": 32}
            | {"projection_dim": 32, "vocab_size": 1024},
            "4.57.2",
        ),
        tokens="xlm_roberta",
        tokenizer=XLM_ROBERTA,
        processor=cropping(224, "CLIPImageProcessorFast"),
    ),
)

_BERT_TEXT: Json = {
    "architectures": ["ChineseCLIPTextModel"],
    "bos_token_id": 0,
    "directionality": "bidi",
    "eos_token_id": 2,
    "model_type": "chinese_clip_text_model",
    "output_past": True,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "vocab_size": 21128,
}
_SEEN: Json = {"dropout": 0.0, "model_type": "chinese_clip_vision_model"}
_L14 = tower(1024, 4096, 16, 24, patch_size=14, projection_dim=768)
_WORD_PIECES: Json = {"tokens": "word_pieces", "tokenizer": BERT, "special": BERT_MAP}


def _chinese(dim: int, text: Json, vision: Json, version: str | None, /, **more: Any) -> Json:
    made = _TOP | {"architectures": ["ChineseCLIPModel"], "initializer_range": 0.02, "model_type": "chinese_clip"}
    made |= {"projection_dim": dim, "text_config": _BERT_TEXT | text, "vision_config": _SEEN | vision}
    return made | {"transformers_version": version} | more


CHINESE_CLIP = (
    Published(
        "chinese-clip-vit-base-patch16, for JavaScript",
        _chinese(512, {}, {"patch_size": 16}, "4.36.0.dev0", _name_or_path="OFA-Sys/chinese-clip-vit-base-patch16"),
        **_WORD_PIECES,
        processor=chinese("ChineseCLIPFeatureExtractor", feature_extractor_type="ChineseCLIPFeatureExtractor"),
        quick=True,
    ),
    Published(
        "chinese-clip-vit-base-patch16, saved by 4.49",
        _chinese(
            512,
            {"_attn_implementation_autoset": True, "torch_dtype": "float32"},
            {"patch_size": 16, "torch_dtype": "float32"},
            "4.49.0",
            torch_dtype="float32",
        ),
        **_WORD_PIECES | {"tokenizer": BERT | {"extra_special_tokens": {}}},
        processor=chinese("ChineseCLIPImageProcessor", processor_class="ChineseCLIPProcessor"),
    ),
    Published(
        "chinese-clip-vit-large-patch14",
        _chinese(
            768,
            tower(768, 3072, 12, 12, attention_probs_dropout_prob=0.1, hidden_act="gelu", hidden_dropout_prob=0.1)
            | {"initializer_range": 0.02, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "pad_token_id": 0},
            _L14,
            None,
        ),
        tokens="word_pieces",
        tokenizer=None,
        processor=extractor(
            224,
            feature_extractor_type="ChineseCLIPFeatureExtractor",
            do_center_crop=False,
            size={"height": 224, "width": 224},
        ),
    ),
    Published(
        "chinese-clip-vit-large-patch14, for JavaScript",
        _chinese(768, {}, _L14, "4.36.0.dev0", _name_or_path="OFA-Sys/chinese-clip-vit-large-patch14"),
        **_WORD_PIECES,
        processor=chinese("ChineseCLIPFeatureExtractor", rescale_factor=FACTOR),
    ),
    Published(
        "chinese-clip-vit-large-patch14, somebody's class of two texts",
        _chinese(768, {}, _L14, "4.42.3", torch_dtype="float32") | {"architectures": ["ChineseCLIPDualTextModel"]},
        **_WORD_PIECES,
        processor=chinese("ChineseCLIPImageProcessor"),
    ),
)

ALTCLIP = (
    Published(
        "AltCLIP",
        _TOP
        | {"_commit_hash": "4d06f38b", "_name_or_path": "BAAI/AltCLIP", "architectures": ["AltCLIPModel"]}
        | {"direct_kd": False, "model_type": "altclip", "num_layers": 3, "projection_dim": 768}
        | {
            "text_config": spoken("4.26.0.dev0", later=True)
            | tower(1024, 4096, 16, 24, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1, hidden_act="gelu")
            | {"bos_token_id": 0, "classifier_dropout": None, "eos_token_id": 2, "initializer_factor": 0.02}
            | {"initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 514, "pad_token_id": 1}
            | {"position_embedding_type": "absolute", "project_dim": 768, "type_vocab_size": 1, "vocab_size": 250002},
            "text_config_dict": None,
            "torch_dtype": "float32",
            "transformers_version": None,
            "vision_config": spoken("4.26.0.dev0", later=True)
            | tower(1024, 4096, 16, 24, image_size=224, patch_size=14, projection_dim=768, hidden_act="quick_gelu"),
            "vision_config_dict": None,
        },
        tokens="xlm_roberta",
        tokenizer=XLM_ROBERTA | {"name_or_path": "BAAI/AltCLIP", "processor_class": "AltCLIPProcessor"},
        processor=cropping(224, feature_extractor_type="CLIPFeatureExtractor"),
    ),
)
