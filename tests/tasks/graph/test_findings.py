"""Findings are read from the file alone and say what is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.demo import SNAPSHOT
from tasks.graph.findings import read_findings

FC1 = "text_model.encoder.layers.0.mlp.fc1"


def test_scales_are_those_of_the_calibration(demo_graph: Any, fake_quantized: Any) -> None:
    import torch

    products = read_findings(onnx.load(demo_graph("text", "fp8"))).products

    def scale(quantizer: str) -> float:
        return float((torch.tensor(fake_quantized.amax[quantizer]) / 448).half())

    (fc1,) = products[FC1, "linear"]
    assert fc1.node == f"{FC1}/MatMul" and fc1.precision == "fp8"
    assert fc1.first_scale == scale(f"{FC1}.input_quantizer")
    assert fc1.second_scale == scale(f"{FC1}.weight_quantizer")
    attention = "text_model.encoder.layers.1.self_attn"
    (qk,), (pv,) = products[attention, "bmm_qk"], products[attention, "bmm_pv"]
    assert (qk.first_scale, qk.second_scale) == (
        scale(f"{attention}.q_bmm_quantizer"),
        scale(f"{attention}.k_bmm_quantizer"),
    )
    assert (pv.first_scale, pv.second_scale) == (np.float16(1 / 448), scale(f"{attention}.v_bmm_quantizer"))
    assert qk.weight_bytes == pv.weight_bytes == 0


def test_of_scales_by_channel_the_largest_is_shown(demo_graph: Any) -> None:
    """It is the scale that the whole weight would have; nothing else is found to differ."""
    one = read_findings(onnx.load(demo_graph("text", "fp8"))).products
    each = read_findings(onnx.load(demo_graph("text", "fp8", by_channel=True)))
    assert not each.misplaced and each.products.keys() == one.keys()
    for key, (found,) in each.products.items():
        assert found == replace(one[key][0], by_channel=key[1] == "linear")


@pytest.mark.parametrize("encoder", ["image", "text"])
def test_fp16_graph_has_no_scales(encoder: str, demo_graph: Any, skeleton_of: Any) -> None:
    findings = read_findings(onnx.load(demo_graph(encoder, "fp16")))
    found = [f for fs in findings.products.values() for f in fs]
    assert {f.precision for f in found} == {"fp16"} and {f.first_scale for f in found} == {None}
    assert (
        len(found)
        == len(skeleton_of(SNAPSHOT, encoder).inventory.modules) + skeleton_of(SNAPSHOT, encoder).inventory.layers
    )  # an attention has two products
    assert findings.weight_bytes["fp8"] == 0 and not findings.misplaced


def test_signatures(demo_graph: Any) -> None:
    image = read_findings(onnx.load(demo_graph("image", "fp8")))
    text = read_findings(onnx.load(demo_graph("text", "fp8")))
    assert (image.inputs, image.outputs) == (
        "pixel_values [batch, 3, 32, 32] float16",
        "image_embeds [batch, 64] float16",
    )
    assert (text.inputs, text.outputs) == ("input_ids [batch, 16] int64", "text_embeds [batch, 64] float16")


def test_an_embedding_behind_dequantize_is_fp8() -> None:
    """DQ -> Gather holds an FP8 embedding."""
    scale = numpy_helper.from_array(np.array(0.5, np.float16), "s")
    table = helper.make_tensor("emb.weight", TensorProto.FLOAT8E4M3FN, [4, 2], bytes(8), raw=True)
    zero = helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True)
    nodes = [
        helper.make_node("DequantizeLinear", ["emb.weight", "s", "z"], ["d"], name="dq"),
        helper.make_node("Gather", ["d", "ids"], ["y"], name="emb/Gather"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT16, ["batch", 2])
    graph = helper.make_graph(nodes, "g", [ids], [out], [scale, table, zero])
    findings = read_findings(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    ((found,),) = findings.products.values()
    assert list(findings.products) == [("emb", "embedding")]
    assert (found.precision, found.weight_bytes) == ("fp8", 8)
    assert findings.misplaced == []


@pytest.mark.parametrize(
    ("zero_type", "complaint"),
    [
        (TensorProto.FLOAT8E4M3FN, None),
        (TensorProto.FLOAT8E5M2, "is not FP8 E4M3"),
        (TensorProto.INT8, "is not FP8 E4M3"),
    ],
)
def test_only_e4m3_counts(zero_type: int, complaint: str | None) -> None:
    scale = numpy_helper.from_array(np.array(0.5, np.float16), "s")
    zero = helper.make_tensor("z", zero_type, [], b"\0", raw=True)
    nodes = []
    for side in "ab":
        nodes += [
            helper.make_node("QuantizeLinear", [side, "s", "z"], [f"q{side}"], name=f"q{side}"),
            helper.make_node("DequantizeLinear", [f"q{side}", "s", "z"], [f"d{side}"], name=f"d{side}"),
        ]
    nodes.append(helper.make_node("MatMul", ["da", "db"], ["y"], name="m/MatMul"))
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, [2, 2]) for n in "aby"]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], [scale, zero])
    findings = read_findings(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    assert findings.misplaced == ([f"{n} {complaint}" for n in ("qa", "da", "qb", "db")] if complaint else [])
