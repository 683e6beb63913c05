"""The exported graphs compute what the PyTorch model and ModelOpt's fake-quantized model compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest

from artifacts.errors import BadAmax
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import AMAX_FILE
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.graph.quantize import quantize
from tasks.graph.writer import write_onnx
from tasks.pipeline.checkpoint import resolve
from tasks.pipeline.onnx_export import export_fp8, export_fp16, trace_encoder
from tasks.quantizing.recipe import load_recipe
from tests.tasks.families.layers import in_fp32
from tests.tasks.families.support import cosines, rounded, snr_db

ENCODERS = ["image", "text"]
LAYERS = [
    ("image", "vision_model", 0),
    ("image", "vision_model", 1),
    ("image", "vision_model", 2),
    ("text", "text_model", 0),
    ("text", "text_model", 1),
]
SNR_DB = 45
"""What one layer with equal weights, scales and inputs must reach; rounding flips of FP32 sums alone leave about 56."""


def hf_embeddings(folder: Path, encoder: str, inputs: np.ndarray) -> np.ndarray:
    """The FP32 model as transformers runs it."""
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        if encoder == "image":
            return model.get_image_features(torch.from_numpy(inputs).float()).pooler_output.numpy()
        return model.get_text_features(torch.from_numpy(inputs)).pooler_output.numpy()


# --- FP16 against PyTorch in FP32 --------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3, 17])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_fp16_is_the_pytorch_model(
    encoder: str, batch: int, demo_graph: Any, random_inputs: Any, run_onnx: Any
) -> None:
    inputs = random_inputs(SNAPSHOT, encoder, batch)
    got = run_onnx(demo_graph(encoder, "fp16"), inputs)
    reference = hf_embeddings(SNAPSHOT, encoder, inputs)
    assert got.dtype == np.float16 and got.shape == reference.shape
    assert cosines(got, reference).min() >= 0.9999
    if batch > 1:  # rows differ, so a graph that pooled or broadcast the wrong row would show
        assert cosines(got, np.roll(reference, 1, axis=0)).min() < 0.9999


@pytest.mark.parametrize("encoder", ENCODERS)
def test_fp16_with_gelu_and_random_biases_is_the_pytorch_model(
    encoder: str, small_clip: Path, skeleton_of: Any, random_inputs: Any, run_onnx: Any, tmp_path: Path
) -> None:
    write_onnx(skeleton_of(small_clip, encoder), WeightReader([small_clip / "model.safetensors"]), tmp_path / "m", {})
    inputs = random_inputs(small_clip, encoder, 5)
    reference = hf_embeddings(small_clip, encoder, inputs)
    assert cosines(run_onnx(tmp_path / "m", inputs), reference).min() >= 0.9999


@pytest.mark.parametrize(("eos", "position"), [(2, "largest id"), (5, "end token")])
def test_text_is_pooled_where_transformers_pools_it(
    eos: int,
    position: str,
    make_clip: Any,
    skeleton_of: Any,
    run_onnx: Any,
    tmp_path: Path,
) -> None:
    """Old checkpoints say eos_token_id 2 and mean the largest id; others mean what they say."""
    folder = make_clip(tmp_path / "clip", text={"eos_token_id": eos, "num_hidden_layers": 1})
    write_onnx(skeleton_of(folder, "text"), WeightReader([folder / "model.safetensors"]), tmp_path / "m.onnx", {})
    ids = np.random.default_rng(0).integers(10, 500, (6, 16))
    where = {"largest id": [3, 5, 7, 9, 11, 13], "end token": [14, 12, 10, 8, 6, 4]}
    for row in range(6):
        ids[row, where["largest id"][row]] = 600
        ids[row, where["end token"][row]] = eos
    got = run_onnx(tmp_path / "m.onnx", ids)
    assert cosines(got, hf_embeddings(folder, "text", ids)).min() >= 0.9999
    for name, positions in where.items():
        close = cosines(got, pooled_at(folder, ids, positions)) >= 0.9999
        assert close.all() if name == position else not close.any()


def pooled_at(folder: Path, ids: np.ndarray, positions: list[int]) -> np.ndarray:
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        hidden = model.text_model(input_ids=torch.from_numpy(ids)).last_hidden_state
        return model.text_projection(hidden[torch.arange(len(ids)), torch.tensor(positions)]).numpy()


# --- FP8 against ModelOpt, one teacher-forced layer at a time -----------------------------------------------


def layer_graph(path: Path, prefix: str, index: int) -> onnx.ModelProto:
    """One encoder layer cut out of a graph, from its input tensor to its output tensor."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    base = f"{prefix}.encoder.layers.{index}"
    (start,) = [node.input[0] for node in model.graph.node if node.name == f"{base}.layer_norm1/LayerNormalization"]
    end = [node.output[0] for node in model.graph.node if node.name.startswith(f"{base}/Add")][-1]
    return onnx.utils.Extractor(model).extract_model([start], [end])


@pytest.fixture(scope="session")
def same_numbers(fake_quantized: Any) -> Any:
    """ModelOpt's model with weights and scales as the graphs hold them."""
    return rounded(fake_quantized.model, fake_quantized.amax)


@pytest.fixture(scope="session")
def teacher_forced(same_numbers: Any, random_inputs: Any) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`teacher_forced(encoder, prefix, index)`: a layer's input hidden state, and what ModelOpt's layer adds to it."""
    import torch

    def run(encoder: str, prefix: str, index: int) -> tuple[np.ndarray, np.ndarray]:
        layer = getattr(same_numbers, prefix).encoder.layers[index]
        inputs = torch.from_numpy(random_inputs(SNAPSHOT, encoder, 8, seed=3))
        call: dict[str, Any] = {}
        hook = layer.register_forward_pre_hook(
            lambda _, args, kwargs: call.update(args=args, kwargs=kwargs), with_kwargs=True
        )
        with torch.no_grad():
            if encoder == "image":
                same_numbers.get_image_features(inputs.float())
            else:
                same_numbers.get_text_features(inputs)
            hook.remove()
            hidden = call["args"][0] if call["args"] else call["kwargs"].pop("hidden_states")
            hidden = hidden.half().float()
            output = layer(hidden, *call["args"][1:], **call["kwargs"])
        output = output[0] if isinstance(output, tuple) else output
        return hidden.numpy(), (output - hidden).numpy()

    return run


@pytest.mark.parametrize(("encoder", "prefix", "index"), LAYERS)
def test_fp8_layer_is_modelopts(
    encoder: str,
    prefix: str,
    index: int,
    demo_graph: Any,
    teacher_forced: Any,
    run_onnx: Any,
) -> None:
    hidden, branch = teacher_forced(encoder, prefix, index)
    graph = layer_graph(demo_graph(encoder, "fp8"), prefix, index)
    ops = [node.op_type for node in graph.graph.node]
    assert (ops.count("MatMul"), ops.count("DequantizeLinear")) == (8, 14)  # 6 weights, 4 inputs, q, k, v, p
    wide = run_onnx(in_fp32(graph), hidden) - hidden
    half = run_onnx(graph, hidden.astype(np.float16)).astype(np.float32) - hidden
    print(f"{prefix} layer {index}: {snr_db(branch, wide):.1f} dB in FP32, {snr_db(branch, half):.1f} dB in FP16")
    assert snr_db(branch, wide) >= SNR_DB
    assert snr_db(branch, half) >= 25  # FP16 sums flip FP8 roundings; the FP8 noise itself is about 27 dB


@pytest.mark.parametrize(("encoder", "prefix", "index"), LAYERS)
def test_the_measure_sees_a_missing_quantizer(
    encoder: str, prefix: str, index: int, demo_graph: Any, teacher_forced: Any, run_onnx: Any
) -> None:
    """The unquantized layer fails the same comparison by far, so passing it means something."""
    hidden, branch = teacher_forced(encoder, prefix, index)
    plain = run_onnx(in_fp32(layer_graph(demo_graph(encoder, "fp16"), prefix, index)), hidden) - hidden
    assert snr_db(branch, plain) < SNR_DB - 10


@pytest.mark.parametrize("encoder", ENCODERS)
def test_fp8_embeddings_stay_close_to_pytorch(encoder: str, demo_graph: Any, random_inputs: Any, run_onnx: Any) -> None:
    inputs = random_inputs(SNAPSHOT, encoder, 17)
    got = run_onnx(demo_graph(encoder, "fp8"), inputs)
    reference = hf_embeddings(SNAPSHOT, encoder, inputs)
    assert cosines(got, reference).min() > cosines(got, np.roll(reference, 1, axis=0)).max()
    assert cosines(got, reference).mean() >= 0.98
    assert not np.array_equal(got, run_onnx(demo_graph(encoder, "fp16"), inputs))


# --- the step ----------------------------------------------------------------------------------------------


def amax_table(store: Store, amax: dict[str, float]) -> ArtifactRef:
    with store.staging() as folder:
        pd.DataFrame({"quantizer": list(amax), "amax": list(amax.values())}).to_parquet(folder / AMAX_FILE)
        return store.add("calibration", folder)


def test_steps_write_what_the_parts_write(store: Store, demo_graph: Any, fake_quantized: Any) -> None:
    snapshot = resolve("demo", None, store)
    traced = trace_encoder("clip", snapshot.stored_config, "text")
    fp16 = export_fp16(snapshot, traced.skeleton, "text")
    recipe = load_recipe("fp8")
    fp8 = export_fp8(snapshot, traced.skeleton, "text", recipe, amax_table(store, fake_quantized.amax))
    for exported, precision in ((fp16, "fp16"), (fp8, "fp8")):
        path = store.path(exported.onnx, f"{precision}.onnx")
        model, other = onnx.load(path), onnx.load(demo_graph("text", precision))
        assert model.graph == other.graph
        assert exported.encoder == "text" and exported.precision == precision
        properties = {p.key: p.value for p in model.metadata_props}
        assert properties["clipsmith.precision"] == precision
        assert properties.get("clipsmith.recipe") == (recipe.digest if precision == "fp8" else None)
    assert fp8.onnx.size < fp16.onnx.size


def test_tracing_twice_gives_one_object(store: Store) -> None:
    config = resolve("demo", None, store).stored_config
    assert trace_encoder("clip", config, "text").skeleton == trace_encoder("clip", config, "text").skeleton


def test_export_with_an_incomplete_amax_table_names_the_layer(
    store: Store, skeleton_of: Any, fake_quantized: Any
) -> None:
    missing = "text_model.encoder.layers.1.mlp.fc2.input_quantizer"
    amax = {name: value for name, value in fake_quantized.amax.items() if name != missing}
    with store.staging() as folder:
        skeleton_of(SNAPSHOT, "text").save(folder / "skeleton.onnx")
        skeleton = store.add("skeleton", folder)
    with pytest.raises(BadAmax, match=missing):
        export_fp8(resolve("demo", None, store), skeleton, "text", load_recipe("fp8"), amax_table(store, amax))


# --- independent judges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [None, "fp8", "fp8-no-attention"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_full_checker_and_strict_inference_accept_the_file(
    encoder: str, recipe: str | None, skeleton_of: Any, fake_quantized: Any, tmp_path: Path
) -> None:
    skeleton = skeleton_of(SNAPSHOT, encoder)
    if recipe:
        skeleton = quantize(skeleton, load_recipe(recipe), fake_quantized.amax)
    path = tmp_path / "m.onnx"
    write_onnx(skeleton, WeightReader([SNAPSHOT / "model.safetensors"]), path, {})
    onnx.checker.check_model(str(path), full_check=True)
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
    known = {value.name for value in inferred.graph.value_info} | {value.name for value in inferred.graph.output}
    assert {name for node in inferred.graph.node for name in node.output} <= known
