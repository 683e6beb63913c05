"""Make `openclip/timm.json`: what timm's named architectures are, as timm itself builds them.

    oracle/bin/python tests/golden/make_timm_facts.py          # the environment is that of make_openclip.py

For each SigLIP architecture: width, layers, heads, patch and image size, width of the MLP in a block and in the pooling
head, the activation (transformers' name) and the eps of every norm.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

HERE = Path(__file__).parent / "openclip"


def activation(module: nn.Module) -> str:
    """transformers' name of what an activation computes."""
    names = {"gelu": "none", "gelu_pytorch_tanh": "tanh", "quick_gelu": None}
    x = torch.linspace(-3, 3, 50)
    made = {
        name: x * torch.sigmoid(1.702 * x) if kind is None else nn.functional.gelu(x, approximate=kind)
        for name, kind in names.items()
    }
    (found,) = [name for name, values in made.items() if torch.equal(module(x), values)]
    return found


def facts(name: str) -> dict[str, Any]:
    """What one architecture is."""
    model: Any = timm.create_model(name, num_classes=0, device="meta")
    block, pool = model.blocks[0], model.attn_pool
    assert pool.num_heads == block.attn.num_heads and pool.latent_len == 1
    assert model.pos_embed.shape[1] == model.patch_embed.num_patches and model.cls_token is None
    (activations,) = {activation(b.mlp.act) for b in [*model.blocks, pool]}
    (eps,) = {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}
    (inner,) = {block.mlp.fc1.out_features, pool.mlp.fc1.out_features}
    return {
        "width": model.embed_dim,
        "layers": len(model.blocks),
        "heads": block.attn.num_heads,
        "patch_size": model.patch_embed.patch_size[0],
        "image_size": model.patch_embed.img_size[0],
        "inner": inner,
        "activation": activations,
        "eps": eps,
    }


if __name__ == "__main__":
    names = [name for name in timm.list_models("vit_*_siglip_*") if "_gap_" not in name]
    made = {name: facts(name) for name in sorted(names)}
    (HERE / "timm.json").write_text(json.dumps(made, indent=1) + "\n")
    print(*made, sep="\n")
