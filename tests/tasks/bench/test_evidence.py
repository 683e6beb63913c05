"""Kernels by the names that an H100 with PyTorch 2.11 and CUDA 13 gave them, held against a plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.bench.evidence import Kernel, align, fallen_back, weigh
from tasks.torch_fp8.onnx_graph import OnnxGraph
from tasks.torch_fp8.patterns import fused_plan

CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1_cga1x1x1_kernel0_0"
NAMES = {
    "nvjet_sm90_qqhsh_128x256_128x4_1x2_h_bz_coopA_bias_TNN": ("gemm", True),
    "nvjet_sm90_hsh_192x192_64x4_1x2_h_bz_coopB_bias_TNN": ("gemm", False),
    "_linear_kernel": ("gemm", True),
    CUDNN: ("attention", False),
    "_attention_kernel": ("attention", False),
    "triton_poi_fused__scaled_mm__to_copy_clamp_div_mul_sigmoid_t_view_36": ("other", False),
    "triton_per_fused__to_copy_add_clamp_div_linear_activated_native_layer_norm_view_35": ("other", False),
    "triton_tem_fused_addmm_2": ("gemm", False),
    "void at::native::vectorized_elementwise_kernel<8, at::native::sigmoid_kernel_cuda(": (
        "other",
        False,
    ),
    "Memset (Device)": ("other", False),
}


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_known_by_name(name: str) -> None:
    kernel = Kernel(name, 0, 1)
    assert (kernel.kind, kernel.fp8) == NAMES[name]


def test_time_and_layers(export: Path) -> None:
    graph = OnnxGraph.load(export / "image" / "fp8.onnx")
    plan = fused_plan(graph, kernels=True)
    one = ["nvjet_sm90_qqhsh_a", "_attention_kernel", "nvjet_sm90_qqhsh_b", "_linear_kernel", "nvjet_sm90_qqhsh_c"]
    names = ["nvjet_sm90_hsh_patches", *one, "triton_poi_fused_0", *one, "nvjet_sm90_qqhsh_projection"]
    kernels = [Kernel(name, start, start + 1.0) for start, name in enumerate(names)]
    found = weigh(kernels, graph, plan)
    assert (found.gemm, found.attention, found.other) == (72, 12, 7)
    assert found.fp8_gemm_share == pytest.approx(1 - 1 / 72)
    layers = {layer.module: layer.microseconds for layer in found.layers}
    assert list(layers)[:4] == [
        "vision_model.embeddings.patch_embedding",
        "vision_model.encoder.layers.0.self_attn.q_proj + k, v",
        "vision_model.encoder.layers.0.self_attn",
        "vision_model.encoder.layers.0.self_attn.out_proj",
    ]
    assert layers["vision_model.encoder.layers.1.mlp.fc1"] == 11 and layers["visual_projection"] == 13
    assert align(kernels[1:], plan) == []
    assert found.kernels[0] == ("nvjet_sm90_qqhsh_c", 2, 18.0)


def test_what_falls_back_says_why(export: Path) -> None:
    graph = OnnxGraph.load(export / "text" / "fp8.onnx")
    found = fallen_back(graph, fused_plan(graph, kernels=True))
    assert [fall.module for fall in found] == [f"text_model.encoder.layers.{n}.self_attn" for n in range(2)]
    assert {"no FP8 attention kernel" in fall.reason for fall in found} == {True}
