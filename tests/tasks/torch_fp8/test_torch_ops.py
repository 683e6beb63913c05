"""Rounding to FP8 and back is what ONNX Runtime makes of QuantizeLinear and DequantizeLinear, for every FP16 value."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tasks.torch_fp8.torch_ops import round_trip

SCALES = (1.0, 0.0123, 6.1e-5, 37.5)
"""As they are in FP16: one that changes nothing, a usual one, one at the edge of FP16's normal numbers, a large one."""


def by_onnx_runtime(values: np.ndarray, scale: float) -> np.ndarray:
    import onnxruntime as ort

    constants = [
        numpy_helper.from_array(np.array(scale, np.float16), "scale"),
        helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], b"\0", raw=True),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "round_trip", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": values})[0]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_every_fp16_value_is_rounded_as_onnx_runtime_does(scale: float, dtype: torch.dtype) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)]
    stored = float(np.float16(scale))
    found = round_trip(torch.from_numpy(values).to(dtype), stored, stored)
    assert found.dtype == dtype
    assert len(set(found.abs().tolist())) > 100  # most of FP8's 127 magnitudes, or the test would show little
    np.testing.assert_array_equal(found.numpy(), by_onnx_runtime(values, scale).astype(found.numpy().dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_no_number_stays_none_and_infinity_saturates(dtype: torch.dtype) -> None:
    found = round_trip(torch.tensor([float("nan"), 3.0, float("inf"), float("-inf")], dtype=dtype), 0.5, 0.5)
    assert found.isnan().tolist() == [True, False, False, False]
    assert found[1:].tolist() == [3.0, 224.0, -224.0]
