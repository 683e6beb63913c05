"""Layers as public reports of TensorRT's inspector give them; forms that no public report shows are marked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from artifacts.errors import NotDetailed
from tasks.engines import backend_for
from tasks.engines.inspector import FallBack, Layer, fall_backs, fp8_share, fused_attention, made_of, read_layers
from tasks.engines.plan import Made
from tests.wording import refusal

REPORTS = json.loads(Path(__file__).with_name("inspector").joinpath("reports.json").read_text())


def layers_of(name: str) -> tuple[Layer, ...]:
    (found,) = (report for report in REPORTS if name in report["name"])
    return read_layers(json.dumps(found["report"]))


@pytest.mark.parametrize("report", REPORTS, ids=[report["name"] for report in REPORTS])
def test_layers_are_read_as_reported(report: dict[str, Any]) -> None:
    found = [[layer.kind, layer.precision, list(layer.modules)] for layer in read_layers(json.dumps(report["report"]))]
    assert found == report["expected"]
    assert report["address"].startswith("https://")


def test_what_no_public_report_shows_is_marked() -> None:
    assert [report["verified"] for report in REPORTS] == [True, True, True, False]
    fp8 = [report for report in REPORTS if any(row[1] == "fp8" for row in report["expected"])]
    assert all(not report["verified"] for report in fp8)


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        ("sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n_tilesize64x64x64_stage4_warpsize2x2x1_tensor16x8x32", "fp8"),
        ("sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x128x128_warpgroupsize1x1x1", "fp8"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1", "bf16"),
        ("ampere_fp16_s16816gemm_fp16_256x128_ldg8_f2f_gelu_nn_v1", "fp16"),
        ("sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize160x128x32_stage4_warpsize2x2x1_tensor16x8x16", "fp16"),
    ],
)
def test_kernels_seen_in_public_say_what_they_multiply(tactic: str, precision: str) -> None:
    """From github.com/NVIDIA/TransformerEngine/issues/1391, NVIDIA/TensorRT issues and profiles of ViTs and UNets."""
    layer = {"Name": "x", "LayerType": "gemm", "TacticName": tactic, "Inputs": [{"Format/Datatype": "Float"}]}
    (found,) = read_layers(json.dumps({"Layers": [layer]}))
    assert (found.kind, found.precision) == ("gemm", precision)


def test_a_convolution_is_no_matrix_product_though_its_kernel_is_called_one() -> None:
    tactic = "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw_vect_c_32"
    layer = {"Name": "x", "LayerType": "CaskConvolution", "TacticName": tactic, "Inputs": []}
    assert read_layers(json.dumps([layer]))[0].kind == "other"


def test_shares_by_number_and_by_time() -> None:
    layers = layers_of("TensorRT 11")
    assert fp8_share(layers, "gemm") == fp8_share(layers, "attention") == 0.5
    times = {"vision_model.encoder.layers.0.mlp.fc1/MatMul_myl0_3": 3.0, "visual_projection/MatMul_myl0_9": 1.0}
    assert fp8_share(layers, "gemm", times) == 0.75
    assert fp8_share(layers, "attention", times) is None
    assert fp8_share(layers_of("8.2"), "attention") is None
    assert fp8_share(layers_of("8.2"), "gemm") == 0


def test_fused_attention_and_what_fell_back() -> None:
    layers = layers_of("TensorRT 11")
    attention = "vision_model.encoder.layers.{}.self_attn"
    assert fused_attention(layers) == {attention.format(0): "fp8", attention.format(1): "mixed"}
    quantized = {attention.format(0), attention.format(1), "vision_model.encoder.layers.0.mlp.fc1"}
    assert fall_backs(layers, quantized) == [
        FallBack(attention.format(1), "mixed", "_gemm_mha_v2_0x11111111111111111111111111111111")
    ]
    assert [found.module for found in fall_backs(layers, {"visual_projection"})] == ["visual_projection"]


@pytest.mark.parametrize(
    "report",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"Layers": []}',
        '{"Layers": ["conv1", "fc1"], "Bindings": ["x"]}',
        "[1]",
        '[{"a": 1}]',
        "7",
    ],
)
def test_reports_that_say_too_little(report: str) -> None:
    with refusal(NotDetailed):
        read_layers(report)


def test_what_a_builder_made_is_told_as_far_as_the_layers_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the layout that the inspector is documented to write; asked of a stand-in for the runtime, as a build does."""

    def layer(kind: str, tactic: str, datatype: str, *nodes: str) -> dict[str, Any]:
        inputs = [{"Name": name, "Dimensions": [8, 24, 64], "Format/Datatype": datatype} for name in "xyz"]
        names = "\u001e".join(f"[ONNX Layer: {node}]" for node in nodes)
        return {"Name": nodes[0], "LayerType": kind, "TacticName": tactic, "Inputs": inputs, "Metadata": names}

    report = {
        "Layers": [
            layer("gemm", "sm90_xmma_gemm_e4m3e4m3_f32", "FP8", "a.q/MatMul", "a.k/MatMul", "a.k/Add"),
            layer("mha", "_gemm_mha_v2", "FP8", "a/MatMul", "a/Softmax", "a/MatMul_2"),
            layer("gemm", "sm90_xmma_gemm_f16f16_f16", "Half", "b/MatMul"),
            layer("gemm", "no_known_name", "a type of tomorrow", "b/MatMul_2"),
            layer("gemm", "sm90_xmma_gemm_f16f16_f16", "Half", "c/MatMul", "c/MatMul_2"),
            layer("kgen", "__myl_MulSum", "Half", "d/MatMul"),
        ],
        "Bindings": ["x"],
    }
    products = {"a.q/MatMul": "fp8", "a.k/MatMul": "fp8", "a/MatMul": "fp8", "a/MatMul_2": "fp8"}
    products |= {"b/MatMul": "fp16", "b/MatMul_2": "unknown"}
    expected = Made(launches=None, products=products, fused=(("a/MatMul", "a/MatMul_2"),))
    assert made_of(read_layers(json.dumps(report))) == expected
    blocks = [{f"{name}/MatMul", f"{name}/MatMul_2"} for name in "abc"]
    assert [expected.fuses(block) for block in blocks] == [True, False, None]
    report["Layers"].append(layer("gemm", "sm90_xmma_gemm_f16f16_f16", "Half", "a/MatMul"))
    contradicted = made_of(read_layers(json.dumps(report)))
    assert contradicted.fuses(blocks[0]) is None and contradicted.products["a/MatMul"] == "unknown"
    report["Layers"].pop()

    engine = tmp_path / "an.engine"
    engine.write_bytes(b"an engine")
    told: list[Any] = [json.dumps(report), json.dumps({"Layers": ["a name alone"]}), None]
    inspector = SimpleNamespace(get_engine_information=lambda form: told[0] if form == "JSON" else "")
    loaded = SimpleNamespace(create_engine_inspector=lambda: inspector)
    load = lambda data: loaded if told[0] and data == b"an engine" else None  # noqa: E731
    runtime = SimpleNamespace(
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=load),
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None}),
        LayerInformationFormat=SimpleNamespace(JSON="JSON"),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", runtime)
    for answer in (expected, None, None):
        assert backend_for("tensorrt").made(engine) == answer
        told.pop(0)
