"""Checkpoints that were made to harm whoever looks at them: each with what it is after, and why it fails."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ZEROS = Path("/dev/zero")


@dataclass(frozen=True)
class Attack:
    """What is done to a sound checkpoint of the demo's kind; `told` is in the message, a pattern."""

    name: str
    why: str
    told: str
    make: Callable[[Path], object]


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """A JSON file of the folder, changed."""

    def make(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return make


def _config(**more: Any) -> Callable[[Path], object]:
    def change(content: dict[str, Any]) -> None:
        for path, value in more.items():
            section, _, key = path.rpartition("__")
            (content[section] if section else content)[key] = value

    return edit("config.json", change)


def _tokenizer(**more: Any) -> Callable[[Path], object]:
    """transformers' class for any tokenizer.json runs all of it; CLIP's would put most of it together itself."""

    def make(folder: Path) -> None:
        edit("tokenizer.json", lambda content: content.update(more))(folder)
        edit("tokenizer_config.json", lambda c: c.update(tokenizer_class="PreTrainedTokenizerFast"))(folder)

    return make


def _instead(name: str, put: Callable[[Path], object]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        put(folder / name)

    return make


def _text(name: str, text: Callable[[], str]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text())


def _sparse(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, size)


def _header(header: Callable[[], bytes]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        data = header()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)

    return make


def _pieces(folder: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.normalizer_spec.precompiled_charsmap = b"\xff\xff\xff\xffabcd"
    (folder / "spiece.model").write_bytes(model.SerializeToString())


def _openclip(**more: Any) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "config.json").unlink()
        (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")
        model: dict[str, Any] = {"embed_dim": 32, "vision_cfg": {"layers": 2}, "text_cfg": {"layers": 2}}
        for path, value in more.items():
            section, _, key = path.rpartition("__")
            (model[section] if section else model)[key] = value
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))

    return make


_NUMBER = "A model of this size would take hours or terabytes to build. Its number is compared before it is built."
_WAIT = "Whoever opens it waits for ever, or reads without end. What lies there is looked at before it is opened."
_SIZE = "Reading it takes gigabytes. Its size is asked first."
_PATTERN = "The search doubles its steps with each letter. The form of the pattern gives it away."
_ABORT = "The tokenizers library asks for as much memory as the file says, and aborts. What it says is compared first."


def _replaced(pattern: str, content: str = "") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


ATTACKS = (
    Attack("wide", _NUMBER, "vision_config.hidden_size is 1000000000", _config(vision_config__hidden_size=10**9)),
    Attack("deep", _NUMBER, "num_hidden_layers is 1000000", _config(vision_config__num_hidden_layers=10**6)),
    Attack("words", _NUMBER, "text_config.vocab_size", _config(text_config__vocab_size=10**12)),
    Attack("long", _NUMBER, "max_position_embeddings", _config(text_config__max_position_embeddings=10**9)),
    Attack("old-name", _NUMBER, "text_config_dict.vocab_size", _config(text_config_dict={"vocab_size": 10**12})),
    Attack("projection", _NUMBER, "projection_dim", _config(projection_dim=10**9)),
    Attack("other", _NUMBER, "at most 100,000,000", _config(vision_config__whatever=10**12)),
    Attack("no-heads", "Divides by zero.", "num_attention_heads is 0", _config(vision_config__num_attention_heads=0)),
    Attack("negative", "Passed once.", "attention_heads is -4", _config(vision_config__num_attention_heads=-4)),
    Attack("no-patch", "Divides by zero.", "patch_size is 0", _config(vision_config__patch_size=0)),
    Attack("text", "Is compared as a text.", "hidden_size is '64'", _config(vision_config__hidden_size="64")),
    Attack("true", "Is a number to Python.", "layers is True", _config(vision_config__num_hidden_layers=True)),
    Attack(
        "infinite",
        "JSON has no infinity, but a number this large is one to Python.",
        "logit_scale_init_value is inf",
        _text("config.json", lambda: '{"logit_scale_init_value": 1e999}'),
    ),
    Attack("digits", _NUMBER, "very many digits", _text("config.json", lambda: '{"a": ' + "9" * 4200 + "}")),
    Attack("sparse-config", _SIZE, "config.json has", _sparse("config.json", 8 << 30)),
    Attack("sparse-tokenizer", _SIZE, "tokenizer.json has", _sparse("tokenizer.json", 8 << 30)),
    Attack(
        "lists", "Twenty times the file in memory.", "values", _text("config.json", lambda: "[" + "[]," * 10**6 + "1]")
    ),
    Attack("pipe", _WAIT, "'config.json' is a pipe", _instead("config.json", os.mkfifo)),
    Attack("tokenizer-pipe", _WAIT, "'tokenizer.json' is a pipe", _instead("tokenizer.json", os.mkfifo)),
    Attack("template-pipe", _WAIT, "is a pipe", _instead("chat_template.jinja", os.mkfifo)),
    Attack("adapter-pipe", _WAIT, "is a pipe", _instead("adapter_config.json", os.mkfifo)),
    Attack("zeros", _WAIT, "is a device", _instead("model.safetensors", lambda path: path.symlink_to(ZEROS))),
    Attack(
        "stolen",
        "A private file of whoever optimizes would be published as a vocabulary. Links must not leave the folder.",
        "'merges.txt' is a link that leaves the folder",
        lambda folder: (folder / "merges.txt").symlink_to("/etc/hostname"),
    ),
    Attack(
        "kernel",
        "transformers fetches and runs a kernel of this name. It is no name of an attention that it brings along.",
        "is code from elsewhere",
        edit("config.json", lambda c: c["vision_config"].update(_attn_implementation="kernels-community/evil")),
    ),
    Attack(
        "huge-pictures",
        "Every picture is scaled to 60,000 pixels and more. Lengths are compared with the model's before one is made.",
        "size shortest_edge=60000",
        edit("preprocessor_config.json", lambda content: content.update(size={"shortest_edge": 60_000})),
    ),
    Attack("header", _SIZE, "larger than", _header(lambda: b"{}" + b" " * (17 << 20))),
    Attack(
        "header-lies",
        _SIZE,
        "header too large",
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 7 + b"\x7f{}"),
    ),
    Attack("tensors", _SIZE, "values", _header(lambda: b'{"a":[' + b"[]," * 1_100_000 + b"[]]}")),
    Attack("steps", _PATTERN, "repeats a group", _tokenizer(normalizer=_replaced(r"(a*)*$|(.*a){25}x"))),
    Attack("choices", _PATTERN, "repeats a group", _tokenizer(normalizer=_replaced(r"(.|.)*\d\z"))),
    Attack("left-out", _PATTERN, "repeats a group", _tokenizer(normalizer=_replaced("(a?){50}a{50}"))),
    Attack("in-a-row", _PATTERN, "in a row", _tokenizer(normalizer=_replaced(r"\w*\w*\w*\w*x"))),
    Attack("recursive", _PATTERN, "calls itself", _tokenizer(normalizer=_replaced(r"(?<n>a|b\g<n>c)"))),
    Attack(
        "growth",
        "Six replacements make 64 million letters of each. What all of them can make is multiplied.",
        "6e\\+07 times longer",
        _tokenizer(normalizer={"type": "Sequence", "normalizers": [_replaced(".", "a" * 20)] * 6}),
    ),
    Attack(
        "trie",
        _ABORT,
        "says that its trie has 4,294,967,295",
        _tokenizer(
            normalizer={
                "type": "Precompiled",
                "precompiled_charsmap": base64.b64encode(b"\xff" * 4 + b"x" * 9).decode(),
            }
        ),
    ),
    Attack("pieces", _ABORT, "spiece.model|says that its trie", _pieces),
    Attack(
        "panic",
        "A panic is no Exception to Python, and ended the run with a hundred lines.",
        "the tokenizer fails: chunk size must be non-zero",
        _tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}),
    ),
    Attack(
        "special",
        "The time that special tokens take grows with their square.",
        "extra_special_tokens has 60,000 entries",
        edit("tokenizer_config.json", lambda c: c.update(extra_special_tokens=[f"<{n}>" for n in range(60_000)])),
    ),
    Attack(
        "vocabulary",
        "Building it takes a gigabyte and a minute. The model has fewer tokens than that.",
        "vocab has 20,000 entries, more than",
        edit("tokenizer.json", lambda c: c["model"].update(vocab={f"a{n}": n for n in range(20_000)})),
    ),
    Attack("openclip-deep", _NUMBER, "vision_cfg.layers is 1000000", _openclip(vision_cfg__layers=10**6)),
    Attack("openclip-heads", "Divides by zero.", "head_width is 0", _openclip(vision_cfg__head_width=0)),
    Attack("openclip-words", _NUMBER, "text_cfg.vocab_size", _openclip(text_cfg__vocab_size=10**12)),
    Attack("openclip-wide", _NUMBER, "embed_dim", _openclip(embed_dim=10**12)),
    Attack("openclip-pipe", _WAIT, "is a pipe", _instead("open_clip_config.json", os.mkfifo)),
)
