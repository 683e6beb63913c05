"""Q/DQ pairs stand where TensorRT's FP8 kernels want them, and nowhere else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from artifacts.errors import BadAmax, ExportError
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.graph.channels import with_channels
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton
from tasks.quantizing.recipe import Recipe, load_recipe

LAYER = "text_model.encoder.layers.0"
FP8 = load_recipe("fp8")


@pytest.fixture
def plain(skeleton_of: Any) -> Skeleton:
    return skeleton_of(SNAPSHOT, "text")


@pytest.fixture
def amax(fake_quantized: Any) -> dict[str, float]:
    return dict(fake_quantized.amax)


@pytest.fixture
def quantized(plain: Skeleton, amax: dict[str, float]) -> Skeleton:
    return quantize(plain, FP8, amax)


def producers(skeleton: Skeleton) -> dict[str, onnx.NodeProto]:
    return {name: node for node in skeleton.model.graph.node for name in node.output}


def constant(skeleton: Skeleton, name: str) -> onnx.TensorProto:
    (tensor,) = [t for t in skeleton.model.graph.initializer if t.name == name]
    return tensor


def operands(skeleton: Skeleton, product: str) -> list[onnx.NodeProto | None]:
    made = producers(skeleton)
    (node,) = [n for n in skeleton.model.graph.node if n.name == product]
    return [made.get(name) for name in node.input]


@pytest.mark.parametrize("encoder", ["image", "text"])
def test_every_product_reads_two_dequantize_nodes(encoder: str, skeleton_of: Any, amax: dict[str, float]) -> None:
    skeleton = quantize(skeleton_of(SNAPSHOT, encoder), FP8, amax)
    made = producers(skeleton)
    products = [node for node in skeleton.model.graph.node if node.op_type == "MatMul"]
    layers = 3 if encoder == "image" else 2
    assert len(products) == layers * 8 + 1  # q, k, v, out, fc1, fc2, q k^T, p v; and the projection
    for product in products:
        for name in product.input:
            dq = made[name]
            assert dq.op_type == "DequantizeLinear"
            source = made.get(dq.input[0])
            if source is None:
                weight = skeleton.weights[dq.input[0]]
                assert weight.precision == "fp8" and weight.scale == dq.input[1]
            else:
                assert source.op_type == "QuantizeLinear"
                assert list(source.input[1:]) == list(dq.input[1:])
            assert constant(skeleton, dq.input[1]).data_type == TensorProto.FLOAT16
            assert constant(skeleton, dq.input[2]).data_type == TensorProto.FLOAT8E4M3FN


def test_only_matmuls_read_what_is_dequantized(quantized: Skeleton) -> None:
    made = producers(quantized)
    readers = [
        node.op_type
        for node in quantized.model.graph.node
        for name in node.input
        if name in made and made[name].op_type == "DequantizeLinear"
    ]
    assert set(readers) == {"MatMul"}


def test_q_k_and_v_share_one_pair(quantized: Skeleton) -> None:
    shared = {operands(quantized, f"{LAYER}.self_attn.{name}_proj/MatMul")[0].name for name in "qkv"}
    assert len(shared) == 1
    quantizers = [n for n in quantized.model.graph.node if n.op_type == "QuantizeLinear"]
    read = Counter(n.input[0] for n in quantizers)
    assert max(read.values()) == 1
    assert read[f"{LAYER}.layer_norm1/LayerNormalization"] == 1


def test_q_k_and_v_do_not_share_different_scales(plain: Skeleton, amax: dict[str, float]) -> None:
    amax[f"{LAYER}.self_attn.k_proj.input_quantizer"] *= 2
    skeleton = quantize(plain, FP8, amax)
    pairs = {name: operands(skeleton, f"{LAYER}.self_attn.{name}_proj/MatMul")[0] for name in "qkv"}
    assert pairs["q"].name == pairs["v"].name != pairs["k"].name
    scales = {name: float(numpy_helper.to_array(constant(skeleton, dq.input[1]))) for name, dq in pairs.items()}
    assert scales["k"] == pytest.approx(2 * scales["q"], rel=2**-10)


def test_scales_are_amax_over_448_in_fp16(quantized: Skeleton, amax: dict[str, float]) -> None:
    import torch

    checked = 0
    for node in quantized.model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        expected = (torch.tensor(amax[node.name.removesuffix("/DequantizeLinear")]) / 448).half()
        got = torch.from_numpy(numpy_helper.to_array(constant(quantized, node.input[1])).copy())
        assert torch.equal(got, expected), node.name
        checked += 1
    assert checked == 2 * (6 + 4 + 4) + 2


def test_softmax_scale_is_fixed(plain: Skeleton, amax: dict[str, float]) -> None:
    """TensorRT's fused attention expects 1/448 (Model-Optimizer #1289); what was calibrated does not matter."""
    amax[f"{LAYER}.self_attn.p_bmm_quantizer"] = 0.3
    skeleton = quantize(plain, FP8, amax)
    dq = operands(skeleton, f"{LAYER}.self_attn/MatMul_2")[0]
    assert producers(skeleton)[dq.input[0]].input[0] == f"{LAYER}.self_attn/Softmax"
    assert numpy_helper.to_array(constant(skeleton, dq.input[1])) == np.float16(1 / 448)


def test_attention_operands_get_their_own_amax(plain: Skeleton, amax: dict[str, float]) -> None:
    """q, k and v have different amax, and none ends at another's place."""
    for index, name in enumerate("qkv"):
        amax[f"{LAYER}.self_attn.{name}_bmm_quantizer"] = 448.0 * 2**index
    skeleton = quantize(plain, FP8, amax)
    first, second = operands(skeleton, f"{LAYER}.self_attn/MatMul"), operands(skeleton, f"{LAYER}.self_attn/MatMul_2")
    scales = [float(numpy_helper.to_array(constant(skeleton, dq.input[1]))) for dq in (*first, second[1])]
    assert scales == [1, 2, 4]
    assert upstream_projection(skeleton, first[0]) == "q_proj"
    assert upstream_projection(skeleton, first[1]) == "k_proj"
    assert upstream_projection(skeleton, second[1]) == "v_proj"


def upstream_projection(skeleton: Skeleton, node: onnx.NodeProto) -> str:
    made = producers(skeleton)
    while not node.name.endswith("_proj/Add"):
        node = made[node.input[0]]
    return node.name.split(".")[-1].removesuffix("/Add")


def test_no_attention_recipe_leaves_attention_alone(plain: Skeleton, amax: dict[str, float]) -> None:
    skeleton = quantize(plain, load_recipe("fp8-no-attention"), amax)
    for product in (f"{LAYER}.self_attn/MatMul", f"{LAYER}.self_attn/MatMul_2"):
        assert all(node.op_type != "DequantizeLinear" for node in operands(skeleton, product))
    assert operands(skeleton, f"{LAYER}.mlp.fc1/MatMul")[0].op_type == "DequantizeLinear"


@pytest.mark.parametrize("module", ["self_attn.q_proj", "self_attn.out_proj", "mlp.fc2"])
def test_excluded_module_stays_fp16(module: str, plain: Skeleton, amax: dict[str, float], recipe_without: Any) -> None:
    name = f"{LAYER}.{module}"
    skeleton = quantize(plain, recipe_without(f"{name}.*"), amax)
    left, right = operands(skeleton, f"{name}/MatMul")
    assert left.op_type != "DequantizeLinear" and right is None
    assert skeleton.weights[f"{name}.weight.T"] == plain.weights[f"{name}.weight.T"]
    others = {key for key, weight in skeleton.weights.items() if weight.precision == "fp8"}
    linear = {f"{m.name}.weight.T" for m in plain.inventory.modules if m.kind == "linear"}
    assert others == linear - {f"{name}.weight.T"}


def test_a_recipe_that_is_off_changes_nothing(plain: Skeleton, recipe_without: Any) -> None:
    skeleton = quantize(plain, recipe_without("*"), {})
    assert skeleton.model == plain.model and skeleton.weights == plain.weights


def test_the_given_skeleton_is_not_changed(plain: Skeleton, amax: dict[str, float]) -> None:
    before = (plain.model.SerializeToString(deterministic=True), dict(plain.weights))
    after = quantize(plain, FP8, amax)
    assert (plain.model.SerializeToString(deterministic=True), plain.weights) == before
    assert after.model.SerializeToString(deterministic=True) != before[0]


def test_scales_by_channel_stand_at_the_weights_columns(
    plain: Skeleton, amax: dict[str, float], recipe_by_channel: Recipe
) -> None:
    """Nothing else changes: the same nodes, and one scale for every activation."""
    reader = WeightReader([SNAPSHOT / "model.safetensors"])
    skeleton = quantize(plain, recipe_by_channel, with_channels(amax, plain, recipe_by_channel, reader))
    one = quantize(plain, FP8, amax)
    assert [(n.name, n.op_type) for n in skeleton.model.graph.node] == [
        (n.name, n.op_type) for n in one.model.graph.node
    ]
    for node in skeleton.model.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        scale, zero = (constant(skeleton, name) for name in node.input[1:])
        assert (scale.data_type, zero.data_type) == (TensorProto.FLOAT16, TensorProto.FLOAT8E4M3FN)
        if node.input[0] in skeleton.weights:
            columns = skeleton.weights[node.input[0]].shape[1]
            assert list(scale.dims) == list(zero.dims) == [columns]
            assert onnx.helper.get_node_attr_value(node, "axis") == 1
            assert not any(zero.raw_data)
        else:
            assert list(scale.dims) == list(zero.dims) == [] and not node.attribute
    names = [tensor.name for tensor in skeleton.model.graph.initializer]
    assert len(names) == len(set(names))


def test_an_amax_of_another_form_than_the_recipe_says_is_refused(
    plain: Skeleton, amax: dict[str, Any], recipe_by_channel: Recipe
) -> None:
    name = f"{LAYER}.mlp.fc1.weight_quantizer"
    with pytest.raises(BadAmax, match="has 1 values"):
        quantize(plain, recipe_by_channel, amax)
    amax[name] = np.ones(8, np.float32)
    with pytest.raises(BadAmax, match=f"{name} has 8 values"):
        quantize(plain, FP8, amax)


@pytest.mark.parametrize("values", [[0, 0], [1, float("nan")], [1, float("inf")], [1, -1]])
def test_bad_channels_name_the_layer(values: list[float], plain: Skeleton, recipe_by_channel: Recipe) -> None:
    name = f"{LAYER}.self_attn.q_proj.weight_quantizer"
    amax: dict[str, Any] = {name: np.array(values, np.float32)}
    amax[f"{LAYER}.self_attn.q_proj.input_quantizer"] = 1.0
    with pytest.raises(BadAmax, match=name):
        quantize(plain, recipe_by_channel, amax)


@pytest.mark.parametrize("value", [None, 0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("quantizer", [f"{LAYER}.mlp.fc1.weight_quantizer", f"{LAYER}.self_attn.v_bmm_quantizer"])
def test_bad_amax_names_the_layer(quantizer: str, value: float | None, plain: Skeleton, amax: dict[str, float]) -> None:
    amax.pop(quantizer)
    if value is not None:
        amax[quantizer] = value
    with pytest.raises(BadAmax, match=quantizer):
        quantize(plain, FP8, amax)


@pytest.mark.parametrize(
    "quantizer",
    [f"{LAYER}.mlp.fc1.weight_quantizer", f"{LAYER}.mlp.fc1.input_quantizer", f"{LAYER}.self_attn.p_bmm_quantizer"],
)
def test_one_operand_off_is_an_error(
    quantizer: str, plain: Skeleton, amax: dict[str, float], recipe_without: Any
) -> None:
    with pytest.raises(ExportError, match=quantizer):
        quantize(plain, recipe_without(quantizer), amax)


def test_amax_of_modules_elsewhere_is_ignored(plain: Skeleton, amax: dict[str, float]) -> None:
    used = {name: value for name, value in amax.items() if name.startswith("text_")}
    assert len(used) < len(amax)
    assert quantize(plain, FP8, used).model == quantize(plain, FP8, amax).model


def test_recipe_rules_decide_linear_modules_by_class(plain: Skeleton, amax: dict[str, float]) -> None:
    """A rule for nn.Linear does not reach the attention products, whatever its pattern."""
    content = FP8.model_dump()
    content["quantize"]["quant_cfg"] = [
        {"quantizer_name": "*", "parent_class": "nn.Linear", "cfg": {"num_bits": "e4m3"}}
    ]
    skeleton = quantize(plain, Recipe.model_validate(content), amax)
    assert operands(skeleton, f"{LAYER}.self_attn/MatMul")[0].op_type == "Transpose"
    assert operands(skeleton, f"{LAYER}.mlp.fc1/MatMul")[0].op_type == "DequantizeLinear"
