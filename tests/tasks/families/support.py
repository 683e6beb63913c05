"""Small models of every family, inputs for them, and oracles: transformers, ONNX Runtime, ModelOpt."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from artifacts.manifest import Encoder
from tasks.clip.base import ImageSize
from tasks.clip.hugging_face import ClipFamily
from tasks.clip.processors import processor_class
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT as DEMO
from tasks.families import family_named
from tasks.quantizing.recipe import Recipe

TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_hidden_layers": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}
IDS = {"vocab_size": 603, "bos_token_id": 601, "eos_token_id": 602, "pad_token_id": 602}
BERT = {"vocab_size": 600, "max_position_embeddings": 64, "pad_token_id": 1, "bos_token_id": 0}

CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {
        "model_type": "clip",
        "projection_dim": 48,
        "text_config": {**TEXT, **IDS, "max_position_embeddings": 16, "hidden_act": "quick_gelu"},
        "vision_config": {**VISION, "hidden_act": "quick_gelu"},
    },
    "metaclip_2": {
        "model_type": "metaclip_2",
        "projection_dim": 48,
        "text_config": {**TEXT, **IDS, "eos_token_id": 2, "max_position_embeddings": 16, "hidden_act": "gelu"},
        "vision_config": {**VISION, "hidden_act": "gelu"},
    },
    "siglip": {
        "model_type": "siglip",
        "text_config": {**TEXT, **IDS, "max_position_embeddings": 16, "projection_size": 64},
        "vision_config": VISION,
    },
    "siglip2": {
        "model_type": "siglip2",
        "text_config": {**TEXT, **IDS, "max_position_embeddings": 16, "projection_size": 64},
        "vision_config": {**TEXT, "num_patches": 16, "patch_size": 8},  # 32 x 32 where no other size is asked for
    },
    "chinese_clip": {
        "model_type": "chinese_clip",
        "projection_dim": 48,
        "text_config": {**TEXT, **BERT},
        "vision_config": {**VISION, "hidden_act": "quick_gelu"},
    },
    "altclip": {
        "model_type": "altclip",
        "projection_dim": 48,
        "text_config": {**TEXT, **BERT, "max_position_embeddings": 32, "project_dim": 40, "eos_token_id": 2},
        "vision_config": {**VISION, "hidden_act": "quick_gelu"},
    },
}
NAMES = list(CONFIGS)
SIGLIPS = ("siglip", "siglip2")
"""They pool pictures by attention, and their texts attend to their padding."""
ENCODERS: tuple[Encoder, ...] = ("image", "text")
_HEAVY = {"metaclip_2", "altclip", "siglip2"}
"""Their encoders are others' (CLIP's, SigLIP's, and of texts ChineseCLIP's) with small changes."""
EACH_NAME = [pytest.param(name, marks=[pytest.mark.heavy] if name in _HEAVY else []) for name in NAMES]
EACH_ENCODER = [pytest.param(*each.values, encoder, marks=each.marks) for each in EACH_NAME for encoder in ENCODERS]


def wider(config: dict[str, Any], text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    """A configuration with other sizes."""
    return config | {
        "text_config": config["text_config"] | text,
        "vision_config": config["vision_config"] | vision,
    }


def save_checkpoint(config: dict[str, Any], folder: Path) -> Path:
    """A random checkpoint as transformers saves it. At their initial 0 and 1, biases and norms would hide a mix-up."""
    import torch

    family: Any = family_named(config["model_type"])
    torch.manual_seed(0)
    model = family._model_class()(family.full_config(config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:  # some families start with weights so small that FP16 rounds them away
                parameter.mul_(max(1.0, 0.02 / float(parameter.std())))
    model.save_pretrained(folder)
    return folder


def random_feed(
    family: ClipFamily, config: dict[str, Any], encoder: Encoder, batch: int, seed: int = 7
) -> dict[str, Any]:
    """Pixels, or ids with an end token and padding after it, and the mask of that."""
    rng = np.random.default_rng(seed)
    feed: dict[str, np.ndarray] = {}
    for item in family.encoder_spec(config, encoder).inputs:
        if item.name == "pixel_values":
            feed[item.name] = rng.standard_normal((batch, *item.shape)).astype(np.float16)
        elif item.name == "input_ids":
            part = config["text_config"]
            ids = rng.integers(3, part["vocab_size"] - 3, (batch, *item.shape))
            for row in ids:
                end = rng.integers(4, len(row))
                row[end] = part.get("eos_token_id", 2)
                row[end + 1 :] = part["pad_token_id"]
            feed[item.name] = ids
        else:
            feed[item.name] = (feed["input_ids"] != config["text_config"]["pad_token_id"]).astype(np.int64)
    return feed


def run_onnx(source: Path | onnx.ModelProto, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The output in ONNX Runtime at its default optimization."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    given = source.SerializeToString() if isinstance(source, onnx.ModelProto) else str(source)
    return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"]).run(None, feed)[0]


def hf_embeddings(folder: Path, encoder: Encoder, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The FP32 model as transformers alone runs it."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    if encoder == "image" and hasattr(model.config.vision_config, "num_patches"):
        feed = cut_up(feed["pixel_values"], model.config.vision_config.patch_size)
    inputs = {
        name: torch.from_numpy(v).float() if v.dtype == np.float16 else torch.from_numpy(v) for name, v in feed.items()
    }
    with torch.no_grad():
        features = model.get_image_features if encoder == "image" else model.get_text_features
        return features(**inputs).pooler_output.numpy()


def cut_up(pixels: np.ndarray, patch: int) -> dict[str, np.ndarray]:
    """Pictures as transformers' image processor of SigLIP 2 gives them to its model, all patches of each."""
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    batch, _, height, width = pixels.shape
    grid = (height // patch, width // patch)
    return {
        "pixel_values": np.stack([convert_image_to_patches(picture, patch) for picture in pixels]),
        "pixel_attention_mask": np.ones((batch, grid[0] * grid[1]), np.int64),
        "spatial_shapes": np.tile(np.array(grid, np.int64), (batch, 1)),
    }


def plain_text_embeddings(folder: Path, texts: list[str], context: int) -> np.ndarray:
    """Each text alone and without padding, by the tokenizer and the model that transformers finds in the folder."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=context, return_tensors="pt")
        with torch.no_grad():
            rows.append(model.get_text_features(**tokens).pooler_output[0].numpy())
    return np.stack(rows)


def cosines(ours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Row by row."""
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def snr_db(reference: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise in dB."""
    signal, noise = reference.astype(np.float64), got.astype(np.float64) - reference
    return float(10 * np.log10((signal**2).mean() / max((noise**2).mean(), 1e-30)))


@dataclass(frozen=True)
class Quantized:
    """A family's model as ModelOpt simulates FP8 (FP32 arithmetic), and the amax it recorded."""

    family: ClipFamily
    recipe: Recipe
    model: Any
    amax: dict[str, float]

    def rounded(self) -> Any:
        """See `rounded`."""
        return rounded(self.model, self.amax)


def rounded(model: Any, amax: dict[str, float]) -> Any:
    """ModelOpt's model with weights and scales rounded to FP16, as the graphs hold them.

    Without this the two differ by up to 2^-11 before the FP8 rounding, which then flips: about 32 dB per layer.
    """
    import torch
    from modelopt.torch.quantization.nn import TensorQuantizer

    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.data = buffer.data.half().float()
    for name, module in model.named_modules():
        if isinstance(module, TensorQuantizer) and module.is_enabled:
            scale = max(amax[name] / 448, 2.0**-14)  # never subnormal in FP16
            module.amax = torch.tensor(scale).half().float() * 448
    return model


def tensors(feed: dict[str, np.ndarray]) -> list[Any]:
    """A feed as PyTorch takes it: pixels in FP32."""
    import torch

    return [torch.from_numpy(v).float() if v.dtype == np.float16 else torch.from_numpy(v) for v in feed.values()]


def simulate(name: str, config: dict[str, Any], folder: Path, recipe: Recipe, batch: int = 16) -> Quantized:
    """Calibrate with ModelOpt on random inputs."""
    import modelopt.torch.quantization as mtq
    import torch

    from tasks.quantizing.modelopt import read_amax

    family = family_named(name)
    model = family.load(folder, config, "eager")
    family.expose(model)
    feeds = {encoder: tensors(random_feed(family, config, encoder, batch, seed=1)) for encoder in ENCODERS}

    def loop(quantized: Any) -> None:
        for encoder, inputs in feeds.items():
            family.encode(quantized, encoder, *inputs)

    with torch.no_grad():
        mtq.quantize(model, recipe.modelopt_config(), loop)
    return Quantized(family, recipe, model, read_amax(model, recipe))


def reader(name: str, folder: Path, size: ImageSize | None = None) -> WeightReader:
    """The checkpoint's parameters under the family's names."""
    return WeightReader([folder / "model.safetensors"], partial(family_named(name).pieces_at, size=size))


def save_processor(name: str, folder: Path) -> None:
    """The kind of tokenizer and image processor that the family has, of the sizes that `CONFIGS` asks for."""
    import transformers

    vision = CONFIGS[name]["vision_config"]
    if name == "siglip2":
        settings = {"patch_size": vision["patch_size"], "max_num_patches": vision["num_patches"]}
    else:
        size = {"height": vision["image_size"], "width": vision["image_size"]}
        settings = {"size": size} | ({} if name == "siglip" else {"crop_size": size})
    processor_class({}, name)(**settings).save_pretrained(folder)
    if name == "chinese_clip":
        words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *" ".join(_WORDS).split()]
        (folder / "vocab.txt").write_text("\n".join(words))
        transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    elif name in ("altclip", "metaclip_2"):
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        vocabulary = [(token, 0.0) for token in special] + [
            (f"\u2581{word}", -1.0) for word in " ".join(_WORDS).split()
        ]
        transformers.XLMRobertaTokenizer(vocab=vocabulary).save_pretrained(folder)
    else:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(DEMO / file, folder / file)


_WORDS = ("a photo of the digit number handwritten", "zero one two three four five six seven eight nine")
