"""FP8's layers beside FP16's, by name; and their plot, read back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks.bench import layer_plot
from tasks.bench.evidence import Evidence, FallBack, Kernel, Layer, align
from tasks.bench.layers import LayerRow, join_layers, layer_rows
from tasks.bench.report import BenchReport, EncoderEvidence, Machine, markdown
from tasks.torch_fp8.onnx_graph import OnnxGraph
from tasks.torch_fp8.patterns import fused_plan

ABOUT = ("image", "torch-fp8", 32)
FP16 = (Layer("a.q_proj + k, v", 8.0), Layer("a", 3.0), Layer("a.fc1", 10.0), Layer("a.only16", 1.0))
FP8 = (Layer("a.q_proj + k, v", 4.0), Layer("a", 3.0), Layer("a.fc1", 5.5))
FELL_BACK = (FallBack("a", "no kernel"), FallBack("a.q_proj", "a side of [6, 6]"))


def evidence(layers: tuple[Layer, ...], fallen_back: tuple[FallBack, ...] = ()) -> Evidence:
    return Evidence(1.0, 1.0, 1.0, 0.0, 0.0, fallen_back, layers, ())


def test_layers_are_joined_by_name() -> None:
    assert join_layers(ABOUT, FP16, FP8, FELL_BACK) == [
        LayerRow(*ABOUT, "a.q_proj + k, v", 8.0, 4.0, 2.0, "a side of [6, 6]"),
        LayerRow(*ABOUT, "a", 3.0, 3.0, 1.0, "no kernel"),
        LayerRow(*ABOUT, "a.fc1", 10.0, 5.5, 10 / 5.5, None),
        LayerRow(*ABOUT, "a.only16", 1.0, None, None, None),
    ]


def test_only_what_is_known_in_both_precisions_is_joined() -> None:
    def item(precision: str, batch: int, layers: tuple[Layer, ...]) -> EncoderEvidence:
        return EncoderEvidence("image", precision, "t", batch, evidence(layers))

    found = layer_rows([item("fp16", 1, FP16), item("fp8", 1, FP8), item("fp8", 8, FP8), item("fp16", 9, ())])
    assert {(row.batch, row.module) for row in found} == {(1, layer.module) for layer in FP16}


def test_the_second_kernel_of_a_product_counts_to_it(export: Path) -> None:
    plan = fused_plan(OnnxGraph.load(export / "image" / "fp16.onnx"), kernels=True)
    one = ["nvjet_sm90_hsh_a", "_attention_kernel", "nvjet_sm90_hsh_b", "nvjet_sm90_hsh_c", "nvjet_sm90_hsh_d"]
    last = ["gemvNSP_kernel", "void cublasLt::splitKreduce_kernel<32, 16, int, __half>"]
    names = ["nvjet_sm90_hsh_patches", *one, "triton_poi_fused_0", *one, *last]
    kernels = [Kernel(name, start, start + 1.0) for start, name in enumerate(names)]
    layers = align(kernels, plan)
    assert layers[-1] == Layer("visual_projection", 13.0 + 14.0)
    assert sum(layer.microseconds for layer in layers) == sum(k.duration for k in kernels) - 7.0


def report() -> BenchReport:
    rows = join_layers(ABOUT, FP16, FP8, FELL_BACK)
    return BenchReport("a release", Machine(None, None, None, "", "", None), "", layers=rows)


def test_the_table_says_what_fell_back() -> None:
    text = markdown(report())
    assert "## Per layer: image, torch-fp8, batch 32 (microseconds)" in text
    assert "| a | 3.00 | 3.00 | 1.00 | no kernel |" in text
    assert "| a.only16 | 1.00 |  |  |  |" in text


@pytest.mark.parametrize("many", [False, True])
def test_the_plot_is_drawn_from_the_json(many: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"reports": [asdict(report())]} if many else asdict(report())))
    assert layer_plot.main([str(path)]) == 0
    drawn = tmp_path / "a release-image-torch-fp8-batch32-layers.svg"
    assert capsys.readouterr().out == f"{drawn}\n"
    words = "".join(ET.fromstring(drawn.read_text()).itertext())
    for word in (*(layer.module for layer in FP16), "2.00x", "1.82x", "microseconds"):
        assert word in words


def test_without_matplotlib_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_plot, "find_spec", lambda _: None)
    assert layer_plot.write_layer_plots([asdict(report())], tmp_path) == []
