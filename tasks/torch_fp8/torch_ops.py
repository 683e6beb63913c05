"""The nodes of our graphs as PyTorch functions. Import this module only if torch is needed: it loads torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

E4M3_MAX = 448.0
_CONVERTS = (8, 9)
"""The first compute capability with instructions that convert to E4M3 and back."""
_E4M3_TO_FP16 = 7
"""How many more mantissa bits FP16 has than E4M3."""
_NO_COPY_OF_SIGN = ~0x4000
"""A mask: a byte that is sign-extended to 16 bits has copies of its sign; the one below FP16's sign is removed."""
ONNX_DTYPES = {
    1: torch.float32,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    17: torch.float8_e4m3fn,
}
"""ONNX's numbers of element types (onnx.proto, TensorProto.DataType)."""


# --- FP8 ---------------------------------------------------------------------------------------------------


def quantize(x: Tensor, scale: float | Tensor) -> Tensor:
    """QuantizeLinear to FP8 E4M3: divide, saturate, round to nearest even."""
    return (x.float() / scale).clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)


def dequantize(x: Tensor, scale: float | Tensor) -> Tensor:
    """DequantizeLinear to FP16; the product of an FP8 value and an FP16 scale is rounded once.

    Several scales belong to the last axis.
    """
    return (x.float() * scale).half()


def round_trip(x: Tensor, scale: float, back: float) -> Tensor:
    """QuantizeLinear to FP8 E4M3 with `scale`, then DequantizeLinear to FP16 with `back`; the result has `x`'s dtype.

    In the graph QuantizeLinear's input is FP16, whatever dtype `x` has. On GPUs that convert FP8 (Ada and later) this
    is one kernel. On CPUs PyTorch converts from FP8 one element at a time, so the bits are moved to their positions in
    FP16 instead: E4M3's exponent bias is 7 and FP16's 15, which makes the values, also subnormal ones, 256 times too
    small.
    """
    if x.is_cuda and torch.cuda.get_device_capability(x.device) >= _CONVERTS:
        from tasks.torch_fp8.rounding_kernel import round_trip_on_gpu

        return round_trip_on_gpu(x, scale, back)
    stored = quantize(x.half(), scale)
    if x.is_cuda or x.sum(dtype=torch.float32).isnan():  # NaN would become 480, which E4M3 does not have
        return dequantize(stored, back).to(x.dtype)
    bits = stored.view(torch.int8).to(torch.int16).bitwise_left_shift_(_E4M3_TO_FP16).bitwise_and_(_NO_COPY_OF_SIGN)
    return (bits.view(torch.float16) * (256.0 * back)).to(x.dtype)


def linear_fp8(x: Tensor, weight: Tensor, x_scale: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer with FP8 operands and an FP16 result; `weight` is (out, in), so that its transpose is
    column-major, as the kernel requires.

    Fast accumulation is on: the tensor cores keep partial sums with about 14 mantissa bits, and do not promote them to
    FP32 registers. TensorRT's and ModelOpt's kernels do the same for inference; with E4M3 operands (3 mantissa bits)
    the error is far below that of their rounding.
    """
    flat = x.reshape(-1, x.shape[-1])
    product = torch._scaled_mm(
        flat, weight.t(), x_scale, weight_scale, bias=bias, out_dtype=torch.float16, use_fast_accum=True
    )
    return product.reshape(*x.shape[:-1], weight.shape[0])


def linear_fp8_by_channel(
    x: Tensor, weight: Tensor, x_scale: Tensor, weight_scales: Tensor, bias: Tensor | None
) -> Tensor:
    """As `linear_fp8`, with one FP32 scale per output channel: the FP32 product is scaled and rounded once to FP16.

    `torch._scaled_mm` itself accepts such scales only together with one scale per row of `x`, and not on every GPU.
    """
    flat = x.reshape(-1, x.shape[-1])
    one = torch.ones_like(x_scale)
    product = torch._scaled_mm(flat, weight.t(), x_scale, one, out_dtype=torch.float32, use_fast_accum=True)
    scaled = product * weight_scales if bias is None else product * weight_scales + bias
    return scaled.half().reshape(*x.shape[:-1], weight.shape[0])


def look_up_fp8(table: Tensor, ids: Tensor, scale: float) -> Tensor:
    """Rows of an FP8 table, dequantized after the look-up, which works on bytes, as every device can gather them."""
    rows = F.embedding(ids, table.view(torch.uint8))
    return dequantize(rows.view(torch.float8_e4m3fn), scale)


# --- attention and patches ---------------------------------------------------------------------------------


def attention(q: Tensor, k_transposed: Tensor, v: Tensor, mask: Tensor | None, scale: float, causal: bool) -> Tensor:
    """`softmax(scale * q @ kT + mask) @ v` by PyTorch's fused kernels."""
    return F.scaled_dot_product_attention(
        q, k_transposed.transpose(-2, -1), v, attn_mask=mask, scale=scale, is_causal=causal
    )


def patches(x: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int]) -> Tensor:
    """A convolution whose stride equals its kernel size, as one product; `weight` is (out, in * height * width).

    `weight` may have more columns than a patch has values: zeros that align its rows.
    """
    high, wide = size
    batch, channels, rows, columns = x.shape
    cut = x.reshape(batch, channels, rows // high, high, columns // wide, wide).permute(0, 2, 4, 1, 3, 5)
    flat = cut.reshape(batch, (rows // high) * (columns // wide), channels * high * wide)
    out = F.linear(F.pad(flat, (0, weight.shape[1] - flat.shape[-1])), weight, bias)
    return out.transpose(1, 2).reshape(batch, weight.shape[0], rows // high, columns // wide)


# --- everything else ---------------------------------------------------------------------------------------


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """ONNX Expand: broadcast both ways."""
    full = [1] * (len(shape) - x.ndim) + list(x.shape)
    return x.reshape(full).expand([have if want == 1 else want for have, want in zip(full, shape, strict=True)])


def gather(table: Tensor, indices: Tensor, axis: int) -> Tensor:
    """ONNX Gather with non-negative indices; not for a scalar index."""
    if axis == 0 and table.ndim == 2:
        return F.embedding(indices.long(), table)
    flat = table.index_select(axis, indices.reshape(-1))
    return flat.reshape(*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :])


def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
    return x[tuple(indices.unbind(-1))]


def unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """Layer normalisation over the last axis; statistics in FP32, as in ONNX with `stash_type` 1."""
    return F.layer_norm(x, (x.shape[-1],), weight, bias, epsilon)


def softmax(x: Tensor, axis: int) -> Tensor:
    """Softmax, computed in FP32 and rounded once."""
    return torch.softmax(x.float(), axis).to(x.dtype)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Equal": torch.eq,
    "LessOrEqual": torch.le,
    "MatMul": torch.matmul,
}
UNARY: dict[str, Callable[[Any], Any]] = {"Sigmoid": torch.sigmoid, "Not": torch.logical_not, "Tanh": torch.tanh}
SIZED: dict[str, Callable[[Any, Any], Any]] = {
    "Reshape": torch.reshape,
    "Expand": expand,
    "Tile": torch.tile,
    "Unsqueeze": unsqueeze,
}
"""A tensor, and a list of sizes or axes."""
