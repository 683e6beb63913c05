"""An engine on tensors that stay where they are: addresses, checks before native code, layers' times (a stand-in)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from artifacts.errors import BatchOutsideProfile, EngineFailed, WrongInput
from tasks.engines import BatchProfile
from tasks.engines.resident import DeviceEngine
from tests.tasks.engines import runtime
from tests.tasks.engines.runtime import RUNTIME, Context, Engine

STREAM = 7


def scaled(x: torch.Tensor) -> torch.Tensor:
    return x[:, :2] * 3


@pytest.fixture
def engine() -> Engine:
    return Engine(
        scaled, {"x": (torch.float16, (4,))}, ("y", torch.float16, (2,)), '{"Layers": []}', {"a": 1.0, "b": 3.0}
    )


def opened(engine: Engine, context: Callable[[], Any] | None = None, close: Callable[[], None] = int) -> DeviceEngine:
    profile = BatchProfile(min=2, opt=4, max=4)
    return DeviceEngine(RUNTIME, engine, context or engine.create_execution_context, close, profile)


def test_it_reads_and_writes_where_the_tensors_lie(engine: Engine) -> None:
    x = torch.arange(8, dtype=torch.float16).reshape(2, 4)
    bound = opened(engine).bind({"x": x})
    x += 1  # after binding: nothing was copied
    y = bound.enqueue(STREAM)
    assert torch.equal(y, (x[:, :2] * 3))
    assert engine.contexts[0].addresses == {"x": x.data_ptr(), "y": y.data_ptr()}
    assert engine.streams == [STREAM]


def test_each_set_of_inputs_has_a_context_of_its_own(engine: Engine) -> None:
    """A captured graph must not see its context changed."""
    resident = opened(engine)
    first, second = (torch.full((2, 4), value, dtype=torch.float16) for value in (1, 2))
    bound = [resident.bind({"x": x}) for x in (first, second)]
    assert [b.enqueue(STREAM)[0, 0].item() for b in (*bound, bound[0])] == [3, 6, 3]
    assert len(engine.contexts) == 2


@pytest.mark.parametrize(
    ("name", "x", "error"),
    [
        ("y", torch.zeros(2, 4, dtype=torch.float16), WrongInput),
        ("x", torch.zeros(2, 4), WrongInput),
        ("x", torch.zeros(2, 8, dtype=torch.float16)[:, ::2], WrongInput),
        ("x", torch.zeros(2, 5, dtype=torch.float16), WrongInput),
        ("x", torch.zeros(1, 4, dtype=torch.float16), BatchOutsideProfile),
        ("x", torch.zeros(5, 4, dtype=torch.float16), BatchOutsideProfile),
    ],
)
def test_what_it_cannot_take_never_reaches_native_code(
    engine: Engine, name: str, x: torch.Tensor, error: type[Exception]
) -> None:
    with pytest.raises(error):
        opened(engine).bind({name: x})
    assert engine.streams == []


def test_a_runtime_that_refuses_is_an_error(engine: Engine) -> None:
    x = torch.zeros(2, 4, dtype=torch.float16)
    with pytest.raises(EngineFailed, match="no execution context"):
        opened(engine, lambda: None).bind({"x": x})
    bound = opened(engine).bind({"x": x})
    engine.refuses = True
    with pytest.raises(EngineFailed, match="refuses to run"):
        bound.enqueue(STREAM)


def test_layers_and_their_mean_times(engine: Engine) -> None:
    resident = opened(engine)
    bound = resident.bind({"x": torch.zeros(2, 4, dtype=torch.float16)})
    assert resident.layers(bound) == '{"Layers": []}'
    assert resident.layer_times(bound, STREAM, 4) == {"a": 1.0, "b": 3.0}
    assert len(engine.streams) == 4


def test_it_keeps_what_the_runtime_found_out(engine: Engine) -> None:
    said: list[str] = []
    opened(engine, close=lambda: said.append("kept")).close()
    assert said == ["kept"]


def test_the_stand_ins_have_the_names_of_the_real_classes() -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    ours = {"engine", "inputs", "output", "report", "times", "refuses", "streams", "contexts", "compute"}
    for real, stand_in in ((rtx.IExecutionContext, Context), (rtx.ICudaEngine, Engine)):
        used = {name for name in vars(stand_in) if not name.startswith("_")} - ours
        assert [name for name in used if not hasattr(real, name)] == []
    assert hasattr(rtx.IExecutionContext, "profiler")
    for enum in ("TensorIOMode", "DataType", "LayerInformationFormat"):
        members = getattr(runtime, enum).__members__
        assert [name for name in members if not hasattr(getattr(rtx, enum), name)] == []
    assert hasattr(rtx.IProfiler, "report_layer_time")
    assert {"execution_context", "get_engine_information"} <= set(dir(rtx.EngineInspector))


def test_a_profiler_of_the_real_runtime_can_be_made_as_ours_is(engine: Engine) -> None:
    """Its base class is native: a subclass without a constructor of its own must be enough."""
    rtx = pytest.importorskip("tensorrt_rtx")
    bound = opened(engine).bind({"x": torch.zeros(2, 4, dtype=torch.float16)})
    real = DeviceEngine(rtx, engine, engine.create_execution_context, lambda: None, BatchProfile(min=2, opt=2, max=2))
    assert real.layer_times(bound, STREAM, 2) == {"a": 1.0, "b": 3.0}
