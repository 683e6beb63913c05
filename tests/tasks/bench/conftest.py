"""A small encoder pair whose heads are of a size that our kernels are written for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.architectures import Architecture, Tower

SMALL = Architecture("small", Tower(2, 128, 2, 256), Tower(2, 128, 2, 256), 56, 64, "quick_gelu")


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FP16 and FP8 of both encoders, random weights; do not change it."""
    from tests.gpu.exports import make_export

    folder = tmp_path_factory.mktemp("bench")
    return make_export(folder / "small", SMALL, folder / "skeletons", "cpu")
