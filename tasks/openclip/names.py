"""Mapping a model's parameters to the tensors of OpenCLIP's and timm's files.

Layout: https://github.com/mlfoundations/open_clip (`src/open_clip/model.py`, `transformer.py`) and timm
(`vision_transformer.py`, `eva.py`, `attention_pool.py`). Parameters have the names of our own towers (`tasks.towers`);
for transformers' classes they are renamed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tasks.clip.base import PROJECTIONS, Piece, stacked

Shapes = Mapping[str, tuple[int, ...]]
_Found = Iterator[tuple[str, Piece]]

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
    "conv1": "patch_embedding",
    "ln_pre": "pre_norm",
    "ln_post": "norm",
    "attn_pool.ln_q": "pool.query_norm",
    "attn_pool.ln_k": "pool.values_norm",
    "attn_pool.attn.q_proj_weight": "pool.attention.q_proj.weight",
    "attn_pool.attn.k_proj_weight": "pool.attention.k_proj.weight",
    "attn_pool.attn.v_proj_weight": "pool.attention.v_proj.weight",
    "attn_pool.attn.out_proj": "pool.attention.out_proj",
    "head.proj": "projection",
}
_TRUNK = {
    "patch_embed.proj": "patch_embedding",
    "norm_pre": "pre_norm",
    "norm": "norm",
    "head": "projection",
    "attn_pool.q": "pool.attention.q_proj",
    "attn_pool.proj": "pool.attention.out_proj",
    "attn_pool.norm": "pool.norm",
    "attn_pool.mlp.fc1": "pool.mlp.fc1",
    "attn_pool.mlp.fc2": "pool.mlp.fc2",
}
_TEXT = {
    "token_embedding": "token_embedding",
    "positional_embedding": "positions",
    "cls_emb": "class_embedding",
    "ln_final": "norm",
    "text_projection": "projection",
    # Of encoders that are transformers'.
    "proj": "projection",
    "proj.0": "projection.fc1",
    "proj.2": "projection.fc2",
    "transformer.embeddings": "encoder.embeddings",
    "transformer.encoder": "encoder.encoder",
    "transformer.pooler": "encoder.pooler",
}
_TOWERS = (
    ("visual.trunk.", "vision_model", _TRUNK),
    ("visual.", "vision_model", _VISUAL),
    ("text.", "text_model", _TEXT),
    ("", "text_model", _TEXT),
)
_TRANSPOSED = ("proj", "text_projection")
_BATCHED = {"pos_embed": "positions", "cls_token": "class_embedding", "attn_pool.latent": "pool.latent"}
_BLOCK = re.compile(r"(?:transformer\.resblocks|blocks)\.(\d+)\.(.+)")
_STACK = re.compile(r"attn\.(?:in_proj_|qkv\.)(weight|bias)")
_POOL_STACK = re.compile(r"attn_pool\.(?:attn\.in_proj_|kv\.)(weight|bias)")
_STEM = re.compile(r"patch_embed\.backbone\.(\d+)\.(conv|bn)\.(\w+)")
_OUR_BLOCK = re.compile(r"(\w+)\.layers\.(\d+)\.(.+)")
_CLIPS_BLOCK = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attention": "self_attn"}


def find_pieces(stored: Shapes) -> dict[str, Piece]:
    """The parameters in the stored tensors, by their names in our towers; unknown tensors are skipped.

    `stored` maps the tensors' names to shapes.
    """
    found: dict[str, Piece] = {}
    for name in stored:
        prefix, tower, outside = next(each for each in _TOWERS if name.startswith(each[0]))
        found.update(_pieces(tower, name, name.removeprefix(prefix), outside, stored))
    return found


def as_transformers(pieces: Mapping[str, Piece], outside: Mapping[str, str]) -> dict[str, Piece | None]:
    """The pieces by the names of one of transformers' classes, whose blocks are named as in CLIP.

    `outside` maps our names to those of its parameters and modules outside the blocks. A parameter that the class does
    not have keeps our name, and so is refused later as not part of the model.
    """
    renamed: dict[str, Piece | None] = {}
    for name, piece in pieces.items():
        if match := _OUR_BLOCK.fullmatch(name):
            inside = _moved(match[3], _CLIPS_BLOCK) or match[3]
            renamed[f"{match[1]}.encoder.layers.{match[2]}.{inside}"] = piece
        else:
            renamed[_moved(name, outside) or name] = piece
    return renamed


def _moved(name: str, names: Mapping[str, str]) -> str | None:
    """The name with its longest prefix (of whole parts) that is in `names` replaced; None if no prefix is."""
    beginning = name
    while beginning:
        if beginning in names:
            return names[beginning] + name[len(beginning) :]
        beginning = beginning.rpartition(".")[0]
    return None


def _pieces(tower: str, name: str, plain: str, outside: Mapping[str, str], stored: Shapes) -> _Found:
    """The parameters in one tensor; `plain` is its name inside the tower."""
    shape = stored[name]
    if plain in _TRANSPOSED:
        yield f"{tower}.projection.weight", Piece(name, transposed=True)
    elif target := _moved(plain, outside):
        yield f"{tower}.{target}", Piece(name)
    elif target := _BATCHED.get(plain):  # timm stores these with a batch axis of length 1
        yield f"{tower}.{target}", Piece(name, shape=shape[2:] if plain == "cls_token" else shape[1:])
    elif plain == "attn_pool.query":  # only the first query gives the image's embedding
        yield f"{tower}.pool.latent", Piece(name, rows=(0, 1))
    elif match := _BLOCK.fullmatch(plain):
        yield from _in_block(f"{tower}.layers.{match[1]}", match[2], name, stored)
    elif match := _POOL_STACK.fullmatch(plain):
        parts = PROJECTIONS[1:] if plain.startswith("attn_pool.kv") else PROJECTIONS
        yield from stacked(name, shape, [f"{tower}.pool.attention.{each}.{match[1]}" for each in parts]).items()
    elif match := _STEM.fullmatch(plain):
        yield from _in_stem(f"{tower}.patch_embedding.convolutions.{match[1]}", match[2], match[3], name, stored)


def _in_block(block: str, plain: str, name: str, stored: Shapes) -> _Found:
    """The parameters in a block's tensor. A layer scale multiplies a projection's output, so it is merged into the
    projection."""
    if plain in _BIASES:
        yield f"{block}.attention.{_BIASES[plain]}.bias", Piece(name)
    elif match := _STACK.fullmatch(plain):
        parts = [f"{block}.attention.{each}.{match[1]}" for each in PROJECTIONS]
        yield from stacked(name, stored[name], parts).items()
    elif target := _moved(plain, _IN_BLOCK):
        gamma = f"{name.removesuffix(plain)}{_SCALES.get(plain.rpartition('.')[0])}"
        yield f"{block}.{target}", Piece(name, scale=gamma if gamma in stored else None)


def _in_stem(convolution: str, part: str, kind: str, name: str, stored: Shapes) -> _Found:
    """The parameters in a stem's tensor. A batch norm after a convolution is merged into it: its scale into the weight,
    the rest into the bias."""
    norm = f"{name.removesuffix(f'.{part}.{kind}')}.bn"
    normed = norm if f"{norm}.weight" in stored else None
    if part == "conv":
        yield f"{convolution}.{kind}", Piece(name, batch_norm=normed)
    elif kind == "bias":
        yield f"{convolution}.bias", Piece(name, batch_norm=normed)
