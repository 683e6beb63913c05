"""What stands for `torch._scaled_mm` in the tests computes the same."""

from __future__ import annotations

import pytest
import torch

from tests.tasks.torch_fp8.scaled_mm import scaled_mm


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_it_is_pytorchs(bias: bool, dtype: torch.dtype) -> None:
    made = torch.Generator().manual_seed(3)
    a, b = (torch.randn(shape, generator=made).mul(60).to(torch.float8_e4m3fn) for shape in ((48, 64), (32, 64)))
    scales = torch.tensor(0.013), torch.tensor(0.37)
    added = torch.randn(32, generator=made).to(dtype) if bias else None
    found = scaled_mm(a, b.t(), *scales, bias=added, out_dtype=dtype)
    real = torch._scaled_mm(a, b.t(), *scales, bias=added, out_dtype=dtype)
    assert found.dtype == real.dtype
    assert real.abs().max() > 1
    torch.testing.assert_close(found, real, rtol=1e-3 if dtype == torch.float16 else 1e-5, atol=1e-3)
