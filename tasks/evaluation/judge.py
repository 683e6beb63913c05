"""Judging our graph executor (PyTorch) by ONNX Runtime: the same graph and samples, layer by layer.

Rounding to FP8 is chaotic: another order of one sum moves a value to the next step, so after a dozen layers two correct
executions of one graph agree only roughly. So each layer of the executor gets ONNX Runtime's own values as input, and
its outputs are compared. The agreement of the final embeddings is reported too.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from artifacts.errors import ExecutorsDisagree, StepTimedOut
from tasks.engines.graph_executor import accumulated_in_fp32, graph_inputs, run_graph
from tasks.evaluation.metrics import cosine
from tasks.evaluation.onnx_runs import run, runs_stopped
from tasks.runs.step_limit import step_limit_s
from tasks.torch_fp8.onnx_graph import OnnxGraph
from tasks.torch_fp8.torch_graph import Loaded, load_literal

LEAST_DB = {"fp16": 55.0, "fp8": 45.0}
"""The least signal-to-noise ratio of a layer over all samples, in dB, by precision."""
LEAST_COSINE = 0.9999
"""The least cosine of an FP16 graph's embeddings, for each sample."""
_BATCH = 2
"""Samples per batch: the values between the layers of ViT-L/14 then take half a gigabyte."""
_MOST = 4
"""Batches that ONNX Runtime computes in parallel: its FP8 operators on CPUs mostly use one thread."""
_TINY = 1e-300
_SAME_DB = 200.0
"""The ratio in dB for tensors that are equal bit for bit."""
_PRODUCTS = ("MatMul", "Gemm", "Conv")

Feed = dict[str, NDArray[Any]]


class Verdict(NamedTuple):
    """How far two executions of a graph agree: the signal-to-noise ratio (dB) of each layer's output tensor, given the
    same input, and the cosine of each sample's embeddings, end to end."""

    layers: dict[str, float]
    cosines: NDArray[np.float64]

    @property
    def worst_layer(self) -> tuple[str, float]:
        """The tensor where they agree least (or that holds NaN), and its ratio in dB."""
        return min(self.layers.items(), key=lambda item: -np.inf if np.isnan(item[1]) else item[1])


def judge(path: Path, precision: str, feeds: Sequence[Feed], device: str) -> Verdict:
    """Run samples through ONNX Runtime and through the graph executor on `device`.

    Args:
        path: The ONNX file, with its external data beside it.
        precision: "fp16" or "fp8".
        feeds: Batches of the graph's inputs.
        device: "cuda" or "cpu".

    Raises:
        ExecutorsDisagree: a layer's ratio is below `LEAST_DB`, or a cosine of FP16 embeddings below `LEAST_COSINE`.
        StepStopped: the run was told to end.
        StepTimedOut: ONNX Runtime was not done within the limit for a step.
    """
    with _own_stream(device):
        return _judged(path, precision, feeds, device)


@contextmanager
def _own_stream(device: str) -> Iterator[None]:
    """What the block asks of a GPU goes before the batches of half a second that others have queued there."""
    if device != "cuda":
        yield
        return
    with torch.cuda.stream(torch.cuda.Stream(priority=-1)):  # type: ignore[no-untyped-call]
        yield


def _judged(path: Path, precision: str, feeds: Sequence[Feed], device: str) -> Verdict:
    loaded = load_literal(path, device)
    layers = _layers(loaded.graph)
    session = _session(path, layers)
    signal, noise = dict.fromkeys(layers, 0.0), dict.fromkeys(layers, 0.0)
    cosines: list[NDArray[np.float64]] = []
    for feed, values in _side_by_side(lambda feed: run(session, layers, feed), _small(feeds)):
        given = dict(zip(layers, values, strict=True))
        for name, (power, error) in _by_layer(loaded, feed, given, device).items():
            signal[name] += power
            noise[name] += error
        cosines.append(cosine(given[layers[-1]], run_graph(loaded, feed, device).cpu().numpy()))
    ratios = {name: _decibels(signal[name], noise[name]) for name in layers}
    verdict = Verdict(ratios, np.concatenate(cosines))
    _require_agreement(verdict, precision, path, device)
    return verdict


def _require_agreement(verdict: Verdict, precision: str, path: Path, device: str) -> None:
    bad = [name for name, ratio in verdict.layers.items() if not ratio >= LEAST_DB[precision]]
    if bad:
        name, ratio = bad[0], verdict.layers[bad[0]]
        what = f"PyTorch on {device} and ONNX Runtime agree to {ratio:.1f} dB in {name}"
        expected = f"at least {LEAST_DB[precision]:.0f} dB in every layer that is given the same input"
    elif precision == "fp16" and not verdict.cosines.min() >= LEAST_COSINE:
        what = f"embeddings of PyTorch on {device} and of ONNX Runtime have cosine {verdict.cosines.min():.5f}"
        expected = f"at least {LEAST_COSINE} for every sample"
    else:
        return
    raise ExecutorsDisagree(
        what, where=path.name, expected=expected, fix="evaluate with `--executor onnxruntime`, and report this graph"
    )


def _layers(graph: OnnxGraph) -> list[str]:
    """The tensors to compare, in the graph's order: each matrix product, normalised or FP8-rounded tensor, the output.

    Comparing only residual sums would not suffice: a wrong product can be small compared with what it is added to.
    """
    read = {node.input[0] for node in graph.nodes if node.op_type in ("LayerNormalization", "QuantizeLinear")}
    last = graph.outputs[0].name
    made = [name for node in graph.nodes for name in node.output if name in read or node.op_type in _PRODUCTS]
    return [*(name for name in made if name != last), last]


def _session(path: Path, layers: Sequence[str]) -> Any:
    """An ONNX Runtime session that also outputs the tensors between layers."""
    import onnxruntime as ort

    model = onnx.load(str(path), load_external_data=False)
    have = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in layers if name not in have)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = max(1, _cores() // _at_once())
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _at_once() -> int:
    return min(_MOST, _cores())


def _side_by_side(call: Callable[[Feed], Any], feeds: Iterable[Feed]) -> Iterator[tuple[Feed, Any]]:
    """Each feed with what `call` makes of it, in order; never more results than `_at_once` wait to be taken.

    Raises:
        StepTimedOut: the limit for a step is over; Prefect ends only what runs in the main thread.
    """
    waiting: deque[tuple[Feed, Future[Any]]] = deque()
    limit_s, begun = step_limit_s(), time.monotonic()

    def taken() -> tuple[Feed, Any]:
        feed, made = waiting.popleft()
        left_s = None if limit_s is None else max(0.0, begun + limit_s - time.monotonic())
        try:
            return feed, made.result(left_s)
        except TimeoutError as error:
            with runs_stopped():
                pool.shutdown(cancel_futures=True)
            raise StepTimedOut(
                f"ONNX Runtime was not done after {limit_s:.0f} s, and was ended",
                fix="raise `step_minutes`, or evaluate with `--executor onnxruntime`",
            ) from error

    with ThreadPoolExecutor(_at_once()) as pool:
        for feed in feeds:
            waiting.append((feed, pool.submit(call, feed)))
            if len(waiting) > _at_once():
                yield taken()
        while waiting:
            yield taken()


def _small(feeds: Sequence[Feed]) -> Iterator[Feed]:
    for feed in feeds:
        count = len(next(iter(feed.values())))
        for start in range(0, count, _BATCH):
            yield {name: values[start : start + _BATCH] for name, values in feed.items()}


def _by_layer(loaded: Loaded, feed: Feed, given: Feed, device: str) -> dict[str, tuple[float, float]]:
    """For each tensor of `given` (ONNX Runtime's values): its power, and the power of the executor's deviation from it,
    when the executor gets the given tensors before it."""
    found: dict[str, torch.Tensor] = {}
    names = {node: name for node, name in loaded.tensors.items() if name in given}

    class Led(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            name = names.get(n.name)
            if name is None:
                return value
            expected = torch.from_numpy(given[name]).to(value.device).to(value.dtype)
            wide = expected.float()
            powers = [tensor.square().sum(dtype=torch.float64) for tensor in (wide, value.float() - wide)]
            found[name] = torch.stack(powers)  # stays on the device, without waiting for it
            return expected

    with torch.inference_mode(), accumulated_in_fp32():
        Led(loaded.module).run(*graph_inputs(loaded, feed, device))
    return {name: (float(powers[0]), float(powers[1])) for name, powers in found.items()}


def _decibels(signal: float, noise: float) -> float:
    if np.isnan(noise):
        return float("nan")
    return min(10 * float(np.log10(max(signal, _TINY) / max(noise, _TINY))), _SAME_DB)
