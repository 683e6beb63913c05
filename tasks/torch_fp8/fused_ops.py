"""Our kernels as operators that `torch.compile` and `torch.export` know, with plain PyTorch versions for other devices.

Import this module only if torch is needed: it loads torch and registers the operators.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.torch_fp8 import torch_ops

_LINEAR = "(Tensor x, Tensor weight, Tensor bias, float scale, float out_scale, str activation) -> Tensor"
_ATTENTION = "(Tensor q, Tensor k_transposed, Tensor v, float scale, bool causal, float? out_scale) -> Tensor"
_QUICK = 1.702


@torch.library.custom_op("clipsmith::linear_activated", mutates_args=(), device_types="cuda", schema=_LINEAR)
def _linear_activated(
    x: Tensor, weight: Tensor, bias: Tensor, scale: float, out_scale: float, activation: str
) -> Tensor:
    from tasks.torch_fp8.triton_kernels import linear_activated

    return linear_activated(x, weight, bias, scale, out_scale, activation)


@_linear_activated.register_kernel("cpu")
def _linear_activated_plain(
    x: Tensor, weight: Tensor, bias: Tensor, scale: float, out_scale: float, activation: str
) -> Tensor:
    value = F.linear(x.float(), weight.float()) * scale + bias.float()
    if activation == "quick_gelu":
        value = value * torch.sigmoid(_QUICK * value)
    else:
        value = F.gelu(value, approximate="tanh" if activation == "gelu_tanh" else "none")
    return torch_ops.quantize(value, out_scale)


@_linear_activated.register_fake
def _linear_activated_form(x: Tensor, weight: Tensor, *_: object) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]), dtype=torch.float8_e4m3fn)


@torch.library.custom_op("clipsmith::attention_tokens", mutates_args=(), device_types="cuda", schema=_ATTENTION)
def _attention_tokens(
    q: Tensor, k_transposed: Tensor, v: Tensor, scale: float, causal: bool, out_scale: float | None
) -> Tensor:
    from tasks.torch_fp8.triton_kernels import attention_tokens

    return attention_tokens(q, k_transposed, v, scale, causal, out_scale)


@_attention_tokens.register_kernel("cpu")
def _attention_tokens_plain(
    q: Tensor, k_transposed: Tensor, v: Tensor, scale: float, causal: bool, out_scale: float | None
) -> Tensor:
    value = torch_ops.attention(q, k_transposed, v, None, scale, causal).transpose(1, 2).flatten(2)
    return value if out_scale is None else torch_ops.quantize(value, out_scale)


@_attention_tokens.register_fake
def _attention_tokens_form(
    q: Tensor, k_transposed: Tensor, v: Tensor, scale: float, causal: bool, out_scale: float | None
) -> Tensor:
    del k_transposed, v, scale, causal
    batch, heads, length, size = q.shape
    dtype = torch.float16 if out_scale is None else torch.float8_e4m3fn
    return q.new_empty((batch, length, heads * size), dtype=dtype)


linear_activated = torch.ops.clipsmith.linear_activated.default
"""FP8 (..., out) = quantized(activation(scale * x @ weight^T + bias)); x (..., in) and weight (out, in) are FP8."""
attention_tokens = torch.ops.clipsmith.attention_tokens.default
"""softmax(scale * q @ kT) @ v as (batch, length, heads * size); FP8 if `out_scale` is given, else FP16.

Operands are FP16 (batch, heads, length, size), kT with its last two axes swapped.
"""
