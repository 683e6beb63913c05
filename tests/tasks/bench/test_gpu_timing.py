"""What does not need a GPU of timing one: rounds, order, rotation, and when warm-up ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.bench import gpu_timing
from tasks.bench.gpu_timing import Run, TimingSettings, interleave, warm_up, with_transfers


def test_variants_take_turns_in_alternating_order_on_rotating_inputs() -> None:
    seen: list[tuple[str, int]] = []

    def variant(name: str) -> Run:
        return lambda index: seen.append((name, index))

    def timer(run: Run, index: int) -> float:
        run(index)
        return {"a": 2.0, "b": 1.0}[seen[-1][0]]

    runs = {"a": variant("a"), "b": variant("b")}
    blocks = interleave(runs, TimingSettings(rounds=4, seconds=60, block_s=0.0), timer)
    assert {name: len(found) for name, found in blocks.items()} == {"a": 4, "b": 4}
    assert {float(np.median(np.concatenate(blocks[name]))) for name in blocks} == {2.0, 1.0}
    order = [name for name, index in seen if index == 0][::2]  # a block to settle, then the timed one
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [index for _, index in seen[:6]] == [0, 1, 2, 0, 1, 2]


def test_the_seconds_end_it_but_not_before_three_rounds() -> None:
    blocks = interleave({"a": lambda _: None}, TimingSettings(rounds=50, seconds=0, block_s=0.0), lambda *_: 1.0)
    assert len(blocks["a"]) == 3


def test_warm_up_ends_when_times_are_steady() -> None:
    times = iter([*[9.0] * 10, *[5.0] * 10, *[5.01] * 10, *[1.0] * 100])
    assert warm_up({"a": lambda _: None}, lambda *_: next(times))
    assert next(times) == 1.0


def test_transfers_are_those_of_inputs_and_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller has after each run is in host memory, and comes from inputs that were there."""
    monkeypatch.setattr(gpu_timing, "_pinned", torch.clone)  # host memory has pages to lock only beside a GPU
    sets = [(torch.tensor([1.0, 2.0]),), (torch.tensor([3.0, 4.0]),)]
    outputs = [torch.zeros(2), torch.zeros(2)]

    def run(index: int) -> torch.Tensor:
        return outputs[index % 2].copy_(sets[index % 2][0] * 10)

    timed = with_transfers(run, sets)
    for (inputs,) in sets:
        inputs.zero_()  # as if the device had lost them
    results = [timed(index) for index in range(4)]
    assert [result.tolist() for result in results] == [[10, 20], [30, 40]] * 2
    assert {result.data_ptr() for result in results}.isdisjoint(output.data_ptr() for output in outputs)
