"""The E4M3 cast is torch's, bit for bit; scales are FP16 and never subnormal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.graph.fp8 import E4M3Cast, scale_for, to_e4m3

ALL_FP16 = np.arange(65536, dtype=np.uint16).view(np.float16)
FINITE = ALL_FP16[np.isfinite(ALL_FP16)]
SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
SCALES = [SMALLEST_NORMAL, 1 / 448, 0.0123, 0.3333, 1.0, 2.0, 3.14159, 146.2]


def by_torch(values: np.ndarray, scale: np.float16) -> np.ndarray:
    """torch's cast; 448 is E4M3's largest value (OCP FP8 specification), beyond which torch gives NaN."""
    import torch

    scaled = torch.from_numpy(values).float() / float(scale)
    return scaled.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()


@pytest.mark.parametrize("scale", SCALES)
def test_every_finite_fp16_value_is_cast_as_by_torch(scale: float) -> None:
    assert FINITE.size == 63488  # 65,536 without 2 infinities and 2,046 NaN
    half = np.float16(scale)
    assert np.array_equal(E4M3Cast(half)(FINITE), by_torch(FINITE, half))


def test_without_saturation_torch_agrees_unclamped() -> None:
    import torch

    values = FINITE[np.abs(FINITE) <= 448]
    expected = torch.from_numpy(values).float().to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert np.array_equal(E4M3Cast(np.float16(1))(values), expected)


@settings(deadline=None)
@given(st.integers(0x0400, 0x7BFF))
def test_any_normal_scale_is_cast_as_by_torch(bits: int) -> None:
    scale = np.uint16(bits).view(np.float16)
    values = FINITE[::7]
    assert np.array_equal(E4M3Cast(scale)(values), by_torch(values, scale))


def test_what_the_table_gives_is_never_nan() -> None:
    for scale in SCALES:
        assert not np.isin(E4M3Cast(np.float16(scale))(FINITE) & 0x7F, 0x7F).any()


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 3, 4)])
def test_shape_and_order_are_kept(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    got = E4M3Cast(np.float16(0.01))(values)
    assert got.shape == shape
    assert np.array_equal(got, by_torch(values, np.float16(0.01)))


@settings(deadline=None)
@given(st.floats(min_value=1e-30, max_value=65504.0 * 448 / 2, allow_nan=False))
def test_scale_covers_amax_and_is_normal(amax: float) -> None:
    scale = scale_for(amax)
    assert scale.dtype == np.float16
    assert float(scale) >= SMALLEST_NORMAL
    assert 448 * float(scale) >= amax * (1 - 2**-10)
    if amax / 448 > SMALLEST_NORMAL:
        assert 448 * float(scale) <= amax * (1 + 2**-10)  # and no coarser than rounding asks for
    else:
        assert float(scale) == SMALLEST_NORMAL


def test_softmax_scale() -> None:
    assert scale_for(1.0) == np.float16(1 / 448)


def test_scales_by_channel_are_each_channels_own_and_normal() -> None:
    amax = np.array([0, 1e-30, 0.02, 0.3, 448, 60_000], np.float32)
    got = scale_for(amax)
    assert got.dtype == np.float16
    assert got.tolist() == [scale_for(value) for value in amax.tolist()]
    assert got.min() == SMALLEST_NORMAL


@pytest.mark.parametrize("by_row", [False, True])
def test_each_channel_is_cast_as_by_torch(by_row: bool) -> None:
    values = np.random.default_rng(0).choice(FINITE, (len(SCALES), len(SCALES)))
    values[3] = 0
    scales = np.array(SCALES, np.float16)
    got = to_e4m3(values, scales[:, None] if by_row else scales)
    for index, scale in enumerate(scales):
        place = (index, slice(None)) if by_row else (slice(None), index)
        assert np.array_equal(got[place], by_torch(values[place], scale))
