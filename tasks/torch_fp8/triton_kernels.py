# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Two kernels that PyTorch lacks, for Hopper and later; import this module only where Triton is installed.

`linear_activated` quantizes in the epilogue of the product, so that the wide hidden layer of an MLP is never written to
memory in FP16. `attention_tokens` is FP16 attention for lengths just above a multiple of a block (257 tokens of
ViT-L/14), and writes tokens, in FP8 if asked for. `fused_ops` makes operators of both.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

_LOG2E = 1.4426950408889634
_ACTIVATIONS = {"quick_gelu": 0, "gelu": 1, "gelu_tanh": 2}
_LARGE = (128, 256, 128, 8, 3)
_SMALL = (64, 128, 128, 4, 4)
"""Tile rows, columns and depth, warps and stages, measured on an H100 with 32,896 rows; `_SMALL` is for few rows."""
_GROUP = 8
_ATTENTION = (64, 32, 4, 3)
"""Tile of queries, block of keys, warps and stages: the fastest of fourteen on an H100 with 257 tokens of size 64."""
_SMALLEST_DOT = 16


@triton.jit
def _to_fp8(values):
    return tl.minimum(tl.maximum(values, -448.0), 448.0).to(tl.float8e4nv)


@triton.jit
def _linear_kernel(
    x_desc,
    w_desc,
    out_desc,
    bias_ptr,
    rows,
    scale,
    per_out_scale,
    N: tl.constexpr,
    K: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
):
    """out (rows, N) = quantized(activation(scale * x (rows, K) @ w (N, K)^T + bias)), one tile a program."""
    pid = tl.program_id(0)
    tiles_m = (rows + BM - 1) // BM
    tiles_n: tl.constexpr = (N + BN - 1) // BN
    first = (pid // (GROUP * tiles_n)) * GROUP
    height = min(tiles_m - first, GROUP)
    m = (first + (pid % (GROUP * tiles_n)) % height) * BM
    n = ((pid % (GROUP * tiles_n)) // height) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):  # what lies outside a matrix is loaded as zero, and not stored
        acc = tl.dot(x_desc.load([m, k]), w_desc.load([n, k]).T, acc)
    columns = n + tl.arange(0, BN)
    value = acc * scale + tl.load(bias_ptr + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    if ACTIVATION == 0:
        value = value / (1 + tl.exp2(value * (-1.702 * 1.4426950408889634)))
    elif ACTIVATION == 1:
        value = 0.5 * value * (1 + tl.math.erf(value * 0.7071067811865476))
    else:  # 0.5 x (1 + tanh u) = x sigmoid(2 u)
        inner = 0.7978845608028654 * (value + 0.044715 * value * value * value)
        value = value / (1 + tl.exp2(inner * (-2 * 1.4426950408889634)))
    out_desc.store([m, n], _to_fp8(value * per_out_scale))


def linear_activated(
    x: Tensor, weight: Tensor, bias: Tensor, scale: float, out_scale: float, activation: str
) -> Tensor:
    """See `fused_ops.linear_activated`. Sizes must be multiples of 16: rows start at 16-byte boundaries."""
    flat = x.reshape(-1, x.shape[-1])
    rows, k = flat.shape
    n = weight.shape[0]
    processors = torch.cuda.get_device_properties(x.device).multi_processor_count
    large = triton.cdiv(rows, _LARGE[0]) * triton.cdiv(n, _LARGE[1]) >= processors
    bm, bn, bk, warps, stages = _LARGE if large else _SMALL
    out = torch.empty((rows, n), dtype=torch.float8_e4m3fn, device=x.device)
    _linear_kernel[(triton.cdiv(rows, bm) * triton.cdiv(n, bn),)](
        TensorDescriptor.from_tensor(flat, [bm, bk]),
        TensorDescriptor.from_tensor(weight, [bn, bk]),
        TensorDescriptor.from_tensor(out, [bm, bn]),
        bias,
        rows,
        scale,
        1 / out_scale,
        N=n,
        K=k,
        ACTIVATION=_ACTIVATIONS[activation],
        BM=bm,
        BN=bn,
        BK=bk,
        GROUP=_GROUP,
        num_warps=warps,
        num_stages=stages,
    )
    return out.reshape(*x.shape[:-1], n)


@triton.jit
def _keys(
    acc,
    total,
    top,
    q,
    k_ptr,
    v_ptr,
    start,
    length,
    row,
    k_s,
    v_s,
    scale,
    MASK: tl.constexpr,
    CAUSAL: tl.constexpr,
    BN: tl.constexpr,
    D: tl.constexpr,
):
    """One block of keys: scores, the running maximum and sum, and the weighted values (online softmax)."""
    n = start + tl.arange(0, BN)
    d = tl.arange(0, D)
    inside = n < length
    if MASK:
        k = tl.load(k_ptr + n[None, :] * k_s + d[:, None], mask=inside[None, :], other=0.0)
        v = tl.load(v_ptr + n[:, None] * v_s + d[None, :], mask=inside[:, None], other=0.0)
    else:
        k = tl.load(k_ptr + n[None, :] * k_s + d[:, None])
        v = tl.load(v_ptr + n[:, None] * v_s + d[None, :])
    scores = tl.dot(q, k) * scale
    if MASK:
        scores = tl.where(inside[None, :], scores, -1.0e30)
    if CAUSAL:
        scores = tl.where(n[None, :] <= row[:, None], scores, -1.0e30)
    new_top = tl.maximum(top, tl.max(scores, 1))
    p = tl.exp2(scores - new_top[:, None])
    decay = tl.exp2(top - new_top)
    acc = tl.dot(p.to(tl.float16), v, acc * decay[:, None])
    return acc, total * decay + tl.sum(p, 1), new_top


@triton.jit
def _attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    length,
    heads,
    q_b,
    q_h,
    q_s,
    k_b,
    k_h,
    k_s,
    v_b,
    v_h,
    v_s,
    scale,
    factor,
    FP8: tl.constexpr,
    CAUSAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    REST: tl.constexpr,
    D: tl.constexpr,
):
    """Whole blocks of BN keys, then the rest in one smaller block: no block is mostly empty."""
    b, h = (tl.program_id(1) // heads).to(tl.int64), tl.program_id(1) % heads
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.arange(0, D)
    inside = (row < length)[:, None]
    q = tl.load(q_ptr + b * q_b + h * q_h + row[:, None] * q_s + d[None, :], mask=inside, other=0.0)
    k_ptr += b * k_b + h * k_h
    v_ptr += b * v_b + h * v_h
    acc = tl.zeros((BM, D), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    top = tl.full((BM,), -1.0e30, tl.float32)
    whole = length // BN * BN
    for start in range(0, whole, BN):
        acc, total, top = _keys(
            acc, total, top, q, k_ptr, v_ptr, start, length, row, k_s, v_s, scale, False, CAUSAL, BN, D
        )
    if REST > 0:
        acc, total, top = _keys(
            acc, total, top, q, k_ptr, v_ptr, whole, length, row, k_s, v_s, scale, True, CAUSAL, REST, D
        )
    value = acc * (factor / total)[:, None]
    place = out_ptr + (b * length + row[:, None]) * (heads * D) + h * D + d[None, :]
    if FP8:
        tl.store(place, _to_fp8(value), mask=inside)
    else:
        tl.store(place, value.to(tl.float16), mask=inside)


def attention_tokens(
    q: Tensor, k_transposed: Tensor, v: Tensor, scale: float, causal: bool, out_scale: float | None
) -> Tensor:
    """See `fused_ops.attention_tokens`; size is 64 or 128, and each operand's last axis (kT: the third) is dense."""
    k = k_transposed.transpose(-2, -1)
    batch, heads, length, size = q.shape
    bm, bn, warps, stages = _ATTENTION
    rest = length % bn
    dtype = torch.float16 if out_scale is None else torch.float8_e4m3fn
    out = torch.empty((batch, length, heads * size), dtype=dtype, device=q.device)
    _attention_kernel[(triton.cdiv(length, bm), batch * heads)](
        q,
        k,
        v,
        out,
        length,
        heads,
        *q.stride()[:3],
        *k.stride()[:3],
        *v.stride()[:3],
        scale * _LOG2E,
        1 / (out_scale or 1.0),
        FP8=out_scale is not None,
        CAUSAL=causal,
        BM=bm,
        BN=bn,
        REST=max(_SMALLEST_DOT, triton.next_power_of_2(rest)) if rest else 0,
        D=size,
        num_warps=warps,
        num_stages=stages,
    )
    return out
