"""What an engine's layers prove, from the inspector's public reports and from forms that no public report shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.bench.engine_evidence import engine_evidence
from tasks.bench.evidence import Evidence, Layer
from tasks.torch_fp8.onnx_graph import OnnxGraph

REPORTS = json.loads((Path(__file__).parents[1] / "engines" / "inspector" / "reports.json").read_text())
HEAD = "vision_model.encoder.layers"
FP8, HALF = {"Datatype": "FP8"}, {"Datatype": "Half"}


def product(module: str, *, fp8: bool = True) -> dict[str, Any]:
    """A matrix product as TensorRT 11 reports it; unverified, as in reports.json."""
    kernel = "sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n" if fp8 else "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n"
    kind = FP8 if fp8 else HALF
    nodes = f"[ONNX Layer: {module}/MatMul]"
    return {
        "Name": f"{module}_myl0",
        "LayerType": "gemm",
        "Inputs": [kind],
        "Constants": [kind],
        "TacticName": kernel,
        "Metadata": nodes,
    }


def fused(module: str) -> dict[str, Any]:
    nodes = f"[ONNX Layer: {module}/MatMul]\x1e[ONNX Layer: {module}/Softmax]"
    return {"Name": f"_gemm_mha_v2_{module}", "LayerType": "kgen", "Inputs": [FP8] * 3, "Metadata": nodes}


@pytest.fixture(scope="module")
def graph(export: Path) -> OnnxGraph:
    return OnnxGraph.load(export / "image" / "fp8.onnx")


def seen(layers: list[dict[str, Any]], times: dict[str, float], graph: OnnxGraph) -> Evidence:
    return engine_evidence(json.dumps({"Layers": layers}), times, graph)


def test_shares_are_of_time(graph: OnnxGraph) -> None:
    fast, slow, attention = (
        product(f"{HEAD}.0.mlp.fc1"),
        product(f"{HEAD}.0.mlp.fc2", fp8=False),
        fused(f"{HEAD}.0.self_attn"),
    )
    norm = {"Name": "norm", "LayerType": "kgen", "Inputs": [HALF], "TacticName": "__myl_Add"}
    times = {fast["Name"]: 0.3, slow["Name"]: 0.1, attention["Name"]: 0.05, "norm": 0.02}
    found = seen([fast, slow, attention, norm], times, graph)
    assert (found.gemm, found.attention, found.other) == pytest.approx((400.0, 50.0, 20.0))
    assert found.fp8_gemm_share == pytest.approx(0.75)
    assert found.fp8_attention_share == 1.0
    assert (found.source, found.weighed_by, found.doubt) == ("engine inspector", "time", None)
    assert found.layers == (
        Layer(f"{HEAD}.0.mlp.fc1", pytest.approx(300.0)),
        Layer(f"{HEAD}.0.mlp.fc2", pytest.approx(100.0)),
        Layer(f"{HEAD}.0.self_attn", pytest.approx(50.0)),
    )
    assert [(fall.module, "fp16" in fall.reason) for fall in found.fallen_back] == [(f"{HEAD}.0.mlp.fc2", True)]
    assert "sm80_xmma_gemm_f16f16" in found.fallen_back[0].reason
    assert found.unfused_attention == (f"{HEAD}.1.self_attn",)
    assert found.kernels[0] == (fast["TacticName"], 1, pytest.approx(300.0))


def test_without_times_shares_are_of_numbers_and_say_so(graph: OnnxGraph) -> None:
    layers = [product("a"), product("b"), product("c", fp8=False)]
    found = seen(layers, {"another name": 1.0}, graph)
    assert found.fp8_gemm_share == pytest.approx(2 / 3)
    assert found.weighed_by == "number"
    assert found.layers == found.kernels == ()


@pytest.mark.parametrize(
    "report",
    [
        "",
        '{"Layers": ["fc1", "fc2"]}',
        '{"Layers": [{"Name": "norm", "LayerType": "kgen"}]}',
        '{"Layers": [{"Name": "fc1", "LayerType": "gemm"}]}',
    ],
)
def test_a_report_that_says_too_little_proves_nothing(report: str, graph: OnnxGraph) -> None:
    assert engine_evidence(report, {"fc1": 1.0}, graph).fp8_gemm_share is None


@pytest.mark.parametrize("report", REPORTS, ids=[report["name"] for report in REPORTS])
def test_public_reports_give_the_share_that_their_layers_have(report: dict[str, Any], graph: OnnxGraph) -> None:
    found = engine_evidence(json.dumps(report["report"]), {}, graph)
    products = [precision for kind, precision, _ in report["expected"] if kind == "gemm"]
    assert found.fp8_gemm_share == (products.count("fp8") / len(products) if products else None)
    assert bool(found.doubt) == (not products)
