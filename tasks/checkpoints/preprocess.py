"""A checkpoint's tokenizer and image processor: saved as transformers loads them, used without torchvision."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifacts.config_files import mapping, read_file
from artifacts.errors import CheckpointError
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.checkpoints.snapshot import Snapshot, one_line
from tasks.clip.base import MASK
from tasks.clip.hugging_face import ClipFamily
from tasks.clip.limits import PICTURE_GROWTH, PICTURE_LEAST, PICTURE_SIDE, TOKENIZER
from tasks.families import family_named

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURE_SIZES = ((96, 96), (128, 64), (64, 128), (900, 700))
"""Widths and heights of the test pictures: larger and smaller than models' inputs, wide and tall."""
_LEAST_CONTEXT = 3
TEXTS_AT_A_TIME = 4096
"""The number of texts that are tokenized in one call."""
_CHUNK = 1 << 16
_stderr = threading.Lock()
_PANIC = "PanicException"
"""The name of PyO3's class of panics, which cannot be imported."""
_SAVED_TOKENIZER = "tokenizer files as save_pretrained wrote them"
_SAVE_PROCESSOR = "save the model's processor into the folder: AutoProcessor(...).save_pretrained(folder)"


class Processor:
    """Turns pictures and texts into model inputs, as the checkpoint's own processor does.

    `context` is the text encoder's number of tokens, start and end included; `masked`: it also takes a mask.
    """

    def __init__(self, folder: Path, family: ClipFamily, *, context: int, masked: bool) -> None:
        self._tokenizer, self._images = _load(folder, family, None)
        self._folder = folder
        self.context = context
        self._masked = masked

    def __getstate__(self) -> dict[str, Any]:
        """Without the tokenizer, for processes that only process pictures: it is large, and some cannot be pickled."""
        return self.__dict__ | {"_tokenizer": None}

    @property
    def tokenizer_class(self) -> str:
        """The name of transformers' class."""
        return type(self._tokenizer).__name__

    @property
    def image_processor_class(self) -> str:
        """The name of transformers' class, without the part that says it runs on Pillow."""
        return _name(self._images)

    def image(self, picture: Image) -> NDArray[np.float32]:
        """One RGB picture to pixel values (3, H, W). Called from several threads at once."""
        pixels = self._images(images=picture, return_tensors="np")["pixel_values"][0]
        return np.asarray(pixels, dtype=np.float32)

    def levels(self) -> NDArray[np.float32] | None:
        """The pixel values of the 256 levels of each channel, (3, 256), computed by the processor's own steps after
        resizing and cropping. None if the processor's class does not support that."""
        from PIL import Image

        ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
        only = {"do_resize": False, "do_center_crop": False, "do_pad": False}
        try:
            made = self._images(images=Image.fromarray(ramp), return_tensors="np", **only)["pixel_values"][0]
            return np.asarray(made, dtype=np.float32).reshape(3, 256)
        except Exception:  # noqa: BLE001 - transformers' classes raise errors of any kind
            return None

    def text(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Texts to token ids (n, context length), padded and truncated with the end token kept.

        Beside them, for models that take one, their mask: 1 for a token, 0 for padding. Called from the consumer's
        thread only.
        """
        tokens, mask = self._tokens_and_mask(texts)
        return tokens, mask if self._masked else None

    def _tokens_and_mask(self, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        with _panics_told(self._folder):
            tokens = self._tokenizer(
                texts,
                padding="max_length",
                truncation=True,
                max_length=self.context,
                return_tensors="np",
                return_attention_mask=True,
            )
        return tokens["input_ids"].astype(np.int64), tokens[MASK].astype(np.int64)

    def text_inputs(self, texts: list[str]) -> dict[str, NDArray[np.int64]]:
        """Token ids and mask by the names of the text encoder's inputs."""
        tokens, mask = self.text(texts)
        return {"input_ids": tokens} | ({} if mask is None else {MASK: mask})

    def counted_inputs(self, texts: list[str]) -> tuple[dict[str, NDArray[np.int64]], int]:
        """As `text_inputs`, with the number of truncated texts; for it, only texts that fill the context are tokenized
        again."""
        tokens, mask = self._tokens_and_mask(texts)
        full = [texts[place] for place in np.flatnonzero(mask.all(axis=1))]
        return {"input_ids": tokens} | ({MASK: mask} if self._masked else {}), self.truncated(full) if full else 0

    def first_alike(self, texts: list[str]) -> NDArray[np.int64]:
        """For each text the index of the first text that becomes the same tokens (possibly itself), (n,)."""
        first: dict[bytes, int] = {}
        places = []
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            tokens, _ = self.text(texts[start : start + TEXTS_AT_A_TIME])
            places += [first.setdefault(row.tobytes(), start + place) for place, row in enumerate(tokens)]
        return np.array(places, dtype=np.int64)

    def truncated(self, texts: list[str]) -> int:
        """The number of texts that are longer than the context, so that their end is cut off."""
        return len(self.too_long(texts))

    def too_long(self, texts: list[str]) -> list[int]:
        """The indices of texts that are longer than the context."""
        with _panics_told(self._folder):
            lengths = self._tokenizer(texts, return_length=True, truncation=False, verbose=False)["length"]
        return [place for place, length in enumerate(lengths) if length > self.context]


class Preprocess(Processor):
    """The processor for a model with a given configuration."""

    def __init__(self, folder: Path, family: ClipFamily, config: dict[str, Any]) -> None:
        inputs = family.encoder_spec(config, "text").inputs
        masked = any(item.name == MASK for item in inputs)
        super().__init__(folder, family, context=inputs[0].shape[0], masked=masked)

    @classmethod
    def of(cls, snapshot: Snapshot, preprocess: ArtifactRef) -> Preprocess:
        """The processor of a checked snapshot, from the active store."""
        return cls(active_store().path(preprocess), family_named(snapshot.family), snapshot.config)


def save_preprocess(folder: Path, family: ClipFamily, config: dict[str, Any], destination: Path) -> list[str]:
    """Write tokenizer and image-processor files to `destination`; return notes on what was changed, one line each.

    Raises:
        CheckpointError: they cannot be loaded, pictures do not get the model's size, the vocabulary is not the model's,
            texts do not get the end token at which the model pools, or padding would change embeddings.
    """
    with _quiet():
        tokenizer, images = _load(folder, family, config)
        _check_texts(tokenizer, family, config, folder)
    images = family.fixed_processor(images, config)
    _check_pictures(images, family.encoder_spec(config, "image").inputs[0].shape, folder)
    notes = []
    if not getattr(images, "do_convert_rgb", True):
        images.do_convert_rgb = True
        notes.append("pictures are turned to RGB, which the checkpoint's image processor leaves to its caller")
    if _stored_padding_side(folder) == "left":
        notes.append("texts are padded on the right, where the checkpoint's tokenizer pads on the left")
    tokenizer.save_pretrained(destination)
    images.save_pretrained(destination)
    return notes


def _check_texts(tokenizer: Any, family: ClipFamily, config: dict[str, Any], folder: Path) -> None:
    _check_vocabulary(tokenizer, family.vocabulary(config), folder)
    context = family.encoder_spec(config, "text").inputs[0].shape[0]
    if context < _LEAST_CONTEXT:
        raise CheckpointError(
            f"the text encoder takes {context} tokens",
            where=folder / "config.json",
            expected=f"{_LEAST_CONTEXT} or more: start, end and one between",
            fix="give the configuration that belongs to the checkpoint",
        )
    _check_end(tokenizer, family.end_token(config, tokenizer), context, folder)
    _check_padding(tokenizer, family.pools_at_highest_id(config), context, folder)


def _stored_padding_side(folder: Path) -> str:
    """The `padding_side` in `tokenizer_config.json`; "right" if there is none.

    Raises:
        CheckpointError: it is neither left nor right; transformers refuses it too.
    """
    path = folder / "tokenizer_config.json"
    known = path.is_file()
    settings = read_file(path, mapping, what=path.name, error=CheckpointError, limit=TOKENIZER) if known else {}
    side = settings.get("padding_side", "right")
    if side not in ("left", "right"):
        raise CheckpointError(
            f"the tokenizer's padding_side is {side!r}",
            where=path,
            expected="left or right, which transformers takes, or no such key",
            fix="remove padding_side: texts are padded on the right",
        )
    return str(side)


def _check_pictures(images: Any, wanted: tuple[int, ...], folder: Path) -> None:
    """Process pictures of several sizes: only that shows what an image processor's class does with its settings.

    `wanted` is (channels, height, width).
    """
    from PIL import Image

    if wanted[0] != 3:
        raise CheckpointError(
            f"the model takes pictures of {wanted[0]} channels",
            where=folder / "config.json",
            expected="3: red, green and blue",
            fix="use a model for RGB pictures",
        )
    _check_lengths(images, min(PICTURE_SIDE, max(PICTURE_LEAST, PICTURE_GROWTH * max(wanted[1:]))), folder)
    for size in _PICTURE_SIZES:
        try:
            pixels = np.asarray(images(images=Image.new("RGB", size), return_tensors="np")["pixel_values"])
        except Exception as error:
            what = f"{_name(images)} fails on a picture of {size[0]} x {size[1]} pixels: {one_line(error)}"
            raise _odd_images(what, "settings with which transformers' image processor works", folder) from error
        of = f"of a picture of {size[0]} x {size[1]} pixels"
        if not np.isfinite(pixels).all():
            raise _odd_images(f"{_name(images)} makes NaN or Inf {of}", "finite pixels: no zero in image_std", folder)
        if pixels.shape != (1, *wanted):
            made = _as_text(pixels.shape[1:])
            what = f"{_name(images)} makes {made} {of}, and the model takes {_as_text(wanted)}"
            raise _odd_images(what, "the size that config.json gives the image encoder, for every picture", folder)


def _check_lengths(images: Any, most: int, folder: Path) -> None:
    """Refuse sizes in the settings that would need too much memory, or are far from the model's size.

    Raises:
        CheckpointError.
    """
    for setting in ("size", "crop_size", "pad_size"):
        lengths = getattr(images, setting, None)
        for name, length in dict(lengths or {}).items():
            if isinstance(length, int | float) and length > most:
                what = f"{_name(images)} has {setting} {name}={length}"
                raise _odd_images(what, f"at most {most} pixels a side", folder)


def _odd_images(what: str, expected: str, folder: Path) -> CheckpointError:
    where, fix = folder / "preprocessor_config.json", "give the processor that belongs to the checkpoint"
    return CheckpointError(what, where=where, expected=expected, fix=fix)


def _odd_tokenizer(what: str, expected: str, folder: Path) -> CheckpointError:
    return CheckpointError(
        what, where=folder, expected=expected, fix="give the tokenizer that belongs to the checkpoint"
    )


def _name(images: Any) -> str:
    return type(images).__name__.removesuffix("Pil")


def _as_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _check_vocabulary(tokenizer: Any, size: int, folder: Path) -> None:
    """Refuse a tokenizer without a vocabulary: transformers loads it all the same, and all texts become equal tokens.

    A tokenizer class without vocabulary files of its own was converted from another tokenizer, whose files were found.
    """
    names = sorted(tokenizer.vocab_files_names.values())
    if names and not any((folder / name).is_file() for name in names):
        raise CheckpointError(
            "the tokenizer has no vocabulary", where=folder, expected=f"one of {', '.join(names)}", fix=_SAVE_PROCESSOR
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= size:
        what = f"the tokenizer makes token {largest}, the model has {size} tokens"
        raise _odd_tokenizer(what, "tokens that the text encoder's embedding has", folder)


def _tokens(tokenizer: Any, text: str, context: int, folder: Path) -> list[int]:
    """The ids of one text, without padding.

    Raises:
        CheckpointError: the tokenizer fails, for example because its vocabulary lacks a token that it needs.
    """
    try:
        with _panics_told(folder):
            ids: list[int] = tokenizer(text, truncation=True, max_length=context)["input_ids"]
    except CheckpointError:
        raise
    except Exception as error:  # libraries raise errors of any kind
        what = f"{type(tokenizer).__name__} fails on a text: {one_line(error)}"
        raise _odd_tokenizer(what, _SAVED_TOKENIZER, folder) from error
    return ids


def _check_end(tokenizer: Any, end: int | None, context: int, folder: Path) -> None:
    """Check that texts end with the end token: without it, a text encoder that pools there silently reads another
    position."""
    for length, text in (("short", "a"), ("truncated", "a " * (2 * context))):
        tokens = _tokens(tokenizer, text, context, folder)
        if end is not None and end not in tokens:
            what = f"the tokenizer leaves a {length} text without its end token {end}"
            raise _odd_tokenizer(what, "texts that end with the token at which the text encoder is pooled", folder)


def _check_padding(tokenizer: Any, pools_at_highest: bool, context: int, folder: Path) -> None:
    """Check the padding token: in an encoder that pools at the highest id, the padding must not have that id."""
    padding = tokenizer.pad_token_id
    if padding is None:
        raise CheckpointError(
            "the tokenizer has no padding token",
            where=folder,
            expected="a pad_token in tokenizer_config.json; CLIP's is its end token",
            fix="set the pad_token that the model was trained with",
        )
    if not pools_at_highest:
        return
    highest = max(_tokens(tokenizer, "", context, folder), default=-1)
    if padding > highest:
        raise CheckpointError(
            f"the text encoder would be pooled at its padding: token {padding} is above {highest}, the highest that "
            "every text has",
            where=folder,
            expected="with eos_token_id 2, by which transformers pools at the highest id, padding with the end token "
            "or one below it",
            fix="make the end token the tokenizer's pad_token",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back standard error, where native code reports a panic in dozens of lines; drop it on CheckpointError,
    print it otherwise."""
    with _stderr, tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except CheckpointError:
            os.truncate(kept.fileno(), 0)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            kept.seek(0)
            while text := kept.read(_CHUNK):
                os.write(2, text)


@contextmanager
def _panics_told(folder: Path) -> Iterator[None]:
    """Turn a panic in the tokenizers library, which is not an `Exception`, into an error of ours.

    Raises:
        CheckpointError.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        raise _odd_tokenizer(f"the tokenizer fails: {one_line(error)}", _SAVED_TOKENIZER, folder) from error


def _with_length(tokenizer: Any) -> Any:
    """The tokenizer with a number as its longest length: transformers accepts any value, and fails when it compares."""
    if not isinstance(tokenizer.model_max_length, int | float):
        tokenizer.model_max_length = int(tokenizer.model_max_length)
    return tokenizer


def _load(folder: Path, family: ClipFamily, config: dict[str, Any] | None) -> tuple[Any, Any]:
    try:
        with _panics_told(folder):
            return _with_length(family.tokenizer(folder, config)), family.image_processor(folder)
    except CheckpointError:
        raise
    except Exception as error:  # transformers, tokenizers and sentencepiece raise errors of any kind
        raise CheckpointError(
            f"the tokenizer or image processor cannot be loaded: {one_line(error)}",
            where=folder,
            expected="tokenizer files and preprocessor_config.json beside the weights",
            fix=_SAVE_PROCESSOR,
        ) from error
