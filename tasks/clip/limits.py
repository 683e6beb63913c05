"""How large the files and numbers of a checkpoint may be, each with its reason: checked before they are used.

The publisher of a checkpoint may choose any bytes. Each limit is at least four times the largest value in published
models and their tokenizers. Weights have no limit of their own: they are read some megabytes at a time, and their
tensors are those of a configuration within these limits.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType
from typing import Any

from artifacts.errors import CheckpointError, UnsafeCheckpoint
from artifacts.limits import Limits

_MB = 1 << 20
CONFIG = Limits(bytes=4 * _MB, values=400_000)
"""`config.json` and similar files: some kB, or 1.5 MB if they name the 21,000 classes of ImageNet-21k twice."""
HEADER = Limits(bytes=16 * _MB, values=1_000_000)
"""The header of a safetensors file, or the index of its shards: 18 billion parameters are 1,600 tensors, with 150 bytes
and 6 values each."""
TOKENIZER = Limits(bytes=128 * _MB, values=4_000_000)
"""A `tokenizer.json`: that of XLM-V has 901,629 pieces, 60 MB and 2.7 million values."""
FILES: tuple[tuple[str, int], ...] = (
    ("tokenizer.json", TOKENIZER.bytes),
    ("tokenizer_config.json", 8 * _MB),  # 1.2 MB with the 6,400 added tokens of Gemma
    ("tokenizer*.json", TOKENIZER.bytes),
    ("special_tokens_map.json", CONFIG.bytes),
    ("added_tokens.json", CONFIG.bytes),
    ("vocab*", 32 * _MB),  # 12 MB for a million pieces
    ("merges*", 32 * _MB),
    ("*.model", 64 * _MB),  # SentencePiece's: 15 MB for 901,629 pieces
    ("*.spm", 64 * _MB),
    ("*.index.json", HEADER.bytes),
    ("*.json", CONFIG.bytes),
    ("*.jinja", CONFIG.bytes),
)
"""Bytes of the files of model, tokenizer and image processor; the first pattern that matches counts."""

ADDED_TOKENS = 30_000
"""Added tokens beside a vocabulary: 6,400 are the most known, and transformers handles them one by one."""
SPECIAL_TOKENS = 5_000
"""Special tokens among them: 1,600 are the most known, and the time that they take grows with their square."""
SPARE_TOKENS = 5_000
"""Tokens that a vocabulary may have beyond the model's; a few too many are refused only after loading."""
MERGES = 8
"""Merges per token of the model: two at most in published tokenizers, as each way to build a token is one merge."""
TOKENIZER_PARTS = 20_000
"""Values of `tokenizer.json` beside its vocabulary and added tokens: about 1,000 with OpenCLIP's cleaning."""
WORD = 10_000
"""The longest word in characters that WordPiece splits, in quadratic time: 100 in all published tokenizers."""
GROWTH = 10_000
"""How many times longer normalizers may make a text, as an upper bound: OpenCLIP's cleaning has 144."""
REPEATS = 3
"""Unlimited repeats in one branch of a tokenizer's pattern: two in published ones."""

_WIDTH, _HEADS, _LAYERS = (1, 20_480), (1, 512), (1, 256)
_SIDE, _PLACES, _TOKENS = (1, 4096), (1, 65_536), (1, 4_000_000)
SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        # EVA-CLIP-18B is 5,120 wide and 25,600 in its MLPs; EVA02-CLIP-bigE has 64 layers.
        **dict.fromkeys(("hidden_size", "width", "projection_dim", "projection_size", "project_dim"), _WIDTH),
        **dict.fromkeys(("embed_dim", "head_width", "pool_width"), _WIDTH),
        "intermediate_size": (1, 131_072),
        **dict.fromkeys(("num_hidden_layers", "layers"), _LAYERS),
        **dict.fromkeys(("num_attention_heads", "heads", "attn_pooler_heads", "pool_heads"), _HEADS),
        # CLIP-ViT-L-14 was continued at 1,022 pixels; patches are 32 at most.
        "image_size": _SIDE,
        "patch_size": (1, 512),
        "num_channels": (1, 16),
        # 16,384 tokens are the longest context that a published configuration has, 901,629 the largest vocabulary.
        **dict.fromkeys(("max_position_embeddings", "context_length", "num_patches", "max_num_patches"), _PLACES),
        "attn_pooler_queries": _PLACES,
        "type_vocab_size": _PLACES,
        "vocab_size": _TOKENS,
    }
)
"""The smallest and largest values of settings that determine sizes, by their names in transformers and OpenCLIP."""
LARGEST = 100_000_000
"""The largest magnitude of any other whole number in a configuration."""
PICTURE_SIDE = 4096
"""Pixels to which an image processor may scale, pad or crop: 1,022 at most in published ones."""
PICTURE_LEAST = 1024
"""Pixels that are accepted for any model: small models may keep the settings of larger ones."""
PICTURE_GROWTH = 4
"""How many times the model's own side pictures may be scaled to; cropping 224 from 256 is usual."""

_TEMPLATES = "additional_chat_templates"
"""A subfolder whose files transformers reads with a tokenizer."""
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_files(folder: Path) -> None:
    """Check the files in a folder without opening them; links are followed, as readers do.

    Raises:
        UnsafeCheckpoint: there is a pipe, device or socket, which would block its reader or never end; or a link
            through which a file from elsewhere would be published as part of a tokenizer.
        CheckpointError: a file is too large for its kind.
    """
    within = [folder.resolve()]
    if within[0].parent.name == "snapshots":  # in the hub's cache, links lead to blobs beside the snapshots
        within.append(within[0].parent.parent / "blobs")
    for path in _entries(folder):
        try:
            found = path.stat()
        except OSError:  # a broken link counts as a missing file
            continue
        kind = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), None)
        if kind is not None:
            raise UnsafeCheckpoint(
                f"{path.name[:80]!r} is {kind}, not a file",
                where=folder,
                expected="plain files, or links to some",
                fix="remove it, or download the checkpoint again",
            )
        if not path.match("*.safetensors") and not any(path.resolve().is_relative_to(place) for place in within):
            raise UnsafeCheckpoint(
                f"{path.name[:80]!r} is a link that leaves the folder",
                where=folder,
                expected="files of the folder; weights alone may lie elsewhere",
                fix=f"copy the file into the folder: cp --remove-destination {path.resolve()} {path}",
            )
        most = next((most for pattern, most in FILES if fnmatch(path.name, pattern)), None)
        if most is not None and stat.S_ISREG(found.st_mode) and found.st_size > most:
            raise CheckpointError(
                f"{path.name[:80]} has {found.st_size:,} bytes",
                where=folder,
                expected=f"at most {most:,} bytes",
                fix="download the checkpoint again, or save it with save_pretrained",
            )


def _entries(folder: Path) -> Iterator[Path]:
    yield from folder.iterdir()
    if (folder / _TEMPLATES).is_dir():
        yield from (folder / _TEMPLATES).iterdir()


def check_numbers(config: Any, *, where: object) -> None:
    """Check every number of a configuration, in all sections, against its limits.

    Raises:
        CheckpointError: a number is out of range; the message names the setting.
    """
    todo: list[tuple[str, Any]] = [("", config)]
    while todo:
        path, value = todo.pop()
        name = path.rpartition(".")[2]
        if isinstance(value, dict):
            todo += [(f"{path}.{key}".lstrip("."), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            todo += [(path, inner) for inner in value]
        elif name in SIZES and value is not None:
            least, most = SIZES[name]
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise _out_of_range(path, value, f"a whole number from {least:,} to {most:,}", where)
        elif isinstance(value, float) and not math.isfinite(value):
            raise _out_of_range(path, value, "a number", where)
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise _out_of_range(path, value, f"at most {LARGEST:,}", where)


def _out_of_range(name: str, value: Any, expected: str, where: object) -> CheckpointError:
    shown = f"{value!r:.40}" if not isinstance(value, int) or abs(value) < 10**18 else "a number of very many digits"
    return CheckpointError(
        f"the configuration does not describe a model: {name[-120:]} is {shown}",
        where=where,
        expected=expected,
        fix="download the checkpoint again, or save it with save_pretrained",
    )
