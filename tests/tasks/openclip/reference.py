"""OpenCLIP's `CLIP` written out with torch alone, and a checkpoint of it in OpenCLIP's own layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from tasks.demo import SNAPSHOT
from tasks.openclip.document import CONFIG_FILE, WEIGHTS_FILE

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "head_width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 603, "width": 64, "heads": 4, "layers": 3, "mlp_ratio": 2.0},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear"},
}


class QuickGelu(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A residual attention block under OpenCLIP's parameter names."""

    def __init__(self, width: int, heads: int, ratio: float, quick: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, int(width * ratio)))
        self.mlp.add_module("gelu", QuickGelu() if quick else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(int(width * ratio), width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        normal = self.ln_1(x)
        x = x + self.attn(normal, normal, normal, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, layers: int, *shape: Any) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(*shape) for _ in range(layers))

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Vision(nn.Module):
    def __init__(self, cfg: dict[str, Any], dim: int, quick: bool) -> None:
        super().__init__()
        width, patch = cfg["width"], cfg["patch_size"]
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((cfg["image_size"] // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Blocks(cfg["layers"], width, width // cfg["head_width"], 4.0, quick)
        self.proj = nn.Parameter(torch.randn(width, dim) * width**-0.5)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(tokens))[:, 0]) @ self.proj


class Reference(nn.Module):
    """OpenCLIP's `CLIP`: same parameters, same names, same arithmetic."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        text, dim, quick = cfg["text_cfg"], cfg["embed_dim"], cfg["quick_gelu"]
        width = text["width"]
        self.visual = Vision(cfg["vision_cfg"], dim, quick)
        self.token_embedding = nn.Embedding(text["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(text["context_length"], width) * 0.1)
        self.transformer = Blocks(text["layers"], width, text["heads"], text["mlp_ratio"], quick)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, dim) * width**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.6))

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.visual(pixels)

    def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)
        hidden = self.ln_final(self.transformer(self.token_embedding(ids) + self.positional_embedding, mask))
        return hidden[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def reference(cfg: dict[str, Any]) -> Reference:
    torch.manual_seed(0)
    model = Reference(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def save(folder: Path, document: dict[str, Any], *, custom_text: bool = False) -> Path:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    state = reference(CONFIG["model_cfg"] | {"quick_gelu": document["model_cfg"].get("quick_gelu", False)}).state_dict()
    if custom_text:
        state = {n if n.startswith(("visual.", "logit")) else f"text.{n}": v for n, v in state.items()}
    save_file({name: values.contiguous() for name, values in state.items()}, folder / WEIGHTS_FILE)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(SNAPSHOT / name, folder / name)
    return folder
