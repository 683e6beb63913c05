"""The audit passes what the pipeline writes and refuses every kind of broken graph, naming the culprit."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from artifacts.errors import AuditError
from artifacts.store.store import Store
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.file_names import RECIPE_KEY
from tasks.graph import writer
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Inventory
from tasks.graph.writer import write_onnx
from tasks.pipeline.graph_audit import audit, audit_file
from tasks.quantizing.recipe import Recipe, load_recipe

FC1 = "text_model.encoder.layers.0.mlp.fc1"
ATTENTION = "text_model.encoder.layers.0.self_attn"
FP8 = load_recipe("fp8")


@pytest.fixture
def text(skeleton_of: Any) -> Inventory:
    """What PyTorch says about the demo's text encoder."""
    return skeleton_of(SNAPSHOT, "text").inventory


@pytest.fixture
def graph(demo_graph: Any) -> onnx.ModelProto:
    """The demo's FP8 text graph, free to be broken."""
    return onnx.load(demo_graph("text", "fp8"))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[onnx.ModelProto], Path]:
    def save(model: onnx.ModelProto) -> Path:
        onnx.save(model, tmp_path / "broken.onnx")
        return tmp_path / "broken.onnx"

    return save


@pytest.fixture
def external(skeleton_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's FP16 text graph with its weights in `fp16.onnx.data`."""
    monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", 0)
    folder = tmp_path / "object"
    folder.mkdir()
    write_onnx(skeleton_of(SNAPSHOT, "text"), WeightReader([SNAPSHOT / "model.safetensors"]), folder / "fp16.onnx", {})
    return folder / "fp16.onnx"


def node_of(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (node,) = [node for node in model.graph.node if node.name == name]
    return node


def insert_before(model: onnx.ModelProto, consumer: str, index: int, node: onnx.NodeProto) -> None:
    """Put `node` in front of one input of `consumer`."""
    nodes = list(model.graph.node)
    position = [n.name for n in nodes].index(consumer)
    nodes.insert(position, node)
    nodes[position + 1].input[index] = node.output[0]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def remove(model: onnx.ModelProto, name: str) -> None:
    model.graph.node.remove(node_of(model, name))


def refused(path: Path, inventory: Inventory, recipe: Recipe | None = FP8) -> str:
    with pytest.raises(AuditError) as caught:
        audit_file(path, inventory, recipe)
    return str(caught.value)


# --- good graphs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_a_good_graph_passes(encoder: str, precision: str, skeleton_of: Any, demo_graph: Any) -> None:
    inventory = skeleton_of(SNAPSHOT, encoder).inventory
    path = demo_graph(encoder, precision)
    findings = audit_file(path, inventory, FP8 if precision == "fp8" else None)
    assert not findings.misplaced
    found = Counter(kind for _, kind in findings.products)
    expected = modules_of_pytorch(encoder)
    assert {kind: found[kind] for kind in expected} == expected
    assert (found["bmm_qk"], found["bmm_pv"]) == (inventory.layers, inventory.layers)
    sizes: Counter[str] = Counter()
    for tensor in onnx.load(path).graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN):
            sizes["fp16" if tensor.data_type == TensorProto.FLOAT16 else "fp8"] += len(tensor.raw_data)
    assert (findings.weight_bytes["fp8"], findings.weight_bytes["fp16"]) == (sizes["fp8"], sizes["fp16"])


def modules_of_pytorch(encoder: str) -> dict[str, int]:
    import torch
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(SNAPSHOT)
    side = "vision_model" if encoder == "image" else "text_model"
    projection = "visual_projection" if encoder == "image" else "text_projection"
    modules = [m for n, m in model.named_modules() if n.startswith((side, projection))]
    kinds = {"linear": torch.nn.Linear, "embedding": torch.nn.Embedding, "conv": torch.nn.Conv2d}
    return {kind: sum(isinstance(m, cls) for m in modules) for kind, cls in kinds.items()}


@pytest.mark.parametrize("encoder", ["image", "text"])
def test_scales_by_channel_pass_under_their_own_recipe_alone(
    encoder: str, skeleton_of: Any, demo_graph: Any, recipe_by_channel: Recipe
) -> None:
    inventory = skeleton_of(SNAPSHOT, encoder).inventory
    each, one = demo_graph(encoder, "fp8", by_channel=True), demo_graph(encoder, "fp8")
    audit_file(each, inventory, recipe_by_channel)
    assert "has a scale for each output channel" in refused(each, inventory, FP8)
    assert "has one scale for the whole weight" in refused(one, inventory, recipe_by_channel)


@pytest.mark.parametrize("patterns", [("*bmm_quantizer",), ("*.fc1.*",), ("text_projection.*", "*out_proj*")])
def test_modules_that_the_recipe_leaves_out_pass_as_fp16(
    patterns: tuple[str, ...], skeleton_of: Any, fake_quantized: Any, recipe_without: Any, tmp_path: Path
) -> None:
    recipe = recipe_without(*patterns)
    skeleton = quantize(skeleton_of(SNAPSHOT, "text"), recipe, fake_quantized.amax)
    label = {RECIPE_KEY: recipe.digest}
    write_onnx(skeleton, WeightReader([SNAPSHOT / "model.safetensors"]), tmp_path / "m.onnx", label)
    precisions = {
        key: found[0].precision
        for key, found in audit_file(tmp_path / "m.onnx", skeleton.inventory, recipe).products.items()
    }
    left = {key for key, precision in precisions.items() if precision == "fp16" and key[1] != "embedding"}
    expected = {
        "*bmm_quantizer": {
            (f"text_model.encoder.layers.{i}.self_attn", k) for i in (0, 1) for k in ("bmm_qk", "bmm_pv")
        },
        "*.fc1.*": {(f"text_model.encoder.layers.{i}.mlp.fc1", "linear") for i in (0, 1)},
        "text_projection.*": {("text_projection", "linear")},
        "*out_proj*": {(f"text_model.encoder.layers.{i}.self_attn.out_proj", "linear") for i in (0, 1)},
    }
    assert left == set().union(*(expected[pattern] for pattern in patterns))


def test_a_graph_that_names_another_recipe(
    demo_graph: Any, saved: Any, text: Inventory, graph: onnx.ModelProto
) -> None:
    """Its products are as asked, but it could not be traced back to the recipe."""
    (label,) = [entry for entry in graph.metadata_props if entry.key == RECIPE_KEY]
    label.value = "0" * 64
    assert f"made by recipe {'0' * 64}" in refused(saved(graph), text)
    graph.metadata_props.remove(label)
    assert "made by no recipe" in refused(saved(graph), text)
    plain = onnx.load(demo_graph("text", "fp16"))
    plain.metadata_props.add(key=RECIPE_KEY, value=FP8.digest)
    assert f"made by recipe {FP8.digest}" in refused(saved(plain), text, None)


def test_external_data_passes(external: Path, text: Inventory) -> None:
    assert external.with_name("fp16.onnx.data").is_file()
    audit_file(external, text, None)


def test_the_step_reports_rows_of_a_passed_graph(store: Store, skeleton_of: Any, demo_graph: Any) -> None:
    skeleton = skeleton_of(SNAPSHOT, "text")
    with store.staging() as folder:
        skeleton.save(folder / "skeleton.onnx")
        skeleton_ref = store.add("skeleton", folder)
    with store.staging() as folder:
        (folder / "fp8.onnx").write_bytes(demo_graph("text", "fp8").read_bytes())
        onnx_ref = store.add("onnx", folder)
    result = audit(onnx_ref, skeleton_ref, "fp8", FP8)
    rows = {(row["module"], row["kind"]): row for row in result.coverage}
    assert len(rows) == len(result.coverage) == sum(modules_of_pytorch("text").values()) + 2 * 2
    assert all(row["expected"] == row["actual"] for row in rows.values())
    weight = {t.name: t for t in onnx.load(demo_graph("text", "fp8")).graph.initializer}
    fc1 = rows[FC1, "linear"]
    assert fc1["weight_bytes"] == 128 * 512
    assert fc1["weight_scale"] == float(numpy_helper.to_array(weight[f"{FC1}.weight.T.scale"]))
    assert fc1["input_scale"] == float(numpy_helper.to_array(weight[f"{FC1}.input_quantizer.scale"]))
    assert rows["text_model.embeddings.token_embedding", "embedding"]["weight_bytes"] == 603 * 128 * 2
    assert result.file_bytes == demo_graph("text", "fp8").stat().st_size
    assert result.encoder_row["layers"] == 2 and result.encoder_row["embedding_dim"] == 64


# --- broken files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_truncated_file(keep: float, demo_graph: Any, tmp_path: Path, text: Inventory) -> None:
    content = demo_graph("text", "fp8").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * keep)])
    assert "cut.onnx" in refused(tmp_path / "cut.onnx", text)


def test_not_onnx_at_all(tmp_path: Path, text: Inventory) -> None:
    (tmp_path / "x.onnx").write_bytes(os.urandom(4096))
    assert "x.onnx" in refused(tmp_path / "x.onnx", text)


@pytest.mark.parametrize("name", [f"{FC1}.bias", "text_model.embeddings.token_embedding.weight"])
@pytest.mark.parametrize("cut", [None, 1])
def test_weight_without_all_its_bytes(
    cut: int | None, name: str, graph: onnx.ModelProto, tmp_path: Path, text: Inventory
) -> None:
    weight = next(t for t in graph.graph.initializer if t.name == name)
    if cut is None:
        weight.ClearField("raw_data")
    else:
        weight.raw_data = weight.raw_data[:-cut]
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    assert name in refused(tmp_path / "m.onnx", text)


def test_weight_of_no_type(graph: onnx.ModelProto, tmp_path: Path, text: Inventory) -> None:
    next(t for t in graph.graph.initializer if t.name == f"{FC1}.bias").data_type = TensorProto.UNDEFINED
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    assert f"{FC1}.bias" in refused(tmp_path / "m.onnx", text)


def test_external_data_missing(external: Path, text: Inventory) -> None:
    external.with_name("fp16.onnx.data").unlink()
    message = refused(external, text, None)
    assert "text_model.embeddings.token_embedding.weight" in message and "fp16.onnx.data" in message


def test_external_data_short(external: Path, text: Inventory) -> None:
    data = external.with_name("fp16.onnx.data")
    with data.open("r+b") as stream:
        stream.truncate(data.stat().st_size - 1)
    message = refused(external, text, None)
    last = max(
        onnx.load(external, load_external_data=False).graph.initializer,
        key=lambda t: max([int(e.value) for e in t.external_data if e.key == "offset"], default=-1),
    )
    assert "is short" in message and last.name in message


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "1000000000"), ("offset", "-4096"), ("offset", "x"), ("length", "2"), ("length", "")]
)
def test_external_data_with_a_false_entry(key: str, value: str, external: Path, text: Inventory) -> None:
    model = onnx.load(external, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == f"{FC1}.weight.T")
    (entry,) = [e for e in tensor.external_data if e.key == key]
    entry.value = value
    external.write_bytes(model.SerializeToString())
    assert f"{FC1}.weight.T" in refused(external, text, None)


@pytest.mark.parametrize("location", ["../fp16.onnx.data", "..", "", "/etc/passwd", "sub/../fp16.onnx.data"])
def test_external_data_elsewhere(location: str, external: Path, text: Inventory) -> None:
    data = external.with_name("fp16.onnx.data")
    (external.parent.parent / data.name).write_bytes(data.read_bytes())
    (external.parent / "sub").mkdir()
    model = onnx.load(external, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == f"{FC1}.weight.T")
    (entry,) = [e for e in tensor.external_data if e.key == "location"]
    entry.value = location
    external.write_bytes(model.SerializeToString())
    assert f"{FC1}.weight.T" in refused(external, text, None)


def test_external_data_is_a_symlink(external: Path, text: Inventory) -> None:
    data = external.with_name("fp16.onnx.data")
    data.rename(external.parent / "real")
    data.symlink_to("real")
    assert "text_model.embeddings.token_embedding.weight" in refused(external, text, None)


def test_external_data_has_another_hard_link(external: Path, text: Inventory, tmp_path: Path) -> None:
    (tmp_path / "other").hardlink_to(external.with_name("fp16.onnx.data"))
    message = refused(external, text, None)
    assert "hard link" in message and "fp16.onnx.data" in message


# --- broken graphs -----------------------------------------------------------------------------------------


def test_fp16_graph_labelled_fp8(demo_graph: Any, text: Inventory) -> None:
    message = refused(demo_graph("text", "fp16"), text)
    assert f"{ATTENTION} (bmm_qk) is fp16" in message or "linear) is fp16" in message
    assert "text_model.encoder.layers.0" in message


def test_fp8_graph_labelled_fp16(demo_graph: Any, text: Inventory) -> None:
    message = refused(demo_graph("text", "fp8"), text, None)
    assert "text_model.encoder.layers.0" in message and "is fp8" in message


def test_recipe_that_quantizes_nothing(demo_graph: Any, text: Inventory, recipe_without: Any) -> None:
    assert "nothing in it is" in refused(demo_graph("text", "fp16"), text, recipe_without("*"))


@pytest.mark.parametrize("value", ["input_ids", "text_embeds"])
def test_batch_is_not_symbolic(value: str, graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    (info,) = [v for v in (*graph.graph.input, *graph.graph.output) if v.name == value]
    info.type.tensor_type.shape.dim[0].dim_value = 4
    assert value in refused(saved(graph), text)


def test_second_dimension_is_symbolic(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    assert "input_ids" in refused(saved(graph), text)


def test_module_quantized_against_the_recipe(demo_graph: Any, text: Inventory, recipe_without: Any) -> None:
    message = refused(demo_graph("text", "fp8"), text, recipe_without(f"{FC1}.*"))
    assert f"{FC1} (linear) is fp8" in message and f"{FC1}/MatMul" in message


def test_module_left_out(
    skeleton_of: Any, fake_quantized: Any, recipe_without: Any, tmp_path: Path, text: Inventory
) -> None:
    skeleton = quantize(skeleton_of(SNAPSHOT, "text"), recipe_without(f"{FC1}.*"), fake_quantized.amax)
    write_onnx(skeleton, WeightReader([SNAPSHOT / "model.safetensors"]), tmp_path / "m.onnx", {})
    message = refused(tmp_path / "m.onnx", text)
    assert f"{FC1} (linear) is fp16" in message and f"{FC1}/MatMul" in message


def test_attention_left_out(
    skeleton_of: Any, fake_quantized: Any, recipe_without: Any, tmp_path: Path, text: Inventory
) -> None:
    skeleton = quantize(
        skeleton_of(SNAPSHOT, "text"), recipe_without(f"{ATTENTION}.[pv]_bmm_quantizer"), fake_quantized.amax
    )
    write_onnx(skeleton, WeightReader([SNAPSHOT / "model.safetensors"]), tmp_path / "m.onnx", {})
    assert f"{ATTENTION} (bmm_pv) is fp16" in refused(tmp_path / "m.onnx", text)


def test_module_absent(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    """Layer 0's q_proj computed with k_proj's weight: one module twice, another not at all."""
    q, k = (node_of(graph, f"{ATTENTION}.{name}/MatMul") for name in ("q_proj", "k_proj"))
    dq = node_of(graph, k.input[1])
    copy = onnx.NodeProto.FromString(dq.SerializeToString())
    remove(graph, dq.name)
    insert_before(graph, q.name, 1, copy)
    remove(graph, f"{ATTENTION}.q_proj.weight_quantizer/DequantizeLinear")
    message = refused(saved(graph), text)
    assert f"{ATTENTION}.k_proj has 2" in message or f"{ATTENTION}.q_proj has 0" in message


def test_module_twice(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    again = onnx.NodeProto.FromString(node_of(graph, f"{FC1}/MatMul").SerializeToString())
    again.name, again.output[0] = "again/MatMul", "again"
    graph.graph.node.append(again)
    assert f"{FC1} has 2 linear products" in refused(saved(graph), text)


def test_product_of_an_unknown_module(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    smaller = text.model_copy(update={"modules": tuple(m for m in text.modules if m.name != FC1)})
    assert FC1 in refused(saved(graph), smaller)


def test_one_operand_is_not_quantized(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    product = node_of(graph, f"{FC1}/MatMul")
    product.input[0] = node_of(graph, f"{FC1}.input_quantizer/QuantizeLinear").input[0]
    remove(graph, f"{FC1}.input_quantizer/DequantizeLinear")
    remove(graph, f"{FC1}.input_quantizer/QuantizeLinear")
    message = refused(saved(graph), text)
    assert f"{FC1} (linear) is mixed" in message


def test_transpose_between_weight_dq_and_matmul(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    weight = next(t for t in graph.graph.initializer if t.name == f"{FC1}.weight.T")
    rows, columns = weight.dims
    flipped = np.frombuffer(weight.raw_data, np.uint8).reshape(rows, columns).T
    weight.raw_data = np.ascontiguousarray(flipped).tobytes()
    weight.dims[:] = [columns, rows]
    dq = f"{FC1}.weight_quantizer/DequantizeLinear"
    insert_before(graph, f"{FC1}/MatMul", 1, helper.make_node("Transpose", [dq], ["t"], name="t", perm=[1, 0]))
    message = refused(saved(graph), text)
    assert dq in message and "Transpose" in message


def test_transpose_between_key_dq_and_matmul(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    """Where ModelOpt's own export leaves it: q k^T with the transpose after the quantization of k."""
    quantize_k = node_of(graph, f"{ATTENTION}.k_bmm_quantizer/QuantizeLinear")
    before = next(n for n in graph.graph.node if quantize_k.input[0] in n.output)
    assert before.op_type == "Transpose"
    quantize_k.input[0] = before.input[0]
    dq = f"{ATTENTION}.k_bmm_quantizer/DequantizeLinear"
    perm = [0, 2, 3, 1]
    insert_before(graph, f"{ATTENTION}/MatMul", 1, helper.make_node("Transpose", [dq], ["t"], name="t", perm=perm))
    graph.graph.node.remove(before)
    message = refused(saved(graph), text)
    assert dq in message and "Transpose" in message


def test_scaling_between_query_dq_and_matmul(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0.125, np.float16), "factor"))
    dq = f"{ATTENTION}.q_bmm_quantizer/DequantizeLinear"
    insert_before(graph, f"{ATTENTION}/MatMul", 0, helper.make_node("Mul", [dq, "factor"], ["scaled"], name="scaled"))
    message = refused(saved(graph), text)
    assert dq in message and "Mul" in message


def test_quantize_feeds_nothing(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    stray = onnx.NodeProto()
    stray.CopyFrom(node_of(graph, f"{FC1}.input_quantizer/QuantizeLinear"))
    stray.name, stray.output[0] = "stray", "stray"
    graph.graph.node.append(stray)
    assert "stray" in refused(saved(graph), text)


@pytest.mark.parametrize("index", [0, 1])
def test_mixed_float_types(index: int, graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    """A Cast to float on one operand: ONNX Runtime and TensorRT refuse to multiply FP32 with FP16."""
    product = node_of(graph, f"{FC1}/MatMul")
    cast = helper.make_node("Cast", [product.input[index]], ["wide"], name="wide", to=TensorProto.FLOAT)
    insert_before(graph, f"{FC1}/MatMul", index, cast)
    assert f"{FC1}/" in refused(saved(graph), text)


def test_mixed_float_types_in_an_addition(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    name = "text_model.encoder.layers.0/Add"
    cast = helper.make_node("Cast", [node_of(graph, name).input[1]], ["wide"], name="wide", to=TensorProto.FLOAT)
    insert_before(graph, name, 1, cast)
    assert name in refused(saved(graph), text)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_normalisation_in_another_type(name: str, graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    module = "text_model.encoder.layers.0.layer_norm1"
    values = next(t for t in graph.graph.initializer if t.name == f"{module}.{name}")
    values.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(values).astype(np.float32), values.name))
    assert f"{module}/LayerNormalization" in refused(saved(graph), text)


def test_scale_of_another_type_than_its_tensor(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    """ONNX leaves it open, a strongly typed build does not."""
    scale = next(t for t in graph.graph.initializer if t.name == f"{FC1}.input_quantizer.scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale).astype(np.float32), scale.name))
    assert f"{FC1}" in refused(saved(graph), text)


def test_foreign_domain(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    """What ModelOpt's own exporter leaves behind."""
    node = node_of(graph, f"{FC1}.input_quantizer/QuantizeLinear")
    node.op_type, node.domain = "TRT_FP8QuantizeLinear", "trt"
    graph.opset_import.append(helper.make_opsetid("trt", 1))
    message = refused(saved(graph), text)
    assert f"{FC1}.input_quantizer/QuantizeLinear" in message and "trt" in message


def test_other_opset(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    graph.opset_import[0].version = 21
    assert "opset 20" in refused(saved(graph), text)


def test_foreign_import(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    graph.opset_import.append(helper.make_opsetid("trt", 1))
    assert "'trt': 1" in refused(saved(graph), text)


def test_int8_is_not_fp8(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    """The same placement in INT8."""
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT8E4M3FN:
            tensor.data_type = TensorProto.INT8
    assert "text_model.encoder.layers.0" in refused(saved(graph), text)


def test_quantized_and_dequantized_with_different_scales(graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    other = next(t.name for t in graph.graph.initializer if t.name == f"{ATTENTION}.p_bmm_quantizer.scale")
    node_of(graph, f"{FC1}.input_quantizer/DequantizeLinear").input[1] = other
    assert f"{FC1}.input_quantizer/DequantizeLinear" in refused(saved(graph), text)


def test_channels_along_another_axis(demo_graph: Any, saved: Any, text: Inventory, recipe_by_channel: Recipe) -> None:
    """A square weight: the graph is valid either way."""
    model = onnx.load(demo_graph("text", "fp8", by_channel=True))
    node = node_of(model, f"{ATTENTION}.q_proj.weight_quantizer/DequantizeLinear")
    node.attribute[0].i = 0
    message = refused(saved(model), text, recipe_by_channel)
    assert node.name in message and "not those of a weight's columns" in message


@pytest.mark.parametrize("operand", ["QuantizeLinear", "DequantizeLinear"])
def test_channels_of_an_activation(operand: str, graph: onnx.ModelProto, saved: Any, text: Inventory) -> None:
    node = node_of(graph, f"{FC1}.input_quantizer/{operand}")
    weight = {t.name: list(t.dims) for t in graph.graph.initializer}[f"{FC1}.weight.T"]
    scales = numpy_helper.from_array(np.full(weight[0], 0.01, np.float16), "scales")
    zeros = helper.make_tensor("zeros", TensorProto.FLOAT8E4M3FN, weight[:1], bytes(weight[0]), raw=True)
    graph.graph.initializer.extend([scales, zeros])
    node.input[1:] = ["scales", "zeros"]
    node.attribute.append(helper.make_attribute("axis", 2))
    assert node.name in refused(saved(graph), text)
