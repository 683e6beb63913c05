"""Architectures that OpenCLIP's files only name and do not describe.

Facts of timm's models (https://github.com/huggingface/pytorch-image-models, `timm/models/eva.py`,
`vision_transformer.py`, `vision_transformer_hybrid.py`) and of encoders on the Hugging Face hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: see `tasks.towers.rotary.tables`."""

    reference: int
    offset: float = 0.0
    order: str = "yx"


@dataclass(frozen=True)
class Architecture:
    """An image tower of timm. The width of the MLP is `int(width * mlp_ratio)`."""

    width: int
    layers: int
    heads: int
    patch: int
    mlp_ratio: float = 4.0
    eps: float = 1e-6
    patch_bias: bool = True
    stem: tuple[tuple[int, int], ...] = ()
    """Channels and stride of each convolution of the stem; empty means one convolution makes the patches."""
    pre_norm: bool = False
    class_token: bool = True
    class_position: bool = True
    norm_after: bool = False
    key_bias: bool = True
    inner_norm: bool = False
    gated: bool = False
    mlp_norm: bool = False
    rotary: Rotary | None = None
    pool: str = "class"
    """`class`, or `attention` with `pool_heads`."""
    pool_heads: int = 8
    pool_mlp_ratio: float = 4.0
    activation: str = "gelu"
    image_size: int | None = None
    """The image size that a SigLIP tower's name stands for; None for towers that are built for any size."""
    projected_outside: bool = False
    """Whether OpenCLIP's own projection may replace timm's, with the same pooling and norms."""

    @property
    def mlp_width(self) -> int:
        """The width of the MLP, rounded down as in timm."""
        return int(self.width * self.mlp_ratio)

    @property
    def pool_mlp_width(self) -> int:
        """The width of the MLP after attention pooling, rounded down."""
        return int(self.width * self.pool_mlp_ratio)


def _eva02(width: int, layers: int, heads: int, patch: int) -> Architecture:
    return Architecture(
        width,
        layers,
        heads,
        patch,
        mlp_ratio=4 * 2 / 3,
        key_bias=False,
        inner_norm=True,
        gated=True,
        mlp_norm=True,
        rotary=Rotary(16),
    )


def _perception(width: int, layers: int, heads: int, patch: int, grid: int) -> Architecture:
    return Architecture(
        width,
        layers,
        heads,
        patch,
        eps=1e-5,
        patch_bias=False,
        pre_norm=True,
        rotary=Rotary(grid, offset=1.0, order="xy"),
        pool="attention",
    )


def _siglip(
    size: tuple[int, int, int], patch: int, image_size: int, mlp_ratio: float = 4.0, activation: str = "gelu"
) -> Architecture:
    return Architecture(
        *size,
        patch,
        mlp_ratio=mlp_ratio,
        class_token=False,
        pool="attention",
        pool_heads=size[2],
        pool_mlp_ratio=mlp_ratio,
        activation=activation,
        image_size=image_size,
    )


_B, _L, _SO, _G = (768, 12, 12), (1024, 24, 16), (1152, 27, 16), (1536, 40, 16)
_SO_RATIO = 3.7362
_TANH = "gelu_pytorch_tanh"

TIMM: dict[str, Architecture] = {
    "vit_base_patch32_siglip_256": _siglip(_B, 32, 256, activation=_TANH),
    "vit_base_patch16_siglip_224": _siglip(_B, 16, 224),
    "vit_base_patch16_siglip_256": _siglip(_B, 16, 256),
    "vit_base_patch16_siglip_384": _siglip(_B, 16, 384),
    "vit_base_patch16_siglip_512": _siglip(_B, 16, 512),
    "vit_large_patch16_siglip_256": _siglip(_L, 16, 256),
    "vit_large_patch16_siglip_384": _siglip(_L, 16, 384),
    "vit_large_patch16_siglip_512": _siglip(_L, 16, 512, activation=_TANH),
    "vit_so400m_patch14_siglip_224": _siglip(_SO, 14, 224, _SO_RATIO),
    "vit_so400m_patch14_siglip_378": _siglip(_SO, 14, 378, _SO_RATIO),
    "vit_so400m_patch14_siglip_384": _siglip(_SO, 14, 384, _SO_RATIO),
    "vit_so400m_patch16_siglip_256": _siglip(_SO, 16, 256, _SO_RATIO, _TANH),
    "vit_so400m_patch16_siglip_384": _siglip(_SO, 16, 384, _SO_RATIO, _TANH),
    "vit_so400m_patch16_siglip_512": _siglip(_SO, 16, 512, _SO_RATIO, _TANH),
    "vit_giantopt_patch16_siglip_256": _siglip(_G, 16, 256, activation=_TANH),
    "vit_giantopt_patch16_siglip_384": _siglip(_G, 16, 384, activation=_TANH),
    "eva_giant_patch14_224": Architecture(1408, 40, 16, 14, mlp_ratio=6144 / 1408, key_bias=False),
    "eva02_base_patch16_clip_224": _eva02(768, 12, 12, 16),
    "eva02_large_patch14_clip_224": _eva02(1024, 24, 16, 14),
    "eva02_large_patch14_clip_336": _eva02(1024, 24, 16, 14),
    "eva02_enormous_patch14_clip_224": Architecture(
        1792, 64, 16, 14, mlp_ratio=15360 / 1792, key_bias=False, norm_after=True
    ),
    "vit_pe_core_tiny_patch16_384": _perception(192, 12, 3, 16, 24),
    "vit_pe_core_small_patch16_384": _perception(384, 12, 6, 16, 24),
    "vit_pe_core_base_patch16_224": _perception(768, 12, 12, 16, 14),
    "vit_pe_core_large_patch14_336": _perception(1024, 24, 16, 14, 24),
    "vit_pe_core_gigantic_patch14_448": Architecture(
        1536,
        50,
        16,
        14,
        mlp_ratio=8960 / 1536,
        eps=1e-5,
        patch_bias=False,
        pre_norm=True,
        class_token=False,
        rotary=Rotary(32, order="xy"),
        pool="attention",
    ),
    "vit_base_mci_224": Architecture(768, 12, 12, 16, stem=((192, 4), (192, 2), (768, 2)), class_position=False),
    "vit_large_patch14_clip_224": Architecture(
        1024, 24, 16, 14, eps=1e-5, patch_bias=False, pre_norm=True, projected_outside=True
    ),
    "vit_base_patch16_224": Architecture(768, 12, 12, 16, projected_outside=True),
}
"""Image towers by timm's name (timm 1.0). Which SigLIP towers use the exact GELU follows no rule, only timm's list."""

_BERT = {
    "encoder": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
_ROBERTA = _BERT | {
    "encoder": "roberta",
    "vocab_size": 50265,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}
_XLM_ROBERTA = _ROBERTA | {"encoder": "xlm-roberta", "vocab_size": 250002}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "roberta-base": _ROBERTA,
    "roberta-large": _ROBERTA | _LARGE,
    "xlm-roberta-base": _XLM_ROBERTA,
    "xlm-roberta-large": _XLM_ROBERTA | _LARGE,
    "bert-base-uncased": _BERT,
    "BiomedNLP-PubMedBERT-base-uncased-abstract": _BERT,
    "BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext": _BERT,
    "BiomedNLP-BiomedBERT-base-uncased-abstract": _BERT,
    "BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": _BERT,
}
"""Text encoders by their name on the hub, without the owner."""
