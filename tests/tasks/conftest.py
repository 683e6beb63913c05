"""What the tests of the steps share, each made once: a checkpoint taken through the first steps, and demo graphs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from artifacts.store.store import Store, activate
from tasks.checkpoints.snapshot import Snapshot
from tasks.data.pinned import DataRef
from tasks.demo import SNAPSHOT as DEMO
from tasks.families import family_named
from tasks.graph.skeleton import Skeleton
from tasks.pipeline.calibration import Calibration
from tasks.pipeline.checkpoint import CheckedCheckpoint
from tasks.pipeline.quantization import QuantizedCheckpoint
from tasks.quantizing.recipe import Recipe
from tests.benchmarks.architectures import Architecture, Tower
from tests.made_once import made_once, traced_once

SAMPLES, BATCH = 24, 5


@dataclass(frozen=True)
class Prepared:
    """A resolved and checked checkpoint with its calibration data."""

    store: Store
    snapshot: Snapshot
    checked: CheckedCheckpoint
    recipe: Recipe
    data: DataRef


@pytest.fixture(scope="session")
def prepared(small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The small CLIP with 24 digits to calibrate on."""
    from tasks.data.pinned import pin_data
    from tasks.pipeline.checkpoint import check, resolve
    from tasks.quantizing.recipe import load_recipe

    store = Store.open(tmp_path_factory.mktemp("prepared") / "store")
    with activate(store):
        snapshot = resolve(str(small_clip), None, store)
        data, _ = pin_data("digits", "calibration", SAMPLES)
        return Prepared(store, snapshot, check(snapshot), load_recipe("fp8"), data)


@pytest.fixture
def in_store(prepared: Prepared) -> Iterator[Store]:
    """The store of `prepared`, active for the test."""
    with activate(prepared.store):
        yield prepared.store


@pytest.fixture(scope="session")
def calibrated(prepared: Prepared) -> dict[str, Calibration]:
    """Both encoders calibrated, in batches that do not divide the samples evenly."""
    from tasks.pipeline.calibration import calibrate

    with activate(prepared.store):
        arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe)
        return {encoder: calibrate(*arguments, encoder, BATCH) for encoder in ("image", "text")}


@pytest.fixture(scope="session")
def quantized(prepared: Prepared, calibrated: dict[str, Calibration]) -> QuantizedCheckpoint:
    """The ModelOpt checkpoint of both encoders."""
    from tasks.pipeline.quantization import quantize

    with activate(prepared.store):
        tables: Any = {encoder: calibration.table for encoder, calibration in calibrated.items()}
        return quantize(prepared.snapshot, prepared.checked.preprocess, prepared.recipe, tables)


# --- graphs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def skeleton_of(session_folder: Path) -> Callable[[Path, Any], Skeleton]:
    """`skeleton_of(folder, encoder)`: traced once for the session; do not change it."""
    from tasks.graph.tracing import trace

    @cache
    def skeleton(folder: Path, encoder: Any) -> Skeleton:
        config = json.loads((folder / "config.json").read_text())
        return traced_once(session_folder, trace, family_named("clip"), config, encoder)

    return skeleton


@pytest.fixture(scope="session")
def random_inputs() -> Callable[..., np.ndarray]:
    """`random_inputs(folder, encoder, batch)`: pixels (FP16), or ids with an end token and padding after it."""

    def make(folder: Path, encoder: str, batch: int, seed: int = 7) -> np.ndarray:
        config = json.loads((folder / "config.json").read_text())
        rng = np.random.default_rng(seed)
        if encoder == "image":
            side = config["vision_config"]["image_size"]
            return rng.standard_normal((batch, 3, side, side)).astype(np.float16)
        part = config["text_config"]
        length, end = part["max_position_embeddings"], part["eos_token_id"]
        ids = rng.integers(3, part["vocab_size"] - 3, (batch, length))
        for row in ids:
            row[rng.integers(2, length) :] = end
        return ids

    return make


@pytest.fixture(scope="session")
def run_onnx() -> Callable[..., np.ndarray]:
    """`run_onnx(file or model, feed)`: the first output in ONNX Runtime at its default optimization."""

    def run(source: Path | onnx.ModelProto, feed: np.ndarray) -> np.ndarray:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        given = source.SerializeToString() if isinstance(source, onnx.ModelProto) else str(source)
        session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: feed})[0]

    return run


@pytest.fixture(scope="session")
def recipe_without() -> Callable[..., Recipe]:
    """`recipe_without("*.fc1.*")`: the built-in recipe `fp8` with rules at its end that switch quantizers off."""
    from tasks.quantizing.recipe import load_recipe

    def make(*patterns: str) -> Recipe:
        content = load_recipe("fp8").model_dump()
        content["quantize"]["quant_cfg"] += [{"quantizer_name": pattern, "enable": False} for pattern in patterns]
        return Recipe.model_validate(content)

    return make


@pytest.fixture(scope="session")
def recipe_by_channel() -> Recipe:
    """The built-in recipe `fp8` with a weight scale for each output channel of every linear layer."""
    from tasks.quantizing.recipe import load_recipe

    content = load_recipe("fp8").model_dump()
    (rule,) = [rule for rule in content["quantize"]["quant_cfg"] if rule["quantizer_name"] == "*weight_quantizer"]
    rule["cfg"]["axis"] = 0
    return Recipe.model_validate(content)


@dataclass(frozen=True)
class FakeQuantized:
    """The demo as ModelOpt quantized it (FP32, eager attention), and the amax it recorded."""

    model: Any
    amax: dict[str, float]


@pytest.fixture(scope="session")
def fake_quantized(random_inputs: Callable[..., np.ndarray]) -> FakeQuantized:
    """ModelOpt straight on transformers, without clipsmith: the rules of the FP8 recipe, written by hand."""
    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.quantization.nn import TensorQuantizer
    from transformers import CLIPModel

    e4m3 = {"num_bits": (4, 3), "axis": None}
    rules = [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "*weight_quantizer", "parent_class": "nn.Linear", "cfg": e4m3},
        {"quantizer_name": "*input_quantizer", "parent_class": "nn.Linear", "cfg": e4m3},
        {"quantizer_name": "*[qkv]_bmm_quantizer", "cfg": e4m3},
        {"quantizer_name": "*p_bmm_quantizer", "cfg": {**e4m3, "constant_amax": 1.0}},
    ]
    model = CLIPModel.from_pretrained(DEMO, dtype=torch.float32, attn_implementation="eager").eval()
    pixels = torch.from_numpy(random_inputs(DEMO, "image", 16, seed=1)).float()
    ids = torch.from_numpy(random_inputs(DEMO, "text", 16, seed=1))
    with torch.no_grad():
        mtq.quantize(model, {"quant_cfg": rules, "algorithm": "max"}, lambda m: m(input_ids=ids, pixel_values=pixels))
    enabled = {n: m for n, m in model.named_modules() if isinstance(m, TensorQuantizer) and m.is_enabled}
    amax = {name: 1.0 if name.endswith("p_bmm_quantizer") else float(m.amax) for name, m in enabled.items()}
    return FakeQuantized(model, amax)


@pytest.fixture(scope="session")
def demo_graph(
    skeleton_of: Callable[[Path, Any], Skeleton],
    fake_quantized: FakeQuantized,
    recipe_by_channel: Recipe,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """`demo_graph(encoder, precision)`: the demo's ONNX file, with its real weights; do not change it.

    With `by_channel=True` the FP8 graph has a weight scale for each output channel.
    """
    from tasks.clip.weights import WeightReader
    from tasks.file_names import PRECISION_KEY, RECIPE_KEY
    from tasks.graph.channels import with_channels
    from tasks.graph.quantize import quantize
    from tasks.graph.writer import write_onnx
    from tasks.quantizing.recipe import load_recipe

    @cache
    def write(encoder: Any, precision: str, by_channel: bool = False) -> Path:
        skeleton = skeleton_of(DEMO, encoder)
        reader = WeightReader([DEMO / "model.safetensors"])
        properties = {PRECISION_KEY: precision}
        if precision == "fp8":
            recipe = recipe_by_channel if by_channel else load_recipe("fp8")
            skeleton = quantize(skeleton, recipe, with_channels(fake_quantized.amax, skeleton, recipe, reader))
            properties[RECIPE_KEY] = recipe.digest
        path = tmp_path_factory.mktemp(f"{encoder}-{precision}") / f"{precision}.onnx"
        write_onnx(skeleton, reader, path, properties)
        return path

    return write


# --- for the bench and target torch-fp8 ---------------------------------------------------------------------


@pytest.fixture
def quick_products() -> Iterator[None]:
    """Eager FP8 products on the CPU are quick: see `quick_scaled_mm`."""
    from tests.tasks.torch_fp8.scaled_mm import quick_scaled_mm

    with quick_scaled_mm():
        yield


SMALL = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")
"""Its heads are of a size that our kernels are written for."""


@pytest.fixture(scope="session")
def export(session_folder: Path) -> Path:
    """FP16 and FP8 of both encoders, random weights, made once for all test processes; do not change it."""
    from tests.gpu.exports import make_export

    folder = session_folder / "bench"
    return made_once(folder / "small", lambda new: make_export(new, SMALL, folder / "skeletons", "cpu"))


@pytest.fixture(scope="session")
def by_channel(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP8 graphs of `export` with weight scales by channel, drawn over two decades: `<encoder>.onnx`."""
    folder = tmp_path_factory.mktemp("by-channel")
    for encoder in ("image", "text"):
        model = onnx.load(str(export / encoder / "fp8.onnx"))
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        rng = np.random.default_rng(5)
        for node in model.graph.node:
            weight = constants.get(node.input[0])
            if node.op_type == "DequantizeLinear" and weight is not None and len(weight.dims) == 2:
                columns = weight.dims[1]
                scale = float(numpy_helper.to_array(constants[node.input[1]]))
                scales = scale * 10 ** rng.uniform(-1, 1, columns)
                made = numpy_helper.from_array(scales.astype(np.float16), f"{node.name}.scales")
                zeros = helper.make_tensor(f"{node.name}.zeros", 17, [columns], bytes(columns), raw=True)
                model.graph.initializer.extend([made, zeros])
                node.input[1:] = [made.name, zeros.name]
                node.attribute.append(helper.make_attribute("axis", 1))
        onnx.save(model, str(folder / f"{encoder}.onnx"))
    return folder
