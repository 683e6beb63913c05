"""Published folders by name, and what is done with each: accepted, or refused by which reason.

A folder that is in the facts of a family stands here under that name alone. Of others, this has the keys that decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from artifacts.errors import CheckpointError, MissingEncoder, NotClip, UnsupportedVariant
from tests.conformance.facts.form import Json, extractor, squashing, tower

WHOLE = {
    "AltCLIP": "AltCLIP",
    "CLIP-ViT-B-32-laion2B-s34B-b79K-resaved-4.37": "CLIP-ViT-B-32-laion2B-s34B-b79K, saved by 4.37",
    "CLIP-ViT-H-14-laion2B-safeclip": "CLIP-ViT-H-14-laion2B-safeclip",
    "CLIP-ViT-H-14-laion2B-safeclip-sd20": "CLIP-ViT-H-14-laion2B-safeclip-sd20",
    "CLIP-ViT-L-14-DataComp.XL-s13B-b90K": "CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
    "CLIP-ViT-bigG-14-laion2B-39B-b160k": "CLIP-ViT-bigG-14-laion2B-39B-b160k",
    "LongCLIP-GmP-ViT-L-14": "LongCLIP-GmP-ViT-L-14",
    "StreetCLIP": "StreetCLIP",
    "chinese-clip-vit-base-patch16-image-dual": "chinese-clip-vit-large-patch14, somebody's class of two texts",
    "chinese-clip-vit-base-patch16-resaved-4.49": "chinese-clip-vit-base-patch16, saved by 4.49",
    "chinese-clip-vit-base-patch16-transformers.js": "chinese-clip-vit-base-patch16, for JavaScript",
    "chinese-clip-vit-large-patch14": "chinese-clip-vit-large-patch14",
    "chinese-clip-vit-large-patch14-dual-text": "chinese-clip-vit-large-patch14, somebody's class of two texts",
    "chinese-clip-vit-large-patch14-transformers.js": "chinese-clip-vit-large-patch14, for JavaScript",
    "clip-vit-base-patch16": "clip-vit-base-patch16",
    "clip-vit-base-patch16-resaved-4.38": "clip-vit-base-patch16, saved by 4.38",
    "clip-vit-base-patch32": "clip-vit-base-patch32",
    "clip-vit-base-patch32-finetuned-local": "clip-vit-base-patch32, tuned by somebody",
    "clip-vit-base-patch32-paddle": "clip-vit-base-patch32, for Paddle",
    "clip-vit-base-patch32-random-init-5.0": "clip-vit-base-patch32, new weights by 5.0",
    "clip-vit-base-patch32-resaved-4.52": "clip-vit-base-patch32, saved by 4.52",
    "clip-vit-base-patch32-resaved-4.57": "clip-vit-base-patch32, saved by 4.57",
    "clip-vit-base-patch32-resaved-5.0": "clip-vit-base-patch32, saved by 5.0",
    "clip-vit-base-patch32-transformers.js": "clip-vit-base-patch32, for JavaScript",
    "clip-vit-large-patch14": "clip-vit-large-patch14",
    "clip-vit-large-patch14-336-resaved-4.45": "clip-vit-large-patch14-336, saved by 4.45",
    "clip-vit-large-patch14-336-transformers.js": "clip-vit-large-patch14-336, for JavaScript",
    "clip-vit-large-patch14-crlf-copy": "clip-vit-large-patch14, lines end as on Windows",
    "clip-vit-large-patch14-resaved-4.47": "clip-vit-large-patch14, saved by 4.47",
    "clip-vit-large-patch14-resaved-4.49": "clip-vit-large-patch14, saved by 4.49",
    "clip-vit-large-patch14-resaved-4.52": "clip-vit-large-patch14, saved by 4.52",
    "clip-vit-large-patch14-resaved-5.5": "clip-vit-large-patch14, saved by 5.5",
    "clip-vit-large-patch14-transformers.js": "clip-vit-large-patch14, for JavaScript",
    "fashion-clip-onnx": "fashion-clip, its onnx folder",
    "fashion-clip-resaved-4.46": "fashion-clip, saved by 4.46",
    "llava-llama-3-8b-hunyuanvideo": "clip-vit-large-patch14-336, saved by 4.45",
    "medsiglip-448": "medsiglip-448",
    "metaclip-2-distil-60": "metaclip-2-distil-60",
    "metaclip-b16-fullcc2.5b": "metaclip-b16-fullcc2.5b",
    "metaclip-b32-400m": "metaclip-b32-400m",
    "metaclip-b32-fullcc2.5b": "metaclip-b32-fullcc2.5b",
    "metaclip-l14-fullcc2.5b": "metaclip-l14-fullcc2.5b",
    "plip": "plip",
    "plip-omicsclip": "plip-omicsclip",
    "siglip-base-patch16-224": "siglip-base-patch16-224",
    "siglip-base-patch16-224-resaved-4.42": "siglip-base-patch16-224, saved by 4.42",
    "siglip-base-patch16-224-transformers.js": "siglip-base-patch16-224, for JavaScript",
    "siglip-base-patch16-256": "siglip-base-patch16-256",
    "siglip-base-patch16-256-multilingual": "siglip-base-patch16-256-multilingual",
    "siglip-base-patch16-384": "siglip-large-patch16-384",
    "siglip-base-patch16-512": "siglip-base-patch16-512",
    "siglip-base-patch16-512-transformers.js": "siglip-base-patch16-512",
    "siglip-large-patch16-256": "siglip-large-patch16-256",
    "siglip-large-patch16-384": "siglip-large-patch16-384",
    "siglip-so400m-patch14-384": "siglip-so400m-patch14-384",
    "siglip2-base-patch16-224": "siglip2-base-patch16-224",
    "siglip2-base-patch16-512": "siglip2-base-patch16-512",
    "siglip2-so400m-patch14-384": "siglip2-so400m-patch14-384",
    "stable-video-diffusion": "fashion-clip, saved by 4.46",
    "tiny-random-metaclip_2": "tiny-random-metaclip_2",
}
"""Folders of both encoders, or of the processor of such a model, by their names in the facts of families."""


@dataclass(frozen=True)
class Row:
    """A folder: its JSON files, and the family that takes it or the error and the words that refuse it."""

    name: str
    files: dict[str, Json] = field(default_factory=dict)
    family: str = ""
    error: type[CheckpointError] = CheckpointError
    words: str = ""


# --- one encoder --------------------------------------------------------------------------------------------

_TEXT, _VISION, _SIGLIP_VISION = "clip_text_model", "clip_vision_model", "siglip_vision_model"


def _tower(name: str, kind: str, architecture: str | None, /, dim: int = 768, **more: Any) -> Row:
    """A model of one encoder, at the top of its folder."""
    named = {} if architecture is None else {"architectures": [architecture]}
    if kind == _TEXT:
        sizes = tower(768, 3072, 12, 12, max_position_embeddings=77, vocab_size=49408, eos_token_id=2)
    else:
        sizes = tower(1024, 4096, 16, 24, image_size=224, patch_size=14)
    config = {"model_type": kind, "projection_dim": dim, **named, **sizes, **more}
    missing = "image" if kind == _TEXT else "text"
    return Row(name, {"config.json": config}, error=MissingEncoder, words=f"no {missing} encoder")


_PLAIN, _PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
_SEEN, _SEEN_PROJECTED = "CLIPVisionModel", "CLIPVisionModelWithProjection"
TOWERS = (
    _tower("CLIP-ViT-H-14-laion2B-text-only", _TEXT, _PLAIN, dim=1024),
    _tower("CLIP-ViT-H-14-laion2B-vision-only-fp16", _VISION, _SEEN, dim=1024, torch_dtype="float16"),
    _tower("CLIP-ViT-bigG-14-laion2B-text-only-bf16", _TEXT, _PROJECTED, dim=1280, eos_token_id=49407),
    _tower("DFN5B-CLIP-ViT-H-14-378-vision-auroracap", _VISION, "PikaVidEncoder", dim=512, hidden_size=1280),
    _tower("StreetCLIP-text-only", _TEXT, _PLAIN),
    _tower("clip-vit-base-patch32-vision-with-projection", _VISION, _SEEN_PROJECTED, dim=512),
    _tower("clip-vit-large-patch14-336-kolors", _VISION, None, image_size=336),
    _tower("clip-vit-large-patch14-336-vision-only", _VISION, _SEEN, image_size=336),
    _tower("clip-vit-large-patch14-image-encoder-kandinsky3", _VISION, _SEEN_PROJECTED),
    _tower("clip-vit-large-patch14-text-only", _TEXT, _PLAIN),
    _tower("clip-vit-large-patch14-text-only-4.51", _TEXT, _PLAIN),
    _tower("comfyui-clip-configs: bigG's text", _TEXT, _PLAIN, dim=1280, hidden_act="gelu"),
    _tower("comfyui-clip-configs: pictures", _VISION, None, dim=1024),
    _tower("ip-adapter-image_encoder-ViT-H-14", _VISION, _SEEN_PROJECTED, dim=1024),
    _tower("llava-style-vision-tower-336", _VISION, None, image_size=336),
    _tower("qdrant-clip-ViT-B-32-text", _TEXT, None, dim=512),
    _tower("qdrant-clip-ViT-B-32-vision", _VISION, None, dim=512),
    _tower("siglip-so400m-patch14-384-vision-only", _SIGLIP_VISION, "SiglipVisionModel", image_size=384),
)


# --- pipelines: every encoder in a folder of its own --------------------------------------------------------


def _pipeline(name: str, index: str | None, **parts: tuple[str, str]) -> Row:
    """As diffusers keeps them; `index` is the class that `model_index.json` names, if there is one."""
    files: dict[str, Json] = {
        f"{part}/config.json": {"model_type": kind, "architectures": [architecture]}
        for part, (kind, architecture) in parts.items()
    }
    if index is not None:
        files["model_index.json"] = {"_class_name": index, "_diffusers_version": "0.27.0"}
    return Row(name, files, error=NotClip, words="|".join(("diffusers", *parts)))


_SAFETY = ("clip", "StableDiffusionSafetyChecker")
PIPELINES = (
    _pipeline("FLUX.1-dev", "FluxPipeline", text_encoder=(_TEXT, _PLAIN)),
    _pipeline("LGM-imagedream-ViT-H-14", None, image_encoder=(_VISION, _SEEN), text_encoder=(_TEXT, _PLAIN)),
    _pipeline(
        "playground-v2.5-1024px-aesthetic", None, text_encoder=(_TEXT, _PLAIN), text_encoder_2=(_TEXT, _PROJECTED)
    ),
    _pipeline("sd-image-variations", None, image_encoder=(_VISION, _SEEN_PROJECTED), safety_checker=_SAFETY),
    _pipeline("stable-cascade-prior", None, image_encoder=(_VISION, _SEEN_PROJECTED), text_encoder=(_TEXT, _PROJECTED)),
    _pipeline("stable-diffusion-2-1", "StableDiffusionPipeline", text_encoder=(_TEXT, _PLAIN)),
    _pipeline("stable-diffusion-3-medium", None, text_encoder=(_TEXT, _PROJECTED), text_encoder_2=(_TEXT, _PROJECTED)),
    _pipeline("stable-diffusion-3.5-large", None, text_encoder=(_TEXT, _PROJECTED), text_encoder_2=(_TEXT, _PROJECTED)),
    _pipeline("stable-diffusion-v1-5", "StableDiffusionPipeline", text_encoder=(_TEXT, _PLAIN), safety_checker=_SAFETY),
    _pipeline("stable-diffusion-xl-base-1.0", None, text_encoder=(_TEXT, _PLAIN), text_encoder_2=(_TEXT, _PROJECTED)),
    Row(
        "sentence-transformers-clip-ViT-B-32",
        {
            "modules.json": {},
            "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.0.0"}},
            "0_CLIPModel/config.json": {"model_type": "clip", "text_config": {}, "vision_config": {}},
        },
        error=NotClip,
        words="0_CLIPModel",
    ),
)


# --- models of others ---------------------------------------------------------------------------------------

_B32 = {"text_config": {"model_type": _TEXT, "eos_token_id": 2}, "vision_config": {"model_type": _VISION}}
_MARQO = {
    "AutoConfig": "marqo_fashionSigLIP.MarqoFashionSigLIPConfig",
    "AutoModel": "marqo_fashionSigLIP.MarqoFashionSigLIP",
}
_EVA = {"AutoConfig": "configuration_evaclip.EvaCLIPConfig", "AutoModel": "modeling_evaclip.EvaCLIPModel"}
_JINA = {"AutoModel": "jinaai/jina-clip-implementation--modeling_clip.JinaCLIPModel"}


def _other(name: str, config: Json, error: type[CheckpointError], words: str) -> Row:
    return Row(name, {"config.json": config}, error=error, words=words)


def _marqo(name: str, **more: str) -> Row:
    config = {"auto_map": _MARQO, "open_clip_model_name": f"hf-hub:Marqo/{name}", "model_type": "siglip", **more}
    return _other(name, config, CheckpointError, "auto_map|own code|MarqoFashionSigLIP|open_clip")


_IMAGE_CLASSES = {"architectures": ["CLIPForImageClassification"], "projection_dim": 512, "model_type": "clip"}
OTHERS = (
    _marqo("marqo-fashionSigLIP"),
    _marqo("marqo-ecommerce-embeddings-B"),
    _marqo("marqo-ecommerce-embeddings-L", type="siglip"),
    _other("jina-clip-v1", {"model_type": "jina_clip", "auto_map": _JINA, **_B32}, NotClip, "jina_clip"),
    _other("jina-clip-v2", {"model_type": "jina_clip", "auto_map": _JINA, **_B32}, NotClip, "jina_clip"),
    _other("align-base", {"model_type": "align", "architectures": ["AlignModel"], **_B32}, NotClip, "align"),
    _other(
        "EVA-CLIP-18B",
        {"model_type": "clip", "architectures": ["EvaCLIPModel"], "auto_map": _EVA, "projection_dim": 1536}
        | {
            "text_config": tower(1280, 5120, 20, 32, k_bias=True),
            "vision_config": tower(5120, 25600, 40, 48, k_bias=False),
        },
        CheckpointError,
        "EvaCLIPModel|k_bias|own code",
    ),
    _other(
        "LLM2CLIP-EVA02-L-14-336",
        {"model_type": "clip", "architectures": ["EvaCLIPModel"], "auto_map": _EVA, "vision_config": {}},
        MissingEncoder,
        "no text encoder",
    ),
    _other(
        "stable-diffusion-v1-5: safety_checker",
        {"model_type": "clip", "architectures": ["StableDiffusionSafetyChecker"], "projection_dim": 768, **_B32},
        CheckpointError,
        "StableDiffusionSafetyChecker",
    ),
    _other(
        "clip-vit-base-patch32-image-classification",
        _IMAGE_CLASSES | _B32,
        CheckpointError,
        "CLIPForImageClassification",
    ),
    _other(
        "clip-vit-large-patch14-336-image-classification",
        _IMAGE_CLASSES | _B32 | {"id2label": {"0": "a", "1": "b"}, "problem_type": "single_label_classification"},
        CheckpointError,
        "CLIPForImageClassification",
    ),
    Row(
        "siglip2-base-patch16-naflex",
        {
            "config.json": {
                "model_type": "siglip2",
                "text_config": {"model_type": "siglip2_text_model", "vocab_size": 256000},
                "vision_config": {"model_type": "siglip2_vision_model"},
            }
        },
        family="siglip2",
    ),
    _other(
        "mobileclip_s1_timm",
        {"architecture": "fastvit_mci1", "num_classes": 512, "pretrained_cfg": {"input_size": [3, 256, 256]}},
        CheckpointError,
        "timm|fastvit_mci1",
    ),
    _other(
        "mobileclip_b_timm",
        {"architecture": "vit_base_mci_224", "num_classes": 512, "pretrained_cfg": {"input_size": [3, 224, 224]}},
        CheckpointError,
        "timm|vit_base_mci_224",
    ),
)


# --- OpenCLIP's layout --------------------------------------------------------------------------------------


def _vit(width: int, layers: int, patch: int, side: int = 224, **more: Any) -> Json:
    return {"image_size": side, "layers": layers, "width": width, "patch_size": patch, **more}


def _words(width: int, heads: int, layers: int, **more: Any) -> Json:
    return {"context_length": 77, "vocab_size": 49408, "width": width, "heads": heads, "layers": layers, **more}


def _timm(name: str, side: int, **more: Any) -> Json:
    return {"timm_model_name": name, "timm_model_pretrained": False, "image_size": side, **more}


_OPENAI: Json = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_HALF: Json = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
_INCEPTION: Json = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "interpolation": "bilinear"}
_SQUASH = _OPENAI | {"interpolation": "bicubic", "resize_mode": "squash"}
_OWN = "open_clip_config.json"


def _openclip(name: str, dim: int, vision: Json, text: Json, prepared: Json = _OPENAI, /, **more: Any) -> Row:
    """Accepted, unless `words` say why not; `file` and `flat` are for odd forms."""
    refusal = {"error": more.pop("error", UnsupportedVariant), "words": more.pop("words", "")}
    file, flat, top = more.pop("file", _OWN), more.pop("flat", False), more.pop("top", {})
    model = {"embed_dim": dim, **more, "vision_cfg": vision, "text_cfg": text}
    document = model if flat else top | {"model_cfg": model, "preprocess_cfg": prepared}
    return Row(name, {file: document}, family="" if refusal["words"] else "openclip", **refusal)


_H_378, _H_TEXT = _vit(1280, 32, 14, 378, head_width=80), _words(1024, 16, 24)
_L, _L_TEXT, _B_TEXT = _vit(1024, 24, 14), _words(768, 12, 12), _words(512, 8, 12)
_BERT = {"hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}
_RECAP = {"context_length": 80, "vocab_size": 32000, "pool_type": "last", "no_causal_mask": True} | _BERT
_BIOMED = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
_BIOMED_TEXT = {"hf_model_name": _BIOMED, "hf_tokenizer_name": _BIOMED, "context_length": 256}
_FAST = {"timm_pool": "avg", "timm_proj": None, "timm_drop": 0.0, "timm_drop_path": 0.0}
OPENCLIP = (
    _openclip("CLIP-ViT-L-14-laion2B-s32B-b82K", 768, _L, _L_TEXT, _HALF),
    _openclip(
        "CLIP-ViT-bigG-14-laion2B-39B-b160k: OpenCLIP",
        1280,
        _vit(1664, 48, 14, head_width=104, mlp_ratio=4.9231),
        _words(1280, 20, 32),
    ),
    _openclip(
        "CLIP-ViT-g-14-laion2B-s12B-b42K",
        1024,
        _vit(1408, 40, 14, head_width=88, mlp_ratio=4.3637),
        _words(1024, 16, 24),
    ),
    _openclip("DFN5B-CLIP-ViT-H-14", 1024, _vit(1280, 32, 14, head_width=80), _H_TEXT, _SQUASH, quick_gelu=True),
    _openclip("DFN5B-CLIP-ViT-H-14-378", 1024, _H_378, _H_TEXT, _SQUASH, quick_gelu=True),
    _openclip(
        "DFN5B-CLIP-ViT-H-14-378, uploaded first", 1024, _H_378 | {"image_size": 384}, _H_TEXT, _SQUASH, quick_gelu=True
    ),
    _openclip(
        "SurgiX-CLIP-New-ViT-H-14-378", 1024, _H_378, _H_TEXT, _SQUASH | {"resize_mode": "shortest"}, quick_gelu=True
    ),
    _openclip("DFN2B-CLIP-ViT-B-16", 512, _vit(768, 12, 16), _B_TEXT, flat=True),
    _openclip("ViT-B-32-laion2b-openclip-layout-in-config-json", 512, _vit(768, 12, 32), _B_TEXT, file="config.json"),
    _openclip("bioclip", 512, _vit(768, 12, 16), _B_TEXT, {"hf_hub": "imageomics/bioclip/open_clip_pytorch_model.bin"}),
    _openclip(
        "ViT-SO400M-14-SigLIP",
        1152,
        _timm("vit_so400m_patch14_siglip_224", 224, timm_pool="map", timm_proj="none"),
        _words(1152, 16, 27, mlp_ratio=3.7362, no_causal_mask=True, proj_bias=True, pool_type="last")
        | {"context_length": 16, "vocab_size": 32000, "norm_kwargs": {"eps": 1e-06}}
        | {"hf_tokenizer_name": "timm/ViT-SO400M-14-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"}},
        _HALF | {"interpolation": "bicubic", "resize_mode": "squash"},
        init_logit_bias=-10,
        custom_text=True,
    ),
    _openclip(
        "CLIPS-ViT-L-14-224-Recap-DataComp-1B",
        768,
        _L | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        _words(768, 12, 12, act_kwargs={"approximate": "tanh"}) | _RECAP,
        _INCEPTION | {"resize_mode": "squash"},
    ),
    _openclip(
        "BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        512,
        _timm("vit_base_patch16_224", 224, timm_pool="", timm_proj="linear"),
        _BIOMED_TEXT | {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"},
    ),
    _openclip(
        "BiomedCLIP-PubMedBERT_256-vit_base_patch16_224, keys of the first generation",
        512,
        _timm("vit_base_patch16_224", 224, timm_pool="", timm_proj="linear"),
        _BIOMED_TEXT | {"proj": "mlp", "pooler_type": "cls_last_hidden_state_pooler"},
    ),
    _openclip(
        "CLIP-convnext_large_d-laion",
        768,
        _timm("convnext_large", 320, timm_pool="", timm_proj="mlp", timm_drop=0.0, timm_drop_path=0.1),
        _words(768, 12, 16),
        words="convnext_large",
    ),
    _openclip(
        "MobileCLIP2-S0",
        512,
        _timm("fastvit_mci0", 256, **_FAST),
        _words(512, 8, 12, no_causal_mask=True),
        flat=True,
        file="config.json",
        custom_text=True,
        words="fastvit_mci0",
    ),
    _openclip(
        "MobileCLIP2-S2",
        512,
        _timm("fastvit_mci2", 256, **_FAST),
        _words(512, 8, 12, no_causal_mask=True),
        flat=True,
        file="config.json",
        custom_text=True,
        words="fastvit_mci2",
    ),
    _openclip(
        "MobileCLIP-S4",
        768,
        _timm("fastvit_mci4", 256, **_FAST),
        _words(768, 12, 12, no_causal_mask=True),
        flat=True,
        file="config.json",
        custom_text=True,
        words="fastvit_mci4",
    ),
    _openclip(
        "open_clip_pix2struct",
        768,
        _L | {"npatch": 400, "direct_intput_patch": True},
        _L_TEXT,
        top={"ckpt_path": "clip_vit_l_14_adapted.pth"},
        words="npatch|direct_intput_patch",
    ),
)


# --- the kinds of architectures in others' repositories -----------------------------------------------------

_STAGES = [3, 4, 6, 3]
_EVA_VIT = {"eva_model_name": "eva-clip-b-16-X", "xattn": True, "fusedLN": True, "rope": True, "naiveswiglu": True}
KINDS = (
    _openclip("open_clip_model_configs: plain", 512, _vit(768, 12, 16), _B_TEXT),
    _openclip("open_clip_model_configs: ResNet", 1024, _vit(64, 0, 32) | {"layers": _STAGES}, _B_TEXT, words="ResNet"),
    _openclip(
        "open_clip_model_configs: ViTamin", 768, _timm("vitamin_large_224", 224, timm_pool=""), _L_TEXT, words="vitamin"
    ),
    _openclip("open_clip_model_configs: Swin", 640, _timm("swin_base_patch4_window7_224", 224), _B_TEXT, words="swin"),
    Row(
        "open_clip_model_configs: audio",
        {_OWN: {"model_cfg": {"embed_dim": 512, "audio_cfg": {"model_type": "HTSAT"}, "text_cfg": _B_TEXT}}},
        error=CheckpointError,
        words="audio|no image encoder",
    ),
    Row(
        "mobileclip_model_configs: its own form",
        {
            "config.json": {
                "embed_dim": 512,
                "image_cfg": {"model_name": "mci0"},
                "text_cfg": {"dim": 512, "model_name": "mct"},
            }
        },
        error=CheckpointError,
        words="image_cfg|vision_cfg|no image encoder",
    ),
    _openclip(
        "mobileclip_model_configs: a transformer",
        512,
        _timm("vit_base_mci_224", 224, timm_pool="token", timm_proj=None),
        _words(512, 8, 12, no_causal_mask=False),
        custom_text=True,
    ),
    _openclip(
        "eva_clip_model_configs",
        512,
        _vit(768, 12, 16, head_width=64, mlp_ratio=2.6667) | _EVA_VIT,
        _B_TEXT,
        words="eva",
    ),
    _openclip(
        "tinyclip_model_configs: ResNet",
        1024,
        _vit(44, 0, 32) | {"layers": _STAGES, "patch_size": None},
        _B_TEXT,
        words="ResNet",
    ),
    _openclip(
        "tinyclip_model_configs: with masks",
        512,
        _vit(768, 12, 32),
        _B_TEXT,
        mask_image=True,
        mask_text=True,
        words="mask_",
    ),
    _openclip(
        "openvision_model_configs",
        192,
        _vit(192, 12, 8, no_ln_pre=True, pool_type="avg", final_ln_after_pool=True, head_width=64)
        | {"norm_kwargs": {"eps": 1e-06}},
        _words(192, 3, 12, act_kwargs={"approximate": "tanh"}, norm_kwargs={"eps": 1e-06}) | _RECAP,
        _INCEPTION | {"resize_mode": "squash"},
    ),
    _openclip(
        "llm2clip_model_configs",
        1280,
        _L,
        _L_TEXT | {"use_embedding": False, "llm_embedding_dim": 4096},
        words="llm_embedding_dim|use_embedding",
    ),
    Row(
        "chinese_clip_model_configs: pictures",
        {"config.json": {"embed_dim": 512, "image_resolution": 224, "vision_layers": 12, "vision_patch_size": 16}},
        error=NotClip,
        words="model_type",
    ),
    Row(
        "chinese_clip_model_configs: ResNet",
        {
            "config.json": {
                "embed_dim": 1024,
                "image_resolution": 224,
                "vision_layers": "[3,4,6,3]",
                "vision_patch_size": None,
            }
        },
        error=NotClip,
        words="model_type",
    ),
)


def _sizeless(**more: Any) -> Json:
    return {key: value for key, value in squashing(0, **more).items() if key != "size"}


PROCESSORS = {
    "clip-vit-large-patch14-336_to_1022": extractor(1022, do_center_crop=False, do_resize=False),
    "siglip2-so400m-patch16-naflex": _sizeless(image_processor_type="Siglip2ImageProcessorFast")
    | {"processor_class": "Siglip2Processor", "max_num_patches": 256, "patch_size": 16, "resample": 2},
    "tiny-random-Siglip2ForImageClassification": _sizeless(image_processor_type="Siglip2ImageProcessor")
    | {"max_num_patches": 256, "patch_size": 16, "resample": 2},
}
"""Of folders that have nothing else: no fixed model can be given what these make."""
