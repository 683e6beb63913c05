"""A run that is told to end does not wait for ONNX Runtime."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from artifacts.errors import StepStopped
from tasks.evaluation.onnx_runs import run, runs_stopped


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> ort.InferenceSession:
    """A session that adds one until it has done so as often as its input says."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["x", "one"], ["y"]),
            helper.make_node("Identity", ["go"], ["again"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "go", "start"], ["end"], body=body)],
        "endless",
        [helper.make_tensor_value_info("times", TensorProto.INT64, [])],
        [helper.make_tensor_value_info("end", TensorProto.FLOAT, [1])],
        [
            helper.make_tensor("go", TensorProto.BOOL, [], [True]),
            helper.make_tensor("start", TensorProto.FLOAT, [1], [0.0]),
        ],
    )
    path: Path = tmp_path_factory.mktemp("graph") / "loop.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def times(count: int) -> dict[str, np.ndarray]:
    return {"times": np.array(count, np.int64)}


def test_outputs_are_those_of_the_session(endless: ort.InferenceSession) -> None:
    (end,) = run(endless, ["end"], times(3))
    assert end.tolist() == [3.0]


def test_a_run_in_progress_ends_and_no_other_begins(endless: ort.InferenceSession) -> None:
    found: list[BaseException] = []
    begun = threading.Event()

    def forever() -> None:
        begun.set()
        try:
            run(endless, ["end"], times(2**62))
        except BaseException as error:  # noqa: BLE001
            found.append(error)

    thread = threading.Thread(target=forever, daemon=True)
    thread.start()
    begun.wait(20)
    while thread.is_alive():  # it may not have come to ONNX Runtime yet; then it does not begin
        with runs_stopped():
            with pytest.raises(StepStopped):
                run(endless, ["end"], times(1))
            thread.join(0.5)
    assert [type(error) for error in found] == [StepStopped]
    assert run(endless, ["end"], times(1))[0].tolist() == [1.0]


def test_another_failure_is_told_as_it_is(endless: ort.InferenceSession) -> None:
    with pytest.raises(Exception, match="nothing") as error:
        run(endless, ["nothing"], times(1))
    assert not isinstance(error.value, StepStopped)
