"""SigLIP 2 NaFlex at one size, from checkpoint to graphs, against transformers' own processor and model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts.errors import ConfigError
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store, activate
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.hugging_face import ClipFamily
from tasks.data.pinned import pin_data
from tasks.families import family_named
from tasks.graph.replicate import trace_by_block
from tasks.graph.tracing import trace
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.graph_audit import audit
from tasks.pipeline.onnx_export import export_fp8, export_fp16, trace_encoder
from tasks.pipeline.quantization import quantize
from tasks.quantizing.modelopt import load_plain
from tasks.quantizing.recipe import load_recipe
from tests.tasks.families.support import (
    CONFIGS,
    cosines,
    cut_up,
    hf_embeddings,
    random_feed,
    reader,
    run_onnx,
    save_processor,
    tensors,
)
from tests.wording import refusal

SIZE = (48, 32)
SHAPES = [(32, 32), (64, 64), (90, 41), (17, 80), (200, 200), (48, 32)]
"""Width and height of pictures."""


@dataclass(frozen=True)
class Sized:
    """A checkpoint that was resolved at a size and checked."""

    snapshot: Snapshot
    preprocess: ArtifactRef
    folder: Path
    store: Store

    @property
    def family(self) -> ClipFamily:
        return family_named(self.snapshot.family)

    def pixels(self, pictures: list[Image.Image]) -> np.ndarray:
        """Pictures as every step prepares them, (n, 3, H, W)."""
        processor = Preprocess(self.folder, self.family, self.snapshot.config)
        return np.stack([processor.image(picture) for picture in pictures])

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """As the FP32 reference does it."""
        model, family = load_plain(self.snapshot, "sdpa")
        with torch.no_grad():
            return family.encode(model, "image", torch.from_numpy(pixels)).numpy()


@pytest.fixture(scope="module")
def folder(checkpoint: Any) -> Path:
    path: Path = checkpoint("siglip2")
    save_processor("siglip2", path)
    return path


@pytest.fixture(scope="module")
def sized(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Sized]:
    """The same checkpoint at its own size (None) and at SIZE."""
    store = Store.open(tmp_path_factory.mktemp("sized") / "store")
    made = {}
    with activate(store):
        for size in (None, SIZE):
            snapshot = resolve(str(folder), None, store, image_size=size)
            preprocess = check(snapshot).preprocess
            made[size] = Sized(snapshot, preprocess, store.path(preprocess), store)
    return made


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(5)
    made = []
    for width, height in SHAPES:
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        made.append(small.resize((width, height), Image.Resampling.BICUBIC))
    return made


def theirs(folder: Path, **inputs: Any) -> np.ndarray:
    """What transformers' own model makes of its inputs."""
    from transformers import Siglip2Model

    model = Siglip2Model.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model.get_image_features(**{n: torch.as_tensor(v) for n, v in inputs.items()}).pooler_output.numpy()


def test_a_square_picture_is_embedded_as_transformers_embeds_it(folder: Path, sized: Any) -> None:
    from transformers import Siglip2ImageProcessorPil

    square = [picture for picture in pictures() if picture.width == picture.height]
    inputs = Siglip2ImageProcessorPil.from_pretrained(folder)(images=square, return_tensors="np")
    assert inputs["spatial_shapes"].tolist() == [[4, 4]] * len(square) and inputs["pixel_attention_mask"].all()
    pixels = sized[None].pixels(square)
    assert np.array_equal(cut_up(pixels, 8)["pixel_values"], inputs["pixel_values"])
    assert cosines(sized[None].embed(pixels), theirs(folder, **inputs)).min() >= 0.99999


@pytest.mark.parametrize("size", [None, SIZE])
def test_another_picture_is_embedded_as_transformers_embeds_it_squashed(size: Any, folder: Path, sized: Any) -> None:
    from transformers import SiglipImageProcessorPil

    done: Sized = sized[size]
    height, width = done.snapshot.image_size or (0, 0)
    pixels = done.pixels(pictures())
    squashed = [picture.resize((width, height), Image.Resampling.BILINEAR) for picture in pictures()]
    expected = ((np.stack(squashed).astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)
    assert np.abs(pixels - expected).max() < 1e-5
    plain = SiglipImageProcessorPil.from_pretrained(done.folder)  # whoever loads what the release hands on
    assert np.array_equal(plain(images=pictures(), return_tensors="np")["pixel_values"], pixels)
    inputs = cut_up(expected, 8)
    assert inputs["spatial_shapes"].tolist() == [[height // 8, width // 8]] * len(SHAPES)
    assert cosines(done.embed(pixels), theirs(folder, **inputs)).min() >= 0.99999


def test_graphs_of_another_size_are_transformers(folder: Path, sized: Any) -> None:
    done: Sized = sized[SIZE]
    recipe = load_recipe("fp8")
    feed = random_feed(done.family, done.snapshot.config, "image", 5)
    assert feed["pixel_values"].shape == (5, 3, 48, 32)
    reference = hf_embeddings(folder, "image", feed)
    with activate(done.store):
        data, _ = pin_data("digits", "calibration", 24)
        table = calibrate(done.snapshot, done.preprocess, data, recipe, "image", 8).table
        skeleton = trace_encoder("siglip2", done.snapshot.stored_config, "image").skeleton
        fp16 = export_fp16(done.snapshot, skeleton, "image").onnx
        fp8 = export_fp8(done.snapshot, skeleton, "image", recipe, table).onnx
        audit(fp16, skeleton, "fp16", None)
        coverage = audit(fp8, skeleton, "fp8", recipe).coverage
        got = {
            name: run_onnx(done.store.path(ref, f"{name}.onnx"), feed) for name, ref in (("fp16", fp16), ("fp8", fp8))
        }
    assert {row["kind"] for row in coverage if row["actual"] == "fp16"} == {"conv", "embedding"}
    assert cosines(got["fp16"], reference).min() >= 0.99999
    assert cosines(got["fp8"], reference).min() >= 0.98
    for rows in got.values():
        assert (cosines(rows, reference) > cosines(rows, np.roll(reference, 1, axis=0))).all()


def test_every_parameter_of_another_size_is_transformers(folder: Path, sized: Any) -> None:
    """As the reader gives it, it is what the model in the graph's form has, made of what transformers loads."""
    snapshot: Snapshot = sized[SIZE].snapshot
    model, family = load_plain(snapshot, "eager")
    family.expose(model)
    for weights in (snapshot.weights(), reader("siglip2", folder, SIZE)):
        assert set(weights) == set(model.state_dict())
        for name, values in model.state_dict().items():
            assert weights.shape(name) == tuple(values.shape)
            assert np.array_equal(weights.read(name), values.numpy()), name


def test_sizes_share_no_keys(folder: Path, sized: Any, store: Store) -> None:
    one, other = (sized[size].snapshot for size in (None, SIZE))
    assert one.digest == other.digest
    assert one.cache_identity() != other.cache_identity() and one.stored_config != other.stored_config
    assert sized[None].preprocess.digest != sized[SIZE].preprocess.digest
    asked = resolve(str(folder), None, store, image_size=(32, 32))  # what it is anyway
    assert asked.cache_identity() == one.cache_identity() and asked.stored_config == one.stored_config


def test_a_size_of_parts_of_patches_is_refused(folder: Path, store: Store) -> None:
    with refusal(ConfigError) as caught:
        resolve(str(folder), None, store, image_size=(40, 30))
    assert caught.value.where == str(folder)


@pytest.mark.heavy
def test_one_block_repeated_is_the_full_trace_of_another_size() -> None:
    family = family_named("siglip2")
    config = family.with_layers(family.at_size(CONFIGS["siglip2"], SIZE, where="m")[0], "image", 3)
    once, full = trace_by_block(family, config, "image"), trace(family, config, "image")
    assert once.model.SerializeToString(deterministic=True) == full.model.SerializeToString(deterministic=True)
    assert list(once.weights.items()) == list(full.weights.items())


@pytest.mark.heavy
def test_what_is_exported_keeps_its_size(sized: Any, tmp_path: Path, store: Store) -> None:
    """The ModelOpt checkpoint is one of that size: its configuration says so, and transformers still loads it."""
    done: Sized = sized[SIZE]
    recipe = load_recipe("fp8")
    with activate(done.store):
        data, _ = pin_data("digits", "calibration", 24)
        tables: Any = {
            encoder: calibrate(done.snapshot, done.preprocess, data, recipe, encoder, 8).table
            for encoder in ("image", "text")
        }
        made = done.store.path(quantize(done.snapshot, done.preprocess, recipe, tables).checkpoint)
    for file in made.iterdir():
        if file.name not in ("modelopt_state.pth", "amax.parquet"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    again = resolve(str(tmp_path), None, store)
    assert again.image_size == SIZE
    feed = random_feed(done.family, done.snapshot.config, "image", 3)
    with torch.no_grad():
        model, family = load_plain(again, "sdpa")
        got = family.encode(model, "image", *tensors(feed)).numpy()
    assert cosines(got, hf_embeddings(done.snapshot.root, "image", feed)).min() >= 0.99999
    with pytest.raises(ConfigError, match="this checkpoint is one of 48 x 32"):
        resolve(str(tmp_path), None, store, image_size=(32, 32))
