"""Where OpenCLIP's and timm's files keep the towers' parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tasks.clip.base import Piece

Shapes = Mapping[str, tuple[int, ...]]
_Found = Iterator[tuple[str, Piece | None]]

_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_IN_BLOCK = {
    # OpenCLIP's
    "ln_1": "norm1",
    "ln_2": "norm2",
    "attn.out_proj": "attention.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    # timm's
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.out_proj",
    "attn.norm": "attention.norm",
    "attn.q_proj": "attention.q_proj",
    "attn.k_proj": "attention.k_proj",
    "attn.v_proj": "attention.v_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc1_g": "mlp.gate",
    "mlp.fc1_x": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "mlp.norm": "mlp.norm",
}
_SCALES = {"attn.out_proj": "ls_1.gamma", "mlp.c_proj": "ls_2.gamma"}
_BIASES = {"attn.q_bias": "q_proj", "attn.v_bias": "v_proj"}
_VISUAL = {
    "class_embedding": "class_embedding",
    "positional_embedding": "positions",
    "conv1.weight": "patch_embedding.weight",
    "ln_pre.weight": "pre_norm.weight",
    "ln_pre.bias": "pre_norm.bias",
    "ln_post.weight": "norm.weight",
    "ln_post.bias": "norm.bias",
    "attn_pool.ln_q.weight": "pool.query_norm.weight",
    "attn_pool.ln_q.bias": "pool.query_norm.bias",
    "attn_pool.ln_k.weight": "pool.values_norm.weight",
    "attn_pool.ln_k.bias": "pool.values_norm.bias",
    "attn_pool.attn.q_proj_weight": "pool.attention.q_proj.weight",
    "attn_pool.attn.k_proj_weight": "pool.attention.k_proj.weight",
    "attn_pool.attn.v_proj_weight": "pool.attention.v_proj.weight",
    "attn_pool.attn.out_proj.weight": "pool.attention.out_proj.weight",
    "attn_pool.attn.out_proj.bias": "pool.attention.out_proj.bias",
    "head.proj.weight": "projection.weight",
    "head.proj.bias": "projection.bias",
}
_TRUNK = {
    "patch_embed.proj.weight": "patch_embedding.weight",
    "patch_embed.proj.bias": "patch_embedding.bias",
    "norm_pre.weight": "pre_norm.weight",
    "norm_pre.bias": "pre_norm.bias",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
    "head.weight": "projection.weight",
    "head.bias": "projection.bias",
    "attn_pool.q.weight": "pool.attention.q_proj.weight",
    "attn_pool.q.bias": "pool.attention.q_proj.bias",
    "attn_pool.proj.weight": "pool.attention.out_proj.weight",
    "attn_pool.proj.bias": "pool.attention.out_proj.bias",
    "attn_pool.norm.weight": "pool.norm.weight",
    "attn_pool.norm.bias": "pool.norm.bias",
    "attn_pool.mlp.fc1.weight": "pool.mlp.fc1.weight",
    "attn_pool.mlp.fc1.bias": "pool.mlp.fc1.bias",
    "attn_pool.mlp.fc2.weight": "pool.mlp.fc2.weight",
    "attn_pool.mlp.fc2.bias": "pool.mlp.fc2.bias",
}
_TEXT = {
    "token_embedding.weight": "token_embedding.weight",
    "positional_embedding": "positions",
    "cls_emb": "class_embedding",
    "ln_final.weight": "norm.weight",
    "ln_final.bias": "norm.bias",
    "text_projection.weight": "projection.weight",
    "text_projection.bias": "projection.bias",
    "proj.weight": "projection.weight",
    "proj.0.weight": "projection.fc1.weight",
    "proj.2.weight": "projection.fc2.weight",
}
_BLOCK = re.compile(r"(?:transformer\.resblocks|blocks)\.(\d+)\.(.+)")
_STACK = re.compile(r"attn\.(?:in_proj_|qkv\.)(weight|bias)")
_POOL_STACK = re.compile(r"attn_pool\.(?:attn\.in_proj_|kv\.)(weight|bias)")
_STEM = re.compile(r"patch_embed\.backbone\.(\d+)\.(conv|bn)\.(\w+)")
_ENCODER = re.compile(r"transformer\.(embeddings|encoder|pooler)\.")
_NO_PARAMETERS = re.compile(r"logit_scale|logit_bias|text_decoder\..*|.*\.(?:position_ids|num_batches_tracked)")


def find_pieces(stored: Shapes) -> dict[str, Piece | None]:
    """Every parameter of the two towers by our name; None for tensors that no embedding depends on."""
    found: dict[str, Piece | None] = {}
    for name in stored:
        found.update(_pieces(name, stored))
    return found


def _pieces(name: str, stored: Shapes) -> _Found:
    if _NO_PARAMETERS.fullmatch(name):
        yield name, None
    elif name.startswith("visual.trunk."):
        yield from _of("vision_model", name, "visual.trunk.", _TRUNK, stored)
    elif name.startswith("visual."):
        yield from _of("vision_model", name, "visual.", _VISUAL, stored)
    else:
        yield from _of("text_model", name, "text." if name.startswith("text.") else "", _TEXT, stored)


def _of(tower: str, name: str, prefix: str, outside: Mapping[str, str], stored: Shapes) -> _Found:
    plain, shape = name.removeprefix(prefix), stored[name]
    if plain in outside:
        # timm keeps the axis of the batch in what is the same for all pictures.
        yield f"{tower}.{outside[plain]}", Piece(name)
    elif plain in ("pos_embed", "cls_token", "attn_pool.latent"):
        target = {"pos_embed": "positions", "cls_token": "class_embedding", "attn_pool.latent": "pool.latent"}[plain]
        yield f"{tower}.{target}", Piece(name, shape=shape[2:] if plain == "cls_token" else shape[1:])
    elif plain in ("proj", "text_projection"):
        yield f"{tower}.projection.weight", Piece(name, transposed=True)
    elif plain == "attn_pool.query":  # the image's embedding is what the first query finds
        yield f"{tower}.pool.latent", Piece(name, rows=(0, 1))
    elif match := _BLOCK.fullmatch(plain):
        yield from _in_block(f"{tower}.layers.{match[1]}", match[2], name, stored)
    elif match := _POOL_STACK.fullmatch(plain):
        stacked = _PROJECTIONS[1:] if plain.startswith("attn_pool.kv") else _PROJECTIONS
        yield from _stack(f"{tower}.pool.attention", stacked, match[1], name, shape)
    elif match := _STEM.fullmatch(plain):
        yield from _in_stem(f"{tower}.patch_embedding.convolutions.{match[1]}", match[2], match[3], name, stored)
    elif _ENCODER.match(plain):
        yield f"{tower}.encoder.{plain.removeprefix('transformer.')}", Piece(name)


def _in_block(block: str, plain: str, name: str, stored: Shapes) -> _Found:
    """A layer scale multiplies what a projection gives: it becomes part of that projection."""
    module, _, kind = plain.rpartition(".")
    if plain in _BIASES:
        yield f"{block}.attention.{_BIASES[plain]}.bias", Piece(name)
    elif match := _STACK.fullmatch(plain):
        yield from _stack(f"{block}.attention", _PROJECTIONS, match[1], name, stored[name])
    elif module in _IN_BLOCK:
        gamma = f"{name.removesuffix(plain)}{_SCALES.get(module)}"
        yield f"{block}.{_IN_BLOCK[module]}.{kind}", Piece(name, scale=gamma if gamma in stored else None)


def _stack(attention: str, projections: tuple[str, ...], kind: str, name: str, shape: tuple[int, ...]) -> _Found:
    """Projections whose rows are stored one after the other in one tensor."""
    size = shape[0] // len(projections)
    for index, projection in enumerate(projections):
        yield f"{attention}.{projection}.{kind}", Piece(name, rows=(index * size, (index + 1) * size))


def _in_stem(convolution: str, part: str, kind: str, name: str, stored: Shapes) -> _Found:
    """A batch norm behind a convolution becomes part of it: its scale of the weight, what is left the bias."""
    norm = f"{name.removesuffix(f'.{part}.{kind}')}.bn"
    normed = norm if f"{norm}.weight" in stored else None
    if part == "conv":
        yield f"{convolution}.{kind}", Piece(name, batch_norm=normed)
    elif kind == "bias":
        yield f"{convolution}.bias", Piece(name, batch_norm=normed)
