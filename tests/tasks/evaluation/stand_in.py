"""An encoder, a tokenizer and an image processor that cost nothing, in place of a checkpoint's.

An embedding depends on the whole content of a picture or a text, and on nothing else: what a hash of it draws. There
are two kinds. "rough" vectors are random numbers of any length: of different ones no two score alike, and FP16 and FP8
round. "exact" vectors are few, of four halves or a single one, so that many inputs share one, and all their products
are exact in any arithmetic: where two scores tie, nothing but their order may decide.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Literal
from unittest import mock

import numpy as np
from PIL.Image import Image

from tasks.checkpoints.preprocess import Preprocess
from tasks.data.templates import DEFAULT_TEMPLATES
from tasks.pipeline import embedding

Kind = Literal["rough", "exact"]
KINDS: tuple[Kind, ...] = ("rough", "exact")
CONTEXT = 24
FILLERS = frozenset(re.findall("[a-z]+", " ".join((*DEFAULT_TEMPLATES, "the digit here"))))
"""Words that are no tokens to the exact encoder: all prompts of a class are one to it, whose mean is exact."""


def tokens(text: str, kind: Kind) -> tuple[str, ...]:
    """The words of a text: letters and digits without case and accents, in either Unicode form."""
    plain = unicodedata.normalize("NFKD", text.casefold()).casefold()
    words = "".join(c for c in plain if c.isalnum() or c.isspace()).split()
    return tuple(word for word in words if kind == "rough" or word not in FILLERS)


def vector(content: bytes, kind: Kind, precision: str) -> np.ndarray:
    """The embedding of an input, float32."""
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little")
    rng = np.random.default_rng(seed)
    if kind == "exact":
        return _exact(rng, flipped=precision == "fp8")
    row = rng.standard_normal(16) * 10 ** rng.uniform(-1, 1)
    if precision == "fp16":
        row = row.astype(np.float16).astype(np.float64)
    if precision == "fp8":
        part, exponent = np.frexp(row)
        row = np.ldexp(np.round(part * 8) / 8, exponent)  # three bits
    return row.astype(np.float32)


def _exact(rng: np.random.Generator, *, flipped: bool) -> np.ndarray:
    """FP16 is FP32; FP8 turns the sign of one number around, of half the inputs."""
    row = rng.choice([-0.5, 0.5], 4) if rng.random() < 0.7 else np.eye(4)[rng.integers(4)] * rng.choice([-1, 1])
    row, turned = row * 2.0 ** rng.integers(-2, 3), rng.random() < 0.5
    place = rng.choice(np.flatnonzero(row))
    if flipped and turned:
        row[place] *= -1
    return (row + 0.0).astype(np.float32)  # without -0, which has other bits


def image_content(pixels: np.ndarray) -> bytes:
    """What the embedding of a picture (h, w, 3) of uint8 hangs on."""
    return pixels.astype(np.uint8).tobytes()


def text_content(words: Sequence[str]) -> bytes:
    """What the embedding of a text hangs on: its tokens."""
    return _ids(words).tobytes()


def _ids(words: Sequence[str]) -> np.ndarray:
    ids = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:6], "little") for word in words[:CONTEXT]]
    return np.array(ids + [0] * (CONTEXT - len(ids)), dtype=np.int64)


class Processor(Preprocess):
    """Pixels as they are, and the hashes of words."""

    def __init__(self, kind: Kind) -> None:
        self.context, self._masked, self._kind = CONTEXT, False, kind

    def image(self, picture: Image) -> np.ndarray:
        assert picture.mode == "RGB"
        return np.asarray(picture).transpose(2, 0, 1).astype(np.float32)

    def _tokens_and_mask(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = np.stack([_ids(tokens(text, self._kind)) for text in texts])
        return ids, (ids != 0).astype(np.int64)

    def too_long(self, texts: list[str]) -> list[int]:
        return [place for place, text in enumerate(texts) if len(tokens(text, self._kind)) > CONTEXT]


class Runner:
    """A Polygraphy runner. FP16 and FP8 add the last bit to some numbers of a text, by its place among those that were
    run: what rounding does, which is another in every batch."""

    name = "stand-in"

    def __init__(self, kind: Kind, precision: str) -> None:
        self._kind, self._precision = kind, precision
        self._steps = cycle((0, 1, 2, 0, 2, 1, 1))

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infer(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if "pixel_values" in feed:
            pictures = feed["pixel_values"].transpose(0, 2, 3, 1)
            return {"image_embeds": np.stack([self._vector(image_content(pixels)) for pixels in pictures])}
        rows = [self._vector(ids.tobytes()) for ids in feed["input_ids"]]
        if self._kind == "rough" and self._precision != "fp32":
            rows = [_nudged(row, next(self._steps)) for row in rows]
        return {"text_embeds": np.stack(rows)}

    def _vector(self, content: bytes) -> np.ndarray:
        return vector(content, self._kind, self._precision)


def _nudged(row: np.ndarray, step: int) -> np.ndarray:
    made = row.copy()
    made[step::3] = np.nextafter(made[step::3], np.float32(np.inf))
    return made


class Snapshot:
    """Stands where a step is given a checkpoint."""

    def cache_identity(self) -> str:
        """Part of the step's key."""
        return "stand-in"


@contextmanager
def stand_in(kind: Kind, precision: str = "fp32") -> Iterator[Any]:
    """A snapshot to give to the steps, which find the stand-ins in place of what they would load for it."""
    with (
        mock.patch.object(Preprocess, "of", lambda *_: Processor(kind)),
        mock.patch.object(embedding, "_torch_runner", lambda *_: Runner(kind, precision)),
    ):
        yield Snapshot()
