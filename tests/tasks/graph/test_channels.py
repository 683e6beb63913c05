"""The amax of channels are ModelOpt's of the same weights, and the graph holds what its fake quantization makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file

from artifacts.errors import BadAmax
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.families import family_named
from tasks.graph.channels import with_channels
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.writer import write_onnx
from tasks.quantizing.modelopt import read_channels
from tasks.quantizing.recipe import Recipe
from tests.made_once import traced_once
from tests.tasks.families.support import CONFIGS, ENCODERS, reader, save_checkpoint, simulate

FC1 = "text_model.encoder.layers.0.mlp.fc1"


def dequantized_weights(path: Path) -> dict[str, np.ndarray]:
    """By weight quantizer, (in, out) as ONNX Runtime widens it; the nodes alone, as the graph has them."""
    import onnxruntime as ort

    model = onnx.load(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in stored]
    outputs = [helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT16, None) for n in nodes]
    used = {name for node in nodes for name in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(nodes, "weights", [], outputs, constants)
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = ort.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
    return {n.name.removesuffix("/DequantizeLinear"): v for n, v in zip(nodes, session.run(None, {}), strict=True)}


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_graph_holds_what_modelopt_simulates(
    name: str, tmp_path: Path, session_folder: Path, recipe_by_channel: Recipe
) -> None:
    """SigLIP's pooling attention stores q, k and v as rows of one tensor. One row is zero, and one is huge."""
    config = CONFIGS[name]
    folder = save_checkpoint(config, tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    for key, values in weights.items():
        if key.endswith("fc2.weight"):
            values[3], values[5] = 0, values[5] * 1000
    save_file(weights, file, metadata={"format": "pt"})
    made = simulate(name, config, folder, recipe_by_channel)
    theirs = read_channels(made.model)
    assert theirs and all(len(values) > 1 for values in theirs.values())
    compared = 0
    for encoder in ENCODERS:
        skeleton = traced_once(session_folder, trace_by_block, family_named(name), config, encoder)
        amax = with_channels(made.amax, skeleton, recipe_by_channel, reader(name, folder))
        path = tmp_path / f"{encoder}.onnx"
        write_onnx(quantize(skeleton, recipe_by_channel, amax), reader(name, folder), path, {})
        onnx.checker.check_model(str(path), full_check=True)
        for quantizer, got in dequantized_weights(path).items():
            assert theirs[quantizer] == amax[quantizer].tolist()  # type: ignore[union-attr]
            module = made.model.get_submodule(quantizer.rpartition(".")[0])
            compared += _compare(got, module)
    assert compared == len(theirs)


def _compare(got: np.ndarray, module: Any) -> int:
    """With PyTorch's own cast exactly; with ModelOpt's quantizer, which multiplies by 1 / scale, but for ties."""
    weight = module.weight.detach().half().float()
    scales = (module.weight_quantizer.amax.float() / 448).clamp(min=2.0**-14).half().float()
    exact = ((weight / scales).to(torch.float8_e4m3fn).float() * scales).half()
    assert np.array_equal(got.T, exact.numpy())
    module.weight_quantizer.amax = scales * 448
    with torch.no_grad():
        simulated = module.weight_quantizer(weight).half().numpy()
    differing = ~np.isclose(got.T, simulated, rtol=2**-9, atol=0)
    assert differing.mean() < 0.002
    return 1


def test_a_zero_row_stays_zero_and_small_ones_keep_their_digits(
    tmp_path: Path, session_folder: Path, recipe_by_channel: Recipe
) -> None:
    """By one scale a huge row leaves the others nothing."""
    folder = save_checkpoint(CONFIGS["clip"], tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights[f"{FC1}.weight"][0] = 0
    weights[f"{FC1}.weight"][1] = 60_000
    save_file(weights, folder / "model.safetensors")
    made = reader("clip", folder)
    skeleton = traced_once(session_folder, trace_by_block, family_named("clip"), CONFIGS["clip"], "text")
    linears = [m.name for m in skeleton.inventory.modules if m.kind == "linear"]
    amax = {f"{n}.weight_quantizer": float(weights[f"{n}.weight"].abs().max()) for n in linears}
    amax |= {f"{m.name}.input_quantizer": 1.0 for m in skeleton.inventory.modules}
    amax |= {f"{m.name}.{o}_bmm_quantizer": 1.0 for m in skeleton.inventory.modules for o in "qkv"}
    write_onnx(
        quantize(skeleton, recipe_by_channel, with_channels(amax, skeleton, recipe_by_channel, made)),
        made,
        tmp_path / "g.onnx",
        {},
    )
    got = dequantized_weights(tmp_path / "g.onnx")[f"{FC1}.weight_quantizer"].T.astype(np.float32)
    expected = weights[f"{FC1}.weight"].numpy()
    assert not got[0].any()
    large = np.abs(expected) > np.abs(expected).max(axis=1, keepdims=True) / 64
    assert np.allclose(got[large], expected[large], rtol=2**-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_stored_types_are_seen_as_modelopt_does(
    dtype: torch.dtype, skeleton_of: Any, fake_quantized: Any, recipe_by_channel: Recipe, tmp_path: Path
) -> None:
    tensors = {name: values.to(dtype) for name, values in load_file(SNAPSHOT / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    skeleton = skeleton_of(SNAPSHOT, "text")
    linears = [m.name for m in skeleton.inventory.modules if m.kind == "linear"]
    rows = {f"{n}.weight_quantizer": tensors[f"{n}.weight"].float().abs().amax(1) for n in linears}
    amax = fake_quantized.amax | {name: float(values.max()) for name, values in rows.items()}
    found = with_channels(amax, skeleton, recipe_by_channel, WeightReader([tmp_path / "model.safetensors"]))
    assert {name: values.tolist() for name, values in rows.items()} == {
        name: values.tolist() for name, values in found.items() if isinstance(values, np.ndarray)
    }


def test_a_table_of_other_weights_is_refused(skeleton_of: Any, fake_quantized: Any, recipe_by_channel: Recipe) -> None:
    weights = WeightReader([SNAPSHOT / "model.safetensors"])
    for value in (2 * fake_quantized.amax[f"{FC1}.weight_quantizer"], None):
        amax = fake_quantized.amax | {f"{FC1}.weight_quantizer": value}
        with pytest.raises(BadAmax, match=f"{FC1}.weight_quantizer"):
            with_channels(amax, skeleton_of(SNAPSHOT, "text"), recipe_by_channel, weights)
