"""Make `openclip/timm_towers.json`: what timm's named architectures are that towers of our own stand in for.

    oracle/bin/python tests/golden/make_timm_towers.py         # the environment is that of make_openclip.py

By name: the shape of every tensor of the state dict (of the first block alone) with a head of 8, the number of blocks,
heads of blocks and of the pooling, the eps of every norm, the activations, and two sums of the rotary table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

HERE = Path(__file__).parent / "openclip"
POOLS = {
    "eva_giant_patch14_224": "token",
    "eva02_base_patch16_clip_224": "token",
    "eva02_large_patch14_clip_224": "token",
    "eva02_large_patch14_clip_336": "token",
    "eva02_enormous_patch14_clip_224": "token",
    "vit_pe_core_tiny_patch16_384": "map",
    "vit_pe_core_small_patch16_384": "map",
    "vit_pe_core_base_patch16_224": "map",
    "vit_pe_core_large_patch14_336": "map",
    "vit_pe_core_gigantic_patch14_448": "map",
    "vit_base_mci_224": "token",
    "vit_large_patch14_clip_224": "token",
    "vit_base_patch16_224": "token",
}
"""The pooling that OpenCLIP's configurations ask for."""


def facts(name: str) -> dict[str, Any]:
    """What one architecture is."""
    model: Any = timm.create_model(name, num_classes=8, global_pool=POOLS[name], depth=1)
    layers = len(timm.create_model(name, num_classes=8, global_pool=POOLS[name], device="meta").blocks)
    block, pool, rope = model.blocks[0], model.attn_pool, getattr(model, "rope", None)
    (eps,) = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    acts = {type(module).__name__ for key, module in model.named_modules() if key.endswith(".act")}
    table = None if rope is None else rope.pos_embed.double()
    return {
        "shapes": {key: list(values.shape) for key, values in model.state_dict().items()},
        "image_size": model.default_cfg["input_size"][1],
        "layers": layers,
        "heads": block.attn.num_heads,
        "pool_heads": None if pool is None else pool.num_heads,
        "eps": eps,
        "activations": sorted(acts),
        "rotary": None if table is None else [float(table.sum()), float((table * _weights(table)).sum())],
    }


def _weights(table: torch.Tensor) -> torch.Tensor:
    """From -1 to 1 along each axis, multiplied: a sum with them depends on every value's place."""
    rows, columns = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in table.shape)
    return rows[:, None] * columns


if __name__ == "__main__":
    made = {name: facts(name) for name in POOLS}
    (HERE / "timm_towers.json").write_text(json.dumps(made, indent=None, separators=(",", ":")) + "\n")
    print(*made, sep="\n")
