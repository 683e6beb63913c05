"""The module that is timed computes what ONNX Runtime computes from the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from artifacts.errors import UnknownOperator
from tasks.bench.evidence import fallen_back
from tasks.torch_fp8.compiled import load_package, package
from tasks.torch_fp8.onnx_graph import OnnxGraph, random_inputs
from tasks.torch_fp8.patterns import ActivatedLinear, LinearGroup, fused_plan
from tasks.torch_fp8.torch_graph import Loaded, load
from tasks.torch_fp8.torch_ops import linear_fp8_by_channel
from tests.tasks.families.support import cosines, run_onnx

pytestmark = pytest.mark.usefixtures("quick_products")

LEAST = {"fp16": 0.99999, "fp8": 0.99}
"""FP8 rounding flips are chaotic: another order of a sum moves a sample this far."""


def run(loaded: Loaded, feed: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        return loaded.module(*(torch.from_numpy(values) for values in feed.values())).float().numpy()


@pytest.mark.parametrize("kind", ["literal", "fused", "kernels"])
@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_it_is_onnx_runtime(export: Path, encoder: str, precision: str, kind: str) -> None:
    path = export / encoder / f"{precision}.onnx"
    loaded = load(path, "cpu", fused=kind != "literal", kernels=kind == "kernels")
    for batch in (1, 5):
        feed = random_inputs(loaded.graph, batch, seed=batch)
        expected, got = run_onnx(path, feed), run(loaded, feed)
        own = cosines(got, expected)
        assert own.min() > LEAST[precision]
        if batch > 1:  # and not another row's
            assert (own > cosines(got, np.roll(expected, 1, axis=0))).all()


def test_everything_is_found_in_an_fp8_image_encoder(export: Path) -> None:
    plan = fused_plan(OnnxGraph.load(export / "image" / "fp8.onnx"), kernels=True)
    assert sum(isinstance(step, LinearGroup) for step in plan.steps) == 2
    activated = [step for step in plan.steps if isinstance(step, ActivatedLinear)]
    assert [(step.activation, step.linear.module[-3:]) for step in activated] == [("quick_gelu", "fc1")] * 2
    found = [(a.tokens, a.out_scale is not None, a.was_fp8, a.causal) for a in plan.attentions()]
    assert found == [(True, True, True, False)] * 2
    assert all(linear.fp8 for linear in plan.linears()) and len(list(plan.linears())) == 13


def test_a_text_encoder_is_causal(export: Path) -> None:
    plan = fused_plan(OnnxGraph.load(export / "text" / "fp16.onnx"), kernels=True)
    assert [(a.causal, a.mask, a.out_scale) for a in plan.attentions()] == [(True, None, None)] * 2


def test_q_k_and_v_share_a_product_whose_scales_are_taken_back(export: Path) -> None:
    """Each member's output times its factor, and the attention's scale over both factors, is the graph's own."""
    graph = OnnxGraph.load(export / "image" / "fp8.onnx")
    plan = fused_plan(graph)
    group = next(step for step in plan.steps if isinstance(step, LinearGroup))
    scales = [member.weight_scale or 0.0 for member in group.members]
    assert len(set(scales)) == 3  # or the test would show nothing
    restored = [scale * factor for scale, factor in zip(scales, group.factors, strict=True)]
    assert restored == pytest.approx([scales[2]] * 3)
    attention = next(plan.attentions())
    assert attention.scale * group.factors[0] * group.factors[1] == pytest.approx(64**-0.5, rel=1e-3)


def test_the_biases_of_a_shared_product_are_scaled_as_its_outputs(export: Path) -> None:
    """Attention of random weights hardly depends on them, so they are looked at themselves."""
    loaded = load(export / "image" / "fp8.onnx", "cpu")
    group = next(step for step in loaded.plan.steps if isinstance(step, LinearGroup))
    (bias,) = [v for name, v in loaded.module.named_buffers() if name.endswith("layers_0_self_attn_q_proj_bias")]
    parts = zip(group.members, group.factors, strict=True)
    wanted = [loaded.graph.array(m.bias).astype(np.float32) * factor for m, factor in parts if m.bias is not None]
    assert len(wanted) == 3 and np.allclose(bias.float().numpy(), np.concatenate(wanted), rtol=1e-3, atol=1e-6)
    assert not np.allclose(group.factors[:2], 1, rtol=0.5)


@pytest.mark.parametrize("kind", ["literal", "fused", "kernels"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_scales_by_channel_are_onnx_runtimes(by_channel: Path, encoder: str, kind: str) -> None:
    path = by_channel / f"{encoder}.onnx"
    loaded = load(path, "cpu", fused=kind != "literal", kernels=kind == "kernels")
    feed = random_inputs(loaded.graph, 5, seed=5)
    expected, got = run_onnx(path, feed), run(loaded, feed)
    own = cosines(got, expected)
    assert own.min() > LEAST["fp8"]
    assert (own > cosines(got, np.roll(expected, 1, axis=0))).all()


def test_scales_by_channel_run_as_fp8_products(by_channel: Path) -> None:
    """q, k and v in one, without factors; no layer falls back, and none takes the kernel that knows one scale."""
    graph = OnnxGraph.load(by_channel / "image.onnx")
    plan = fused_plan(graph, kernels=True)
    groups = [step for step in plan.steps if isinstance(step, LinearGroup)]
    assert [group.factors for group in groups] == [(1.0, 1.0, 1.0)] * 2
    assert not any(isinstance(step, ActivatedLinear) for step in plan.steps)
    assert all(linear.fp8 and linear.by_channel for linear in plan.linears()) and len(list(plan.linears())) == 13
    assert {fall.module for fall in fallen_back(graph, plan)} == {a.module for a in plan.attentions()}


@pytest.mark.parametrize("with_bias", [False, True])
def test_a_product_by_channel_is_rounded_once(with_bias: bool) -> None:
    """Against float64 on the same FP8 values."""
    torch.manual_seed(0)
    x, weight = (torch.randn(*size).to(torch.float8_e4m3fn) for size in ((3, 7, 64), (48, 64)))
    scales = torch.logspace(-4, 1, 48).half().float()
    bias = torch.randn(48).half() if with_bias else None
    got = linear_fp8_by_channel(x, weight, torch.tensor(0.03), scales, bias)
    expected = (x.double() * float(torch.tensor(0.03))) @ (weight.double() * scales.double()[:, None]).T
    expected = expected if bias is None else expected + bias.double()
    assert got.dtype == torch.float16 and got.shape == (3, 7, 48)
    assert torch.allclose(got.double(), expected, rtol=2**-10, atol=1e-4)


def test_mixed_q_k_and_v_are_not_one_product(by_channel: Path, export: Path) -> None:
    """Two layers by channel and one by one scale: each for itself."""
    model = onnx.load(str(by_channel / "image.onnx"))
    name = "vision_model.encoder.layers.0.self_attn.k_proj.weight_quantizer/DequantizeLinear"
    (old,) = [n for n in onnx.load(str(export / "image" / "fp8.onnx")).graph.node if n.name == name]
    (node,) = [n for n in model.graph.node if n.name == name]
    node.CopyFrom(old)
    assert sum(isinstance(step, LinearGroup) for step in fused_plan(OnnxGraph(model)).steps) == 1


def test_channels_along_another_axis_are_refused(by_channel: Path) -> None:
    model = onnx.load(str(by_channel / "image.onnx"))
    (node,) = [
        n for n in model.graph.node if n.name.endswith("layers.0.self_attn.q_proj.weight_quantizer/DequantizeLinear")
    ]
    node.attribute[0].i = 0
    with pytest.raises(UnknownOperator, match="q_proj"):
        fused_plan(OnnxGraph(model))


def test_an_unknown_operator_is_named(export: Path, tmp_path: Path) -> None:
    model = onnx.load(str(export / "image" / "fp16.onnx"))
    model.graph.node[-1].op_type = "Einsum"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    with pytest.raises(UnknownOperator, match="Einsum"):
        load(tmp_path / "odd.onnx", "cpu")


def test_random_token_ids_are_spread_over_the_vocabulary(export: Path) -> None:
    ids = random_inputs(OnnxGraph.load(export / "text" / "fp8.onnx"), 4, seed=1)["input_ids"]
    assert ids.shape == (4, 77) and ids.min() >= 1 and 40_000 < ids.max() < 49_408


@pytest.mark.heavy
def test_a_package_serves_every_batch(export: Path, tmp_path: Path) -> None:
    loaded = load(export / "image" / "fp8.onnx", "cpu", kernels=True)
    example = [torch.from_numpy(v) for v in random_inputs(loaded.graph, 2, seed=0).values()]
    packed = load_package(package(loaded.module, example, tmp_path / "image.pt2"))
    for batch in (1, 3):
        feed = random_inputs(loaded.graph, batch, seed=4)
        got = packed(*(torch.from_numpy(v) for v in feed.values())).float().numpy()
        assert cosines(got, run(loaded, feed)).min() > 0.999
