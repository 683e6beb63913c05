"""Packed pixels are the same pixels again, and what a table does not explain is left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.data.packing import Packing

RAMP = np.arange(256, dtype=np.float32)


def table(mean: float = 0.5, std: float = 0.27) -> np.ndarray:
    """What a processor with one mean and three deviations makes of bytes, (3, 256)."""
    return np.stack([(RAMP / np.float32(255) - np.float32(mean)) / np.float32(std + n / 100) for n in range(3)])


def pixels(of: np.ndarray) -> np.ndarray:
    levels = np.random.default_rng(1).integers(0, 256, (3, 20, 30))
    levels.flat[:256] = np.arange(256)
    return np.stack([row[channel] for row, channel in zip(of, levels, strict=True)])


@pytest.mark.parametrize("of", [table(), table(0.0, 1.0), -table(), table(1e4)])
def test_pixels_come_back_bit_for_bit(of: np.ndarray) -> None:
    packing, made = Packing(of), pixels(of)
    packed = packing.packed(made)
    assert (packed.dtype, packed.nbytes) == (np.uint8, made.nbytes // 4)
    assert packing.unpacked(packed).tobytes() == made.tobytes()


@pytest.mark.parametrize("value", [np.nextafter(np.float32(0), np.float32(1)), np.nan, np.inf, -1e30])
def test_one_pixel_that_is_no_byte_leaves_all_as_they_are(value: float) -> None:
    made = pixels(table())
    made[2, 5, 7] += value
    if made[2, 5, 7] == pixels(table())[2, 5, 7]:  # too little to change it
        made[2, 5, 7] = np.nextafter(made[2, 5, 7], np.float32(9))
    packed = Packing(table()).packed(made)
    assert packed is made
    assert Packing(table()).unpacked(packed) is made


@pytest.mark.parametrize("of", [None, np.full((3, 256), np.nan, np.float32), np.zeros((3, 256), np.float32)])
def test_without_a_table_that_tells_bytes_apart_nothing_is_packed(of: np.ndarray | None) -> None:
    made = pixels(table())
    assert Packing(of).packed(made) is made
