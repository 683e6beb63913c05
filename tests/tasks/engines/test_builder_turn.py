"""Builders that time kernels have the device to themselves."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tasks.engines import builder_turn


@pytest.mark.parametrize(
    ("target", "turns"),
    [("tensorrt", ["cpu"]), ("torch-fp8", ["cpu"]), ("trtrtx-sm89", []), ("trtrtx", []), ("onnxruntime", [])],
)
def test_a_builder_that_times_kernels_takes_the_devices_turn(
    target: str, turns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(builder_turn, "device_key", lambda _: "cpu")
    monkeypatch.setattr(builder_turn, "shared_turn", lambda key: nullcontext(taken.append(key)))
    with builder_turn.builder_turn(target):
        assert taken == turns
