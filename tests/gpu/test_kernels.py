"""Our Triton kernels on a real GPU against the same arithmetic written out in FP32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tasks.bench.machine import why_no_gpu
from tasks.torch_fp8 import fused_ops

_SHARE = 0.03
"""Of the norm: E4M3 rounds to 3 bits, 1/16 at most and about 0.026 in the mean."""


@pytest.fixture(autouse=True)
def _needs_hopper() -> None:
    reason = why_no_gpu()
    if reason is not None:
        pytest.skip(reason)
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("the kernels are for Hopper and later")


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Norm of the difference as a share of the norm."""
    return float((got.float() - wanted.float()).norm() / wanted.float().norm())


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize(("rows", "inner", "outer"), [(257, 64, 48), (33, 1024, 4096), (32896, 768, 3072)])
def test_a_layer_with_its_activation(rows: int, inner: int, outer: int, activation: str) -> None:
    torch.manual_seed(rows)
    x = torch.randn(rows, inner, device="cuda").to(torch.float8_e4m3fn)
    weight = torch.randn(outer, inner, device="cuda").to(torch.float8_e4m3fn)
    bias = torch.randn(outer, device="cuda").half()
    scale = inner**-0.5
    value = (x.double() @ weight.double().t()) * scale + bias.double()
    if activation == "quick_gelu":
        wanted = value * torch.sigmoid(1.702 * value)
    else:
        wanted = F.gelu(value, approximate="tanh" if activation == "gelu_tanh" else "none")
    out_scale = float(wanted.abs().max()) / 448
    got = fused_ops.linear_activated(x, weight, bias, scale, out_scale, activation)
    assert got.dtype == torch.float8_e4m3fn
    assert off(got.float() * out_scale, wanted) < _SHARE


@pytest.mark.parametrize("length", [50, 77, 256, 257])
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fp8", [False, True])
def test_attention(length: int, size: int, causal: bool, fp8: bool) -> None:
    torch.manual_seed(length)
    batch, heads = 3, 4
    packed = torch.randn(batch, length, 3, heads, size, device="cuda").half()
    q, k, v = (packed[:, :, index].transpose(1, 2) for index in range(3))
    wanted = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=causal)
    wanted = wanted.transpose(1, 2).flatten(2)
    out_scale = float(wanted.abs().max()) / 448 if fp8 else None
    got = fused_ops.attention_tokens(q, k.transpose(-2, -1), v, size**-0.5, causal, out_scale)
    assert off(got.float() * (out_scale or 1.0), wanted) < (_SHARE if fp8 else 1e-3)
