"""Limits on the cost of tokenizing with a tokenizer.json, checked by reading it: patterns, growth of texts, and size.

The tokenizers library runs whatever the file says: patterns with exponential backtracking, and replacements that turn a
word into a gigabyte. It has no limits of its own, and may abort the process instead of raising an error.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import CheckpointError
from tasks.clip import limits

_TOKEN = re.compile(
    r"\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|\(\?(?:[:=!>]|<[=!]|[a-z-]+:)|[*+]|\{\d*,?\d*\}|.", re.DOTALL
)
"""One token of a pattern: an escape, class, opening group, repeat or character."""
_ADDED = ("added_tokens", "added_tokens_decoder")
_SPECIAL = ("extra_special_tokens", "additional_special_tokens")
_WRAPPED: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "added_tokens.json": lambda content: {"added_tokens": content},
    "vocab.json": lambda content: {"model": {"vocab": content}},
}
"""Files that hold one part of what a tokenizer.json holds."""
_REPEATS = ("*", "+", "?")
_FEW = 16
"""Bounded repeats up to this number count as written out, not as repeats."""
_LEFT = 4  # bytes: the length of the trie before the replacements of a Precompiled normalizer


def refuse_costly(path: Path, size: int, content: Any) -> None:
    """Refuse a tokenizer's file whose content would make tokenizing too expensive, for a model of `size` tokens.

    Raises:
        CheckpointError: the message says what is too expensive, and the limit.
    """
    if isinstance(content, dict):
        wrapped = _WRAPPED.get(path.name)
        with _told(path):
            _check(content if wrapped is None else wrapped(content), size)


def refuse_costly_pieces(path: Path, size: int) -> None:
    """As `refuse_costly`, for a file of SentencePiece; a file that cannot be parsed is left to the tokenizer's loader.

    Raises:
        CheckpointError: as `refuse_costly`.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    known: Any = sentencepiece_model_pb2  # its classes are created at import, so they have no types
    model = known.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        return
    with _told(path):
        _few({"pieces": list(model.pieces)}, ("pieces",), size + limits.SPARE_TOKENS)
        charsmap = model.normalizer_spec.precompiled_charsmap
        if charsmap and (growth := _longest(charsmap)) > limits.GROWTH:
            raise ValueError(f"its normalizer can make a character {growth:,} long, more than {limits.GROWTH:,}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CheckpointError(
            f"the tokenizer would cost too much: {error}",
            where=path,
            expected="what published tokenizers ask for, and several times as much",
            fix="give the tokenizer that belongs to the checkpoint",
        ) from error


def _check(content: dict[str, Any], size: int) -> None:
    _few(content, _ADDED, limits.ADDED_TOKENS)
    _few(content, _SPECIAL, limits.SPECIAL_TOKENS)
    model = content.get("model")
    if not isinstance(model, dict):
        return
    _few(model, ("vocab",), size + limits.SPARE_TOKENS)
    _few(model, ("merges",), limits.MERGES * size)
    word = model.get("max_input_chars_per_word", 0)
    if isinstance(word, int) and word > limits.WORD:
        raise ValueError(f"model.max_input_chars_per_word is {word:,}, more than {limits.WORD:,}")
    rest = {key: value for key, value in content.items() if key not in ("model", *_ADDED)}
    for number, value in enumerate(_values(rest)):
        if number > limits.TOKENIZER_PARTS:
            raise ValueError(f"more than {limits.TOKENIZER_PARTS:,} values describe how texts are prepared")
        pattern = value.get("Regex") if isinstance(value, dict) else None
        if isinstance(pattern, str) and (why := _explosive(pattern)):
            raise ValueError(f"the pattern {pattern[:60]!r} {why}: texts can be made on which it never ends")
    growth = _growth(content.get("normalizer"))
    if growth > limits.GROWTH:
        raise ValueError(f"its normalizers can make a text {growth:.0e} times longer, more than {limits.GROWTH:,}")


def _few(content: dict[str, Any], keys: Iterable[str], most: int) -> None:
    for key in keys:
        value = content.get(key)
        if isinstance(value, list | dict) and len(value) > most:
            raise ValueError(f"{key} has {len(value):,} entries, more than {most:,}")


def _values(content: Any) -> Iterator[Any]:
    todo = [content]
    while todo:
        value = todo.pop()
        yield value
        todo += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _explosive(pattern: str) -> str | None:
    """Why matching may take exponential time, or a high power of the text's length; None if it does not.

    Inside a repeated group there may be no repeats and no alternatives. A few repeats one after the other are allowed.
    """
    if "\\g" in pattern:
        return "calls itself"
    groups = [_Group()]
    closed, before = _Group(), ""  # the group that has just ended, and the previous token
    for token in _TOKEN.findall(pattern):
        if token == "+" and before in _REPEATS:  # a possessive repeat, which does not backtrack
            continue
        most = _most(token)
        if most > 1 and (closed.branches or (closed.optional and most < math.inf)):
            return "repeats a group that repeats or chooses"
        groups[-1].repeat(most)
        if token == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1].take(closed)
        elif token[0] == "(":
            groups.append(_Group())
        else:
            groups[-1].read(token, before)
        if groups[-1].repeats > limits.REPEATS:
            return f"has more than {limits.REPEATS} repeats in a row"
        if token not in (")", "?"):  # `(a+)?*`
            closed = _Group()
        before = token
    return None


@dataclass
class _Group:
    """An open group: whether something in it repeats or it has alternatives, whether something is optional, and the
    numbers of repeats in the current branch and in the largest earlier branch."""

    branches: bool = False
    optional: bool = False
    repeats: int = 0
    most: int = 0

    def take(self, inner: _Group) -> None:
        """Add a group that has ended inside this one."""
        self.repeats += max(inner.most, inner.repeats)
        self.branches, self.optional = self.branches or inner.branches, self.optional or inner.optional

    def repeat(self, most: float) -> None:
        """Note that the last thing read may occur up to `most` times."""
        self.branches = self.branches or most > 1
        self.repeats += most > _FEW

    def read(self, token: str, before: str) -> None:
        """Note an alternative or something optional; anything else is a character."""
        if token == "|":
            self.branches, self.most, self.repeats = True, max(self.most, self.repeats), 0
        elif token == "?":
            self.optional = self.optional or before not in _REPEATS


def _most(token: str) -> float:
    """The most times that a repeat repeats: 3 for `{,3}` and `{2,3}`, infinity for `{3,}` and `*`; 1 if it is none."""
    if token not in ("*", "+") and (token[0] != "{" or len(token) == 1):
        return 1
    last = token.strip("{}").rpartition(",")[2]
    return int(last) if last.isdecimal() else math.inf


def _growth(normalizer: Any) -> float:
    """How many times longer a text may become at most: the product over all normalizers."""
    growth = 1.0
    for value in _values(normalizer):
        if not isinstance(value, dict):
            continue
        if value.get("type") == "Replace" and isinstance(value.get("content"), str):
            growth *= max(1.0, _of_one(value.get("pattern"), len(value["content"])))
        elif value.get("type") == "Precompiled" and isinstance(value.get("precompiled_charsmap"), str):
            growth *= _longest(base64.b64decode(value["precompiled_charsmap"]))
        elif value.get("type") == "Prepend" and isinstance(value.get("prepend"), str):
            growth *= max(1, len(value["prepend"]))
        if growth > 1e30:
            break
    return growth


def _of_one(pattern: Any, length: int) -> float:
    """How long one character may become; a pattern that can match nothing inserts its text between all characters."""
    text = pattern.get("String") if isinstance(pattern, dict) else None
    if isinstance(text, str) and text:
        return length / len(text)
    plain = isinstance(pattern, dict) and re.fullmatch(r"(?:\\.|\[[^\]]*\]|[^*?|{(^$\\])+", str(pattern.get("Regex")))
    return length if plain else length + 1


def _longest(charsmap: bytes) -> int:
    """Bytes of the longest replacement; the size of the trie is checked, as the library allocates what it says."""
    trie = int.from_bytes(charsmap[:_LEFT], "little")
    if trie % 4 or _LEFT + trie > len(charsmap):
        raise ValueError(f"a precompiled_charsmap of {len(charsmap):,} bytes says that its trie has {trie:,}")
    return max(map(len, charsmap[_LEFT + trie :].split(b"\0")), default=0) or 1
