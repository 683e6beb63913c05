"""Embedding pictures and texts with a release's engines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from artifacts.errors import MissingEncoder, NumericError, WrongInput
from artifacts.manifest import Encoder
from tasks.checkpoints.preprocess import Processor
from tasks.clip.base import MASK
from tasks.data.images import decode_rgb, opened_rgb
from tasks.engines import BatchProfile, backend_for
from tasks.engines.checked import filled

if TYPE_CHECKING:
    from PIL.Image import Image

    from artifacts.release.fastest import Choice
    from tasks.engines.checked import CheckedRunner
    from tasks.runtime.folder import ReleaseFolder

_LOG = logging.getLogger("clipsmith.runtime")
_Item = TypeVar("_Item")
Arrays = dict[str, NDArray[Any]]


class ClipEncoder:
    """The encoders of one release, ready to run. Only one thread at a time may use it.

    `choice` is the target and precision, and the reason for them. Close it, or use it in a `with` statement, to free
    the memory of its engines.
    """

    def __init__(self, folder: ReleaseFolder, choice: Choice) -> None:
        self.choice = choice
        self.target, self.precision = target, precision = choice.target, choice.precision
        self._ref = folder.manifest.ref
        self._widths: dict[Encoder, int] = {}
        self._profiles: dict[Encoder, BatchProfile] = {}
        self._runners: dict[Encoder, CheckedRunner] = {}
        with ExitStack() as stack, TemporaryDirectory(prefix="clipsmith-engines-") as own:
            for encoder in folder.encoders(precision):
                engine, profile = folder.engine(encoder, target, precision, Path(own))
                runner = backend_for(target).runner(engine, f"{encoder} {precision} {target}")
                self._runners[encoder] = stack.enter_context(runner)
                self._profiles[encoder] = profile
                self._widths[encoder] = folder.width(encoder)
            self._processor = _processor(folder, Path(own), self._runners.get("text"))
            self._open = stack.pop_all()
        _LOG.info("%s runs %s", self._ref, choice)

    def embed_images(self, pictures: Sequence[Image | Path | str]) -> NDArray[np.float32]:
        """Embeddings (n, width) of length 1, in the order of `pictures`: Pillow images or paths of image files.

        Raises:
            MissingEncoder: the release has no image encoder.
            BadSample: a picture cannot be decoded; the message names it.
            WrongInput: `pictures` is not a list of pictures.
            NumericError: an embedding is NaN or Inf.
        """
        if isinstance(pictures, (str, Path)):
            raise WrongInput("one path", expected="a list of paths or pictures", fix="put it into a list")
        return self._embed("image", pictures, self._pixels)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, width) of length 1, in the order of `texts`.

        Texts longer than the model's context are cut off, as in evaluation; the log says how many.

        Raises:
            MissingEncoder: the release has no text encoder.
            WrongInput: `texts` is not a list of texts.
            NumericError: an embedding is NaN or Inf.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise WrongInput("not a list of texts", expected="a list of strings", fix="put the texts into a list")
        return self._embed("text", texts, self._tokens)

    def close(self) -> None:
        """Free the engines' memory; the encoder cannot be used afterwards."""
        self._open.close()
        self._runners.clear()

    def __enter__(self) -> ClipEncoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _embed(self, encoder: Encoder, items: Sequence[_Item], prepare: Any) -> NDArray[np.float32]:
        if encoder not in self._runners:
            raise MissingEncoder(
                f"there is no {encoder} encoder",
                where=self._ref,
                expected=f"one of {', '.join(self._runners) or 'none: it is closed'}",
                fix="load a release that was made with this encoder",
            )
        runner, profile = self._runners[encoder], self._profiles[encoder]
        rows = [np.empty((0, self._widths[encoder]), np.float32)]
        for start in range(0, len(items), profile.max):
            chunk = items[start : start + profile.max]
            # Convert to the engine's dtypes: pixels are FP16, as in evaluation.
            feed = {
                name: filled(array.astype(runner.forms[name][0], copy=False), profile.min)
                for name, array in prepare(chunk, start).items()
            }
            (output,) = runner.infer(feed).values()
            rows.append(np.array(output[: len(chunk)], dtype=np.float32))
        return _normalised(np.concatenate(rows), f"{self._ref} {runner.name}")

    def _pixels(self, pictures: Sequence[Any], start: int) -> Arrays:
        decoded = [_rgb(picture, start + place) for place, picture in enumerate(pictures)]
        return {"pixel_values": np.stack([self._processor.image(picture) for picture in decoded])}

    def _tokens(self, texts: Sequence[str], start: int) -> Arrays:
        del start
        cut = self._processor.truncated(list(texts))
        if cut:
            _LOG.warning("%d texts are longer than %d tokens and lose their end", cut, self._processor.context)
        return self._processor.text_inputs(list(texts))


def _processor(folder: ReleaseFolder, own: Path, text: CheckedRunner | None) -> Processor:
    """The release's processor, with the context of its text encoder."""
    forms: Mapping[str, Any] = {} if text is None else text.forms
    context = forms["input_ids"][1][1] if forms else 0
    return Processor(folder.preprocess(own), folder.family, context=context, masked=MASK in forms)


def _rgb(picture: Any, place: int) -> Image:
    """Decode one picture.

    Raises:
        BadSample: it cannot be decoded.
        WrongInput: it is neither a path nor a picture.
    """
    if isinstance(picture, (str, Path)):
        return decode_rgb(Path(picture), str(picture))
    if not hasattr(picture, "getexif"):
        raise WrongInput(
            f"picture {place} is a {type(picture).__name__}",
            expected="a Pillow image or the path of an image file",
            fix="convert arrays with PIL.Image.fromarray",
        )
    return opened_rgb(picture, f"picture {place}")


def _normalised(rows: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """The rows scaled to length 1; `where` names the encoder in messages.

    Raises:
        NumericError: a row has NaN or Inf, or is all zero.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise NumericError(
            f"{len(bad)} of {len(rows)} embeddings are NaN, Inf or zero",
            where=f"{where}, row {bad[0]}",
            expected="finite embeddings",
            fix="run the same input in FP16: the FP16 range is too small for this model, or its engine is broken",
        )
    return rows / lengths
