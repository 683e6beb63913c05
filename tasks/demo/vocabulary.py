"""The demo model's tokenizer: CLIP's byte-level BPE with merges learnt from the demo's own prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

CONTEXT = 16  # tokens, the start and end tokens included
_WORD_END = "</w>"
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")  # last, as in CLIP: the end token has the highest id

Pair = tuple[str, str]


def learn_tokenizer(prompts: Iterable[str]) -> CLIPTokenizer:
    """A tokenizer in which every word of `prompts` (lower-case ASCII) is one token; any other text can be encoded too.

    The vocabulary holds each of the 256 bytes, inside a word and at its end, so nothing becomes the unknown token.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())  # one printable character for each of the 256 bytes
    merges = learn_merges(Counter(word for prompt in prompts for word in prompt.split()))
    word_ends = (letter + _WORD_END for letter in letters)
    tokens = [*letters, *word_ends, *(left + right for left, right in merges), *_SPECIAL]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def learn_merges(words: Counter[str]) -> list[Pair]:
    """The merges, most frequent first (ties by spelling), that turn every counted word into one token.

    The trainer of `tokenizers` is not used: it leaves out bytes that it has not seen at a word's end, and breaks ties
    in an order that changes from run to run.
    """
    split = {word: [*word[:-1], word[-1] + _WORD_END] for word in words}
    merges = []
    while pairs := _count_pairs(split, words):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: _merge(symbols, best) for word, symbols in split.items()}
    return merges


def _count_pairs(split: dict[str, list[str]], words: Counter[str]) -> Counter[Pair]:
    counts: Counter[Pair] = Counter()
    for word, symbols in split.items():
        for pair in pairwise(symbols):
            counts[pair] += words[word]
    return counts


def _merge(symbols: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged
