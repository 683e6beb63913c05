"""OpenCLIP's description of a model, here called a document: the settings of its towers, and its preprocessing.

Layout: https://github.com/mlfoundations/open_clip (`model.py`: `CLIPVisionCfg`, `CLIPTextCfg`; `transform.py`:
`PreprocessCfg`). The file is `open_clip_config.json`; some repositories have the document, or only its architecture,
in `config.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from artifacts.config_files import read_file
from artifacts.errors import BadWeights, MissingEncoder, NotClip, UnsafeCheckpoint, UnsupportedVariant
from tasks.clip.limits import CONFIG, check_numbers

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
WEIGHTS_FILES = (WEIGHTS_FILE, "open_clip_pytorch_model.safetensors")
"""OpenCLIP's names for the file with both towers' weights; the first that exists is used (see `weights_file`)."""

_PICKLE = "open_clip_pytorch_model.bin"
_PLAIN_CONFIG = "config.json"
_BLOCK = {
    "block_type": None,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
    "ls_init_value": None,
    "act_kwargs": None,
    "norm_kwargs": None,
    "final_ln_after_pool": False,
    "output_tokens": False,
}
VISION_DEFAULTS: Mapping[str, Any] = _BLOCK | {
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
    "image_size": 224,
    "patch_dropout": 0.0,
    "attentional_pool": False,
    "attn_pooler_queries": 256,
    "attn_pooler_heads": 8,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "pool_type": "tok",
    "timm_model_name": None,
    "timm_model_pretrained": False,
    "timm_pool": "avg",
    "timm_proj": "linear",
    "timm_proj_bias": False,
    "timm_drop": 0.0,
    "timm_drop_path": None,
}
TEXT_DEFAULTS: Mapping[str, Any] = _BLOCK | {
    "context_length": 77,
    "vocab_size": 49408,
    "hf_tokenizer_name": None,
    "tokenizer_mode": None,
    "tokenizer_kwargs": None,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
    "embed_cls": False,
    "pad_id": 0,
    "eos_id": 2,
    "no_causal_mask": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "text_arch": "clip",
    "variable_text": False,
    "tokenizer_type": "",
    "hf_model_name": None,
    "hf_model_pretrained": True,
    "hf_proj_type": "mlp",
    "hf_pooler_type": "mean_pooler",
}
_TRAINING = frozenset(
    ("patch_dropout", "output_tokens", "timm_model_pretrained", "timm_drop", "timm_drop_path", "hf_model_pretrained")
)
"""Settings of training and of additional outputs: embeddings do not depend on them."""
_MEANS_SOMETHING = frozenset(("timm_proj", "timm_pool"))
"""Settings for which null differs from the default; in all others OpenCLIP's files use null for the default."""
_EMPTY = frozenset(("act_kwargs", "norm_kwargs", "timm_model_name", "hf_model_name", "hf_tokenizer_name"))
"""Settings for which an empty value, `{}` or "", means the same as null."""
_OLD_NAMES = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"}
"""Names that OpenCLIP 2.0 to 2.16 used for settings of Hugging Face text towers."""
_UNUSED_WITHOUT = {
    "timm_model_name": ("timm_pool", "timm_proj", "timm_proj_bias"),
    "attentional_pool": ("attn_pooler_queries", "attn_pooler_heads"),
    "hf_model_name": ("hf_proj_type", "hf_pooler_type"),
    "embed_cls": ("pad_id",),
}
"""Settings that have an effect only if another setting is on. OpenCLIP's own text tower uses the padding token only
with a class token for the whole text (`embed_cls`), and Hugging Face towers have their own padding token."""
_MODERN = frozenset(
    (
        "bos_id",
        "tiktoken_name",
        "attention_mode",
        "pos_embed",
        "rope_temperature",
        "mlp_type",
        "norm_eps",
        "norm_placement",
        "attn_gated",
        "gate_bias",
        "pre_norm",
        "zero_init_residual",
        "reg_tokens",
        "value_residual",
    )
)
"""Settings of OpenCLIP 4's second text transformer (`text_arch: modern`), which the first one ignores."""
_TOWER_NAMES = ("timm_model_name", "hf_model_name")
_MODEL_KEYS = frozenset(
    (
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "multimodal_cfg",
        "quick_gelu",
        "custom_text",
        "init_logit_scale",
        "init_logit_bias",
        "nonscalar_logit_scale",
        "cast_dtype",
        "output_dict",
    )
)


@dataclass(frozen=True)
class Document:
    """OpenCLIP's description of one model; `path` is for messages.

    `model` is `model_cfg` as read. `vision` and `text` are its sections completed with OpenCLIP's defaults; null means
    the default unless OpenCLIP gives it another meaning.
    """

    model: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    path: Path

    @classmethod
    def of(cls, content: Any, path: Path) -> Document:
        """Make a document from a file's JSON: `model_cfg` and `preprocess_cfg`, or only the content of `model_cfg`.

        Raises:
            NotClip: it is neither.
        """
        if not isinstance(content, dict):
            raise NotClip(f"{path.name} is not an object", where=path)
        model = content.get("model_cfg", content)
        preprocess = content.get("preprocess_cfg") or {}
        if not isinstance(model, dict) or not isinstance(preprocess, dict) or "embed_dim" not in model:
            raise NotClip(
                f"{path.name} has no model_cfg with an embed_dim",
                where=path,
                expected="an OpenCLIP configuration",
                fix="download the checkpoint again",
            )
        return cls(model, preprocess, path)

    @cached_property
    def vision(self) -> dict[str, Any]:
        """The image tower's settings, complete."""
        return _settings(self.model.get("vision_cfg"), VISION_DEFAULTS)

    @cached_property
    def text(self) -> dict[str, Any]:
        """The text tower's settings, complete; the old `proj` and `pooler_type` have their new names."""
        section = self.model.get("text_cfg")
        if not isinstance(section, dict):
            return dict(TEXT_DEFAULTS)
        return _settings({_OLD_NAMES.get(key, key): value for key, value in section.items()}, TEXT_DEFAULTS)

    @property
    def embed_dim(self) -> int:
        """The width of both embeddings."""
        width: int = self.model["embed_dim"]
        return width

    @property
    def activation(self) -> str:
        """transformers' name for the activation of OpenCLIP's own towers: exact GELU unless `quick_gelu`."""
        return "quick_gelu" if self.model.get("quick_gelu") else "gelu"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image tower's input."""
        size = self.vision["image_size"]
        if isinstance(size, (list, tuple)):
            return int(size[0]), int(size[-1])
        return int(size), int(size)

    def strange(self, *, model: Iterable[str] = (), vision: Iterable[str] = (), text: Iterable[str] = ()) -> str | None:
        """The first setting that differs from its default and is not among the given names, such as
        `text_cfg.embed_cls true`; None if there is none.

        At the top level `embed_dim`, the sections, `quick_gelu`, the settings of the logit, and `custom_text` (which
        only affects names of stored tensors) are always allowed. An unknown setting is strange unless null or false.
        """
        top = {key: value for key, value in self.model.items() if key not in _MODEL_KEYS or key == "multimodal_cfg"}
        for section, values, defaults, known in (
            ("model_cfg", top, {}, set(model)),
            ("vision_cfg", self.vision, VISION_DEFAULTS, set(vision)),
            ("text_cfg", self.text, TEXT_DEFAULTS, set(text)),
        ):
            unused = {n for switch, names in _UNUSED_WITHOUT.items() if not values.get(switch) for n in names}
            unused |= _TRAINING | (_MODERN if section == "text_cfg" else set())
            unused |= set() if values.get("pool_type") == "eos" else {"eos_id"}
            for key in sorted(values.keys() - known - unused, key=lambda key: (key not in _TOWER_NAMES, key)):
                value = values[key]
                if value != defaults.get(key) and not (key not in defaults and value in (None, False)):
                    return f"{section}.{key} {_shown(value)}"
        return None


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value) if isinstance(value, (str, int, float, list)) else "{...}"


def _settings(section: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(section, dict):
        return dict(defaults)
    given = {
        key: value
        for key, value in section.items()
        if value is not None or key not in defaults or key in _MEANS_SOMETHING
    }
    settings = {**defaults, **given}
    for key in _EMPTY & settings.keys():
        settings[key] = settings[key] or None
    return settings


# --- files -----------------------------------------------------------------------------------------------------------


def document_file(folder: Path) -> Path | None:
    """The path of the folder's OpenCLIP configuration: its own file, or a `config.json` that holds one; else None."""
    if (folder / CONFIG_FILE).is_file():
        return folder / CONFIG_FILE
    content = _config_json(folder)
    model = content.get("model_cfg", content)
    if "model_type" in content or not isinstance(model, dict) or "embed_dim" not in model:
        return None
    return folder / _PLAIN_CONFIG if any(key.endswith("_cfg") for key in model) else None


def in_openclip_layout(folder: Path, *, weights: bool = True) -> bool:
    """Whether the folder is in OpenCLIP's layout, and not also in transformers'.

    timm stores the image tower beside OpenCLIP's files, with its own `config.json`, which has no `model_type`.
    Without `weights` (not downloaded yet), a `config.json` of transformers is assumed to come with weights.
    """
    if document_file(folder) is None:
        return False
    return "model_type" not in _config_json(folder) or (weights and not any(folder.glob("model*.safetensors")))


def weights_file(folder: Path) -> Path:
    """The file with both towers' weights; `model.safetensors` counts unless it belongs to timm's `config.json`.

    Raises:
        UnsafeCheckpoint: OpenCLIP's weights are a pickle.
        BadWeights: there are no weights.
    """
    names = WEIGHTS_FILES if "architecture" in _config_json(folder) else (*WEIGHTS_FILES, "model.safetensors")
    for name in names:
        if (folder / name).is_file():
            return folder / name
    if (folder / _PICKLE).is_file():
        raise UnsafeCheckpoint(
            f"the weights of both towers are a pickle ({_PICKLE}), which runs code when it is loaded",
            where=folder,
            expected=WEIGHTS_FILE,
            fix="convert it once in a sandbox, or take a revision with safetensors",
        )
    raise BadWeights(f"there is no {WEIGHTS_FILE}", where=folder, expected="the weights of both towers")


def _config_json(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`; empty if it cannot be read, which is reported where it is needed."""
    try:
        content = _read(folder / _PLAIN_CONFIG)
    except NotClip:
        return {}
    return content if isinstance(content, dict) else {}


def read_document(folder: Path) -> Document:
    """Read the folder's document.

    Raises:
        NotClip: there is none, or it is not an OpenCLIP configuration.
        CheckpointError: a number is out of range.
    """
    path = document_file(folder) or folder / CONFIG_FILE
    content = _read(path)
    check_numbers(content, where=path)
    return Document.of(content, path)


def _read(path: Path) -> Any:
    fix = "download the checkpoint again"
    return read_file(path, lambda content: content, what=path.name, error=NotClip, fix=fix, limit=CONFIG)


# --- what no kind can do ---------------------------------------------------------------------------------------------

_NOT_TRANSFORMERS = (
    ("convnext", "convolutional"),
    ("resnet", "convolutional"),
    ("fastvit", "a hybrid of convolutions and attention"),
    ("vitamin", "a hybrid of convolutions and attention"),
    ("swin", "a transformer over windows"),
    ("vit_relpos", "a transformer with relative positions"),
    ("naflexvit", "a transformer for pictures of any size (NaFlex)"),
)
_GENERATIVE = ("genlip_cfg", "genlap_cfg")


def refuse_others(document: Document) -> None:
    """Refuse a model that is not an image and a text transformer.

    Raises:
        MissingEncoder: it has only one tower.
        UnsupportedVariant: it is for audio, generative, or not made of plain transformers; the message says which.
    """
    model, vision, text = document.model, document.vision, document.text
    if any(key in model for key in _GENERATIVE):
        raise refusal(document, "is generative: it has one transformer for pictures and texts, and no embeddings")
    if "audio_cfg" in model:
        raise refusal(document, "has an audio encoder in place of the image encoder")
    for encoder, section in (("image", "vision_cfg"), ("text", "text_cfg")):
        if not isinstance(model.get(section), dict):
            raise MissingEncoder(
                f"the checkpoint has no {encoder} encoder: {document.path.name} has no {section}",
                where=document.path,
                expected="a two-encoder OpenCLIP model",
                fix="give the full model, not one of its halves",
            )
    if isinstance(vision["layers"], (list, tuple)) and not vision["timm_model_name"]:
        raise refusal(document, "has an image encoder that is convolutional (ResNet)")
    name = str(vision["timm_model_name"] or "")
    for start, what in _NOT_TRANSFORMERS:
        if name.startswith(start):
            raise refusal(document, f"has an image encoder that is {what}: timm's {name}")
    if text["text_arch"] != TEXT_DEFAULTS["text_arch"]:
        raise refusal(document, f"has a text encoder of another architecture: text_cfg.text_arch {text['text_arch']!r}")


def refusal(document: Document, what: str) -> UnsupportedVariant:
    """The error that refuses a document; `what` continues the sentence "this OpenCLIP model"."""
    return UnsupportedVariant(
        f"this OpenCLIP model {what}",
        where=document.path,
        expected="an image and a text encoder that are transformers, with settings that are known",
        fix="use the model's checkpoint in Hugging Face layout, if there is one",
    )
