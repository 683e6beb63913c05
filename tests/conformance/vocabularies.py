"""Small tokenizers of every kind that published checkpoints bring, written as the files that they bring."""

from __future__ import annotations

import io
import json
import string
from functools import cache
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"
CHINESE = ("一张", "猫", "的", "照片")
WORDS = (*("a", "photo", "of", "the", "digit", "number", "seven", "eight", "two", "cats", "on", "an", "old"), *CHINESE)
MERGES = ("t h", "th e</w>", "a n", "o f</w>", "p h", "i n", "e r", "o n</w>")
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
BERT_SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def byte_level_vocabulary(start: int, end: int) -> dict[str, int]:
    """CLIP's: bytes, bytes at a word's end, what merges make, and the two tokens around every text."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in MERGES)]
    tokens += [f"<|{number}|>" for number in range(len(tokens), max(start, end) - 1)]  # nothing is merged into these
    places = iter(number for number in range(len(tokens) + 2) if number not in (start, end))
    return {token: next(places) for token in tokens} | {START: start, END: end}


def byte_level(folder: Path, start: int, end: int) -> None:
    """`vocab.json` and `merges.txt`."""
    (folder / "vocab.json").write_text(json.dumps(byte_level_vocabulary(start, end)), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")


def word_pieces(folder: Path) -> None:
    """`vocab.txt`, its special tokens where BERT has them; texts in Chinese are read by the character."""
    marks = [f"[unused{number}]" for number in range(104)]
    for token, number in BERT_SPECIAL.items():
        marks[number] = token
    characters = [*string.ascii_lowercase, *string.digits, *",.!?'", *"".join(CHINESE)]
    tokens = [*marks, *characters, *(f"##{c}" for c in string.ascii_lowercase), *(w for w in WORDS if w.isascii())]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)) + "\n", encoding="utf-8")


@cache
def _sentence_pieces(pad: int, unknown: int, begin: int, end: int) -> bytes:
    import sentencepiece

    lines = [" ".join(WORDS[first:] + WORDS[:first]) for first in range(len(WORDS))] * 8
    lines += [" ".join(string.ascii_lowercase + string.digits + string.punctuation)] * 8
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=made,
        vocab_size=160,
        model_type="unigram",
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        pad_id=pad,
        unk_id=unknown,
        bos_id=begin,
        eos_id=end,
    )
    return made.getvalue()


def siglip_pieces(folder: Path) -> None:
    """`spiece.model`, in which the end token is 1 and the unknown token 2."""
    (folder / "spiece.model").write_bytes(_sentence_pieces(0, 2, -1, 1))


def xlm_roberta_pieces(folder: Path) -> None:
    """`sentencepiece.bpe.model`, as XLM-RoBERTa's: its numbers are one lower than the tokenizer's."""
    (folder / "sentencepiece.bpe.model").write_bytes(_sentence_pieces(-1, 0, 1, 2))


def gemma(folder: Path) -> None:
    """`tokenizer.json` alone: byte pairs over characters, spaces written as an underline, an end token after all."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    tokens = [*GEMMA, *(f"<0x{number:02X}>" for number in range(256)), "▁", *map(chr, range(33, 127)), "th", "▁a"]
    model = models.BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[("t", "h"), ("▁", "a")],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    made = Tokenizer(model)
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    made.add_special_tokens(list(GEMMA))
    made.save(str(folder / "tokenizer.json"))
