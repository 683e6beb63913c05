"""CLIP in OpenCLIP's native layout: `open_clip_config.json` and `open_clip_model.safetensors`.

The architecture is CLIP's, so the configuration is translated and the state dict is read under CLIP's names, piece by
piece. Layout: https://github.com/mlfoundations/open_clip (`src/open_clip/model.py`, `transformer.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import NotClip, UnsupportedVariant
from artifacts.strict_json import strict_json
from tasks.clip.base import Piece
from tasks.clip.buffers import index_buffer
from tasks.clip.clip import Clip

if TYPE_CHECKING:
    from torch import nn

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"

_MODEL_KEYS = {
    "embed_dim",
    "vision_cfg",
    "text_cfg",
    "quick_gelu",
    "custom_text",
    "init_logit_scale",
    "init_logit_bias",
}
_TRAINING_KEYS = {"patch_dropout", "output_tokens"}
_VISION_KEYS = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "pool_type"} | _TRAINING_KEYS
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type"} | _TRAINING_KEYS
_LARGEST_ID = 2
"""With this `eos_token_id` transformers' CLIP pools the text at its largest id, as OpenCLIP does."""
_OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
_OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]

_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_TRANSPOSED = ("visual.proj", "text_projection")
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_STACK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


class OpenClip(Clip):
    """Adapter for OpenCLIP's own files of models that are CLIP: plain vision transformer, causal text."""

    name = "openclip"
    model_types: ClassVar[tuple[str, ...]] = ()

    def plain_model(self, folder: Path, stored: dict[str, Any]) -> None:
        """None: OpenCLIP itself is no dependency. Golden files that it made hold this family in the tests."""
        del folder, stored

    def ignores(self, name: str, modules: Collection[str]) -> bool:
        """Only what belongs to the loss: a name that is not known may be part of an encoder."""
        del modules
        return name in ("logit_scale", "logit_bias")

    def load(self, folder: Path, config: dict[str, Any], attention: str) -> nn.Module:
        """`CLIPModel` with the folder's weights under CLIP's names; a folder in CLIP's own layout loads as such."""
        if not (folder / CONFIG_FILE).is_file():
            return super().load(folder, config, attention)
        import torch

        from tasks.clip.weights import WeightReader

        reader = WeightReader([folder / WEIGHTS_FILE], self.pieces)
        state = {name: torch.from_numpy(reader.read(name).astype("float32")) for name in reader}
        with torch.device("meta"):
            model: nn.Module = self._model_class()._from_config(self.full_config(config), attn_implementation=attention)
        model.load_state_dict(state, assign=True)
        for name, buffer in list(model.named_buffers()):
            values = torch.from_numpy(index_buffer(name, tuple(buffer.shape)))
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, values)
        return model.eval()

    def pieces(self, stored: Mapping[str, tuple[int, ...]]) -> dict[str, Piece]:
        """Every parameter under CLIP's name; models with `custom_text` keep their text encoder under `text.`."""
        pieces: dict[str, Piece] = {}
        for name, shape in stored.items():
            plain = name.removeprefix("text.")
            if plain in _OUTSIDE:
                pieces[_OUTSIDE[plain]] = Piece(name, transposed=plain in _TRANSPOSED)
            elif match := _STACK.fullmatch(plain):
                size = shape[0] // 3
                for index, projection in enumerate(("q_proj", "k_proj", "v_proj")):
                    target = f"{_layer(match[1], match[2])}.self_attn.{projection}.{match[3]}"
                    pieces[target] = Piece(name, rows=(index * size, (index + 1) * size))
            elif (match := _BLOCK.fullmatch(plain)) and match[3] in _IN_BLOCK:
                pieces[f"{_layer(match[1], match[2])}.{_IN_BLOCK[match[3]]}.{match[4]}"] = Piece(name)
        return pieces

    def tokenizer(self, folder: Path, config: dict[str, Any] | None) -> Any:
        """CLIP's tokenizer, from `vocab.json` and `merges.txt` or from `tokenizer.json`: these models have no other."""
        from transformers import CLIPTokenizerFast

        del config
        return CLIPTokenizerFast.from_pretrained(folder, local_files_only=True, padding_side="right")

    def image_processor(self, folder: Path) -> Any:
        """CLIP's image processor with the settings of `preprocess_cfg`."""
        if not (folder / CONFIG_FILE).is_file():
            return super().image_processor(folder)
        from transformers import CLIPImageProcessorPil

        document = _read(folder)
        return CLIPImageProcessorPil(**_preprocessing(document, folder))


def _layer(visual: str | None, index: str) -> str:
    return f"{'vision_model' if visual else 'text_model'}.encoder.layers.{index}"


def is_native(folder: Path) -> bool:
    """Whether the folder is in OpenCLIP's layout and in no other."""
    return (folder / CONFIG_FILE).is_file() and not any(folder.glob("model*.safetensors"))


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's configuration in the form of CLIP's `config.json`.

    Raises:
        NotClip: the file is not an OpenCLIP configuration.
        UnsupportedVariant: the model is not plain CLIP (timm or ResNet vision, Hugging Face text, CoCa, ...).
    """
    path = folder / CONFIG_FILE
    model = _read(folder).get("model_cfg")
    if not isinstance(model, dict) or not all(isinstance(model.get(k), dict) for k in ("vision_cfg", "text_cfg")):
        raise NotClip("no model_cfg with vision_cfg and text_cfg", where=path, expected="an OpenCLIP configuration")
    vision, text = model["vision_cfg"], model["text_cfg"]
    _refuse_unknown(model, _MODEL_KEYS, "model_cfg", path)
    _refuse_unknown(vision, _VISION_KEYS, "vision_cfg", path)
    _refuse_unknown(text, _TEXT_KEYS, "text_cfg", path)
    _require(isinstance(vision.get("layers", 12), int), "a ResNet vision encoder", path)
    _require(vision.get("pool_type", "tok") == "tok", f"vision pooling {vision.get('pool_type')!r}", path)
    _require(text.get("pool_type", "argmax") == "argmax", f"text pooling {text.get('pool_type')!r}", path)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    shared = {"hidden_act": activation, "projection_dim": model["embed_dim"]}
    return {
        "model_type": "clip",
        "projection_dim": model["embed_dim"],
        "vision_config": shared
        | _transformer(vision, 768, vision.get("width", 768) // vision.get("head_width", 64))
        | {"image_size": vision.get("image_size", 224), "patch_size": vision.get("patch_size", 16)},
        "text_config": shared
        | _transformer(text, 512, text.get("heads", 8))
        | {
            "max_position_embeddings": text.get("context_length", 77),
            "vocab_size": text.get("vocab_size", 49408),
            "eos_token_id": _LARGEST_ID,
        },
    }


def _transformer(part: Mapping[str, Any], width: int, heads: int) -> dict[str, Any]:
    width = part.get("width", width)
    return {
        "hidden_size": width,
        "intermediate_size": int(width * part.get("mlp_ratio", 4.0)),
        "num_hidden_layers": part.get("layers", 12),
        "num_attention_heads": heads,
    }


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        document = strict_json(path.read_bytes())
    except ValueError as error:
        raise NotClip(
            f"{CONFIG_FILE} is not JSON: {error}",
            where=path,
            expected="JSON in UTF-8 without NaN, each key once",
            fix="download the checkpoint again",
        ) from error
    if not isinstance(document, dict):
        raise NotClip(f"{CONFIG_FILE} is not an object", where=path)
    return document


def _refuse_unknown(part: Mapping[str, Any], known: set[str], section: str, path: Path) -> None:
    """A setting that is not known may change the model; one that is off changes nothing."""
    odd = sorted(key for key, value in part.items() if key not in known and value not in (None, False))
    _require(not odd, f"{section}.{odd[0] if odd else ''}", path)


def _require(holds: bool, what: str, path: Path) -> None:
    if not holds:
        raise UnsupportedVariant(
            f"this OpenCLIP model has {what}",
            where=path,
            expected="a plain CLIP: vision transformer with class token, causal text transformer",
            fix="use the model's checkpoint in Hugging Face layout, if there is one",
        )


def _preprocessing(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    settings = document.get("preprocess_cfg") or {}
    side = document["model_cfg"]["vision_cfg"].get("image_size", 224)
    mode = settings.get("resize_mode") or "shortest"
    _require(mode in ("shortest", "squash"), f"resize_mode {mode!r}", folder / CONFIG_FILE)
    interpolation = settings.get("interpolation") or "bicubic"
    resample = {"bicubic": 3, "bilinear": 2}  # Pillow's numbers
    _require(interpolation in resample, f"interpolation {interpolation!r}", folder / CONFIG_FILE)
    squash = mode == "squash"
    return {
        "size": {"height": side, "width": side} if squash else {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "do_center_crop": not squash,
        "resample": resample[interpolation],
        "image_mean": list(settings.get("mean") or _OPENAI_MEAN),
        "image_std": list(settings.get("std") or _OPENAI_STD),
        "do_convert_rgb": True,
    }
