"""Step 1b: check that our model of a checkpoint embeds as plain transformers does, before anything is made from it.

transformers gets the checkpoint's own files: its configuration (except switches), and the tokenizer and image processor
that it names. Texts are given one at a time and unpadded, pictures in the modes that files have. We look up the image
processor's class ourselves (`tasks.clip.processors`), as `AutoImageProcessor` needs torchvision.

Our side is what every later step works with: the exported preprocessing, the resolved configuration, weights by the
names and rows of the exporter, and the arithmetic of the exported graph, in FP32.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifacts import places
from artifacts.errors import BadWeights, ParityError
from artifacts.manifest import Encoder, Row
from artifacts.refs import ArtifactRef
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot, sound_config
from tasks.clip import attention
from tasks.clip.base import ENCODERS, MASK, Oracle
from tasks.clip.hugging_face import ClipFamily, encoder_prefixes
from tasks.clip.processors import load_tokenizer
from tasks.data.images import opened_rgb
from tasks.families import family_named
from tasks.pipeline.kept import keep
from tasks.quantizing.modelopt import PACKAGES, plain_folder
from tasks.runs.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

MIN_COSINE = 0.9999
_SIDES = {"image": "image processor", "text": "tokenizer"}
_SAME_PIXELS = 1e-4
"""Normalised pixels that differ by less than this count as equal: half a step of 8 bits is 0.007."""


class Parity(StepOutput):
    """`table` holds `parity.json`: the oracle, and the cosine of each sample by encoder; `rows` is the release's table.

    The oracle is transformers. For layouts that transformers does not read, it is golden files made by the model's own
    library, with which clipsmith's tests compare; then there are no cosines.
    """

    oracle: Oracle
    table: ArtifactRef
    rows: tuple[Row, ...]

    def words(self) -> str:
        """The result in one line."""
        if self.oracle != "transformers":
            return (
                "transformers does not read this layout: the tests hold it to golden files of the model's own library"
            )
        smallest = {e: min(float(row["cosine"] or 0) for row in self.rows if row["encoder"] == e) for e in ENCODERS}
        return "smallest cosine with plain transformers: " + ", ".join(f"{e} {v:.6f}" for e, v in smallest.items())


class Reference(NamedTuple):
    """One sample in transformers: the encoder's input (tokens without padding, or pixels), and its embedding."""

    name: str
    input: NDArray[Any]
    embedding: NDArray[np.float32]


def check_parity(snapshot: Snapshot, preprocess: ArtifactRef) -> Parity:
    """Embed a few texts and pictures with transformers and with our FP32 path, and compare.

    Only one model is in memory: transformers embeds first; then its weights are compared with those that the exporter
    reads, and the same model runs with the arithmetic of the exported graph.

    Raises:
        ParityError: a cosine is below `MIN_COSINE`, or configuration or weights differ; the message names the part.
        CheckpointError: transformers cannot make the model, or cannot run it.
    """
    import torch

    with measured() as meter, torch.inference_mode():
        family = family_named(snapshot.family)
        cosines: dict[Encoder, dict[str, float]] = {}
        if family.oracle == "transformers":
            with sound_config(family.name, snapshot.root), plain_folder(snapshot) as folder:
                model = family.plain_model(folder)
            if snapshot.image_size is not None:  # chosen by the user, so it is in none of the files
                vision: Any = model.get_submodule("vision_model")
                vision.config.image_size = list(snapshot.image_size)
            processor = Preprocess.of(snapshot, preprocess)
            texts, pictures = text_samples(processor), picture_samples()
            with sound_config(family.name, snapshot.root):
                references = {
                    "image": list(_reference_images(family, snapshot, model, pictures)),
                    "text": list(_reference_texts(family, snapshot, model, texts, processor.context)),
                }
            _require_same_config(family, snapshot, model)
            _as_exported(family, snapshot, model)
            pixels = np.stack([processor.image(opened_rgb(picture, name)) for name, picture in pictures.items()])
            inputs: dict[str, dict[str, NDArray[Any]]]
            inputs = {"image": {"pixel_values": pixels}, "text": processor.text_inputs(list(texts.values()))}
            for encoder in ENCODERS:
                cosines[encoder] = _compare(family, model, encoder, references[encoder], inputs[encoder], snapshot)
        content = {"oracle": family.oracle, "family": family.name, "cosines": cosines}
        table = keep("parity", {places.PARITY: json.dumps(content, indent=1, sort_keys=True)})
    rows: list[Row] = [
        {"encoder": encoder, "oracle": family.oracle, "sample": sample, "cosine": value}
        for encoder in ENCODERS
        for sample, value in cosines.get(encoder, {family.oracle: None}).items()
    ]
    return Parity(oracle=family.oracle, table=table, rows=tuple(rows), stats=meter.stats)


# --- samples ---------------------------------------------------------------------------------------------------------


def text_samples(processor: Preprocess) -> dict[str, str]:
    """Texts by purpose: a word, a sentence, one that fills the context, one that is cut."""
    words = 1
    while words < processor.context and not processor.too_long(["a " * (words + 1)]):
        words += 1
    return {
        "a word": "a",
        "a sentence": "A photo of two dogs, one black & one WHITE; at the Café's beach, in 1987!",
        "as long as the context": "a " * words,
        "longer": "a photo of the handwritten digit seven " * processor.context,
    }


def picture_samples() -> dict[str, Image]:
    """Small pictures by purpose: wide, tall, grey, with a palette, with transparency."""
    from PIL import Image

    ramp = np.linspace(0, 255, 96 * 64).reshape(64, 96)
    waves = 127.5 + 127.5 * np.sin(np.arange(64)[:, None] / 5.0 + np.arange(96)[None] / 3.0)
    wide = Image.fromarray(np.stack([ramp, waves, 255 - ramp], axis=-1).astype(np.uint8))
    transparent = wide.convert("RGBA")
    transparent.putalpha(Image.fromarray(waves.astype(np.uint8)))
    return {
        "wide": wide,
        "tall": wide.transpose(Image.Transpose.ROTATE_90),
        "grey": wide.convert("L"),
        "palette": wide.quantize(16),
        "transparent": transparent,
    }


# --- transformers ----------------------------------------------------------------------------------------------------


def _reference_texts(
    family: ClipFamily, snapshot: Snapshot, model: Any, texts: dict[str, str], context: int
) -> Iterator[Reference]:
    """Each text alone, padded by hand only if the model was trained to attend to padding."""
    import torch

    tokenizer = load_tokenizer(snapshot.root, config=model.config)
    for name, text in texts.items():
        tokens = tokenizer(text, truncation=True, max_length=context)["input_ids"]
        padding = [tokenizer.pad_token_id] * (context - len(tokens)) if family.attends_to_padding else []
        features = model.get_text_features(input_ids=torch.tensor([tokens + padding]))
        yield Reference(name, np.asarray(tokens), features.pooler_output[0].numpy())


def _reference_images(
    family: ClipFamily, snapshot: Snapshot, model: Any, pictures: dict[str, Image]
) -> Iterator[Reference]:
    """Each picture unchanged, or converted to RGB if the processor leaves that to its caller."""
    images = family.fixed_processor(family.image_processor(snapshot.root), snapshot.config)
    for name, picture in pictures.items():
        given = picture if getattr(images, "do_convert_rgb", None) else picture.convert("RGB")
        pixels = images(images=given, return_tensors="pt")["pixel_values"]
        yield Reference(name, pixels[0].numpy(), family.encode(model, "image", pixels)[0].numpy())


# --- ours ------------------------------------------------------------------------------------------------------------


def _require_same_config(family: ClipFamily, snapshot: Snapshot, model: Any) -> None:
    """Check that `snapshot.config`, from which the traced model is built, says the same as what transformers read."""
    theirs, ours = family.resolve_config(model.config.to_dict()), snapshot.config
    for section in ("text_config", "vision_config"):
        for key in sorted(theirs[section].keys() | ours[section].keys()):
            mine, other = ours[section].get(key), theirs[section].get(key)
            if mine != other and not (key == "image_size" and snapshot.image_size is not None):
                raise _differ("model", f"{section}.{key} is {mine!r} here and {other!r} there", snapshot)


def _as_exported(family: ClipFamily, snapshot: Snapshot, model: nn.Module) -> None:
    """Check that the model's parameters are those that the exporter reads, and turn it into the traced model."""
    from torch import nn

    family.expose(model)
    reader = snapshot.weights()
    used = encoder_prefixes(family, snapshot.config)
    # transformers sets an embedding's padding row to zero, whatever was stored; no text uses that row.
    padding = {
        f"{name}.weight": module.padding_idx
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None
    }
    for name, parameter in model.named_parameters():
        if not name.startswith(used):
            continue
        ours, theirs = reader.read(name), parameter.numpy()
        if name in padding:
            ours, theirs = (np.delete(values, padding[name], axis=0) for values in (ours, theirs))
        # Equal bit for bit, except for position embeddings, which both sides interpolate.
        if not np.allclose(ours, theirs, rtol=1e-5, atol=1e-6):
            raise _differ("model", f"the exporter reads other values of {name}", snapshot)
    attention.use_in(model)


def _compare(
    family: ClipFamily,
    model: nn.Module,
    encoder: Encoder,
    references: list[Reference],
    inputs: dict[str, NDArray[Any]],
    snapshot: Snapshot,
) -> dict[str, float]:
    """Embed the samples with our model, and return each sample's cosine with transformers' embedding.

    Raises:
        ParityError: inputs differ, or a cosine is too low.
    """
    import torch

    found = family.encode(model, encoder, *map(torch.from_numpy, inputs.values())).numpy()
    cosines: dict[str, float] = {}
    for row, (reference, embedding) in enumerate(zip(references, found, strict=True)):
        cosine = _cosine(reference.embedding, embedding)
        if not np.any(reference.embedding) or not np.isfinite(reference.embedding).all():
            raise BadWeights(
                f"plain transformers' {encoder} embedding of {reference.name!r} is zero or not finite",
                where=snapshot.root,
                expected="a model that embeds something",
                fix="look at the last projection's weights",
            )
        if not cosine >= MIN_COSINE:
            same = _same_input(reference.input, {name: values[row] for name, values in inputs.items()})
            raise _differ(
                "model" if same else _SIDES[encoder],
                f"the embedding of the {reference.name!r} {encoder} sample has cosine {cosine:.4f}",
                snapshot,
            )
        cosines[reference.name] = cosine
    return cosines


def _same_input(theirs: NDArray[Any], ours: dict[str, NDArray[Any]]) -> bool:
    if "pixel_values" in ours:
        made = ours["pixel_values"]
        return theirs.shape == made.shape and float(np.abs(theirs - made).max()) < _SAME_PIXELS
    tokens = ours["input_ids"]
    length = int(ours[MASK].sum()) if MASK in ours else len(theirs)
    return length == len(theirs) and bool((tokens[: len(theirs)] == theirs).all())


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    one, other = a.astype(np.float64), b.astype(np.float64)
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) or np.nan))


def _differ(side: str, what: str, snapshot: Snapshot) -> ParityError:
    return ParityError(
        f"the {side} does not do what plain transformers does with this checkpoint: {what}",
        where=snapshot.root,
        expected=f"embeddings of cosine {MIN_COSINE} or more with those of transformers",
        fix="report this checkpoint's configuration files: nothing made from it could be trusted",
    )


parity_task = cached_step("parity", version=1, packages=PACKAGES)(check_parity)
