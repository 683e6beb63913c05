"""Overflow of FP16 is found where it happens, also where no module shows it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from artifacts.errors import HalfOverflow
from artifacts.store.store import Store
from tasks.data.pinned import pin_data
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.fp16_range import FP16_MAX, check_range, refuse_overflow
from tasks.quantizing.largest_values import largest_magnitudes

LAYER = "vision_model.encoder.layers.1"


class Net(nn.Module):
    """Two layers and a product between them that no module holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.second((hidden * 1000.0).t().t() / 1000.0)


def test_magnitudes_are_those_of_the_values() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(7, 4)
    with torch.no_grad():
        hidden = net.first(x)
        expected = {
            ("first", "addmm"): hidden.abs().max(),
            ("", "mul"): (hidden * 1000).abs().max(),
            ("", "div"): hidden.abs().max(),
            ("second", "addmm"): net.second(hidden).abs().max(),
        }
    got = largest_magnitudes(net, lambda: net(x))
    assert got == pytest.approx({key: float(value) for key, value in expected.items()}, rel=1e-5)
    assert not net.first._forward_hooks and not net.first._forward_pre_hooks


def test_nan_is_not_lost() -> None:
    net, x = Net(), torch.full((3, 4), float("nan"))
    found = largest_magnitudes(net, lambda: (net(x), net(torch.ones(3, 4))))
    made = {("first", "addmm"), ("", "mul"), ("", "div"), ("second", "addmm")}
    assert {found[key] for key in made} == {float("inf")}


@pytest.mark.parametrize(
    ("largest", "fits"), [(65504.0, True), (65505.0, False), (float("inf"), False), (float("nan"), False)]
)
def test_the_limit_is_fp16s(largest: float, fits: bool) -> None:
    assert torch.finfo(torch.float16).max == FP16_MAX
    frame = pd.DataFrame({"module": ["a.b", "c"], "operation": ["bmm", "add"], "largest": [largest, 1.0]})
    if fits:
        refuse_overflow(frame, "image")
    else:
        with pytest.raises(HalfOverflow, match=r"image encoder overflows FP16 in a\.b \(bmm\).* 1 such"):
            refuse_overflow(frame, "image")


@pytest.fixture
def planted(small_clip: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """`planted(change)`: the small CLIP with changed weights."""

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        folder = tmp_path / "planted"
        shutil.copytree(small_clip, folder)
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


def ranges(folder: Path, store: Store, encoder: Any) -> Any:
    snapshot = resolve(str(folder), None, store)
    data, _ = pin_data("digits", "evaluation", 20)
    return check_range(snapshot, check(snapshot).preprocess, data, encoder)


@pytest.mark.parametrize("encoder", ["image", "text"])
def test_a_sound_model_passes(encoder: Any, small_clip: Path, store: Store) -> None:
    found = ranges(small_clip, store, encoder)
    frame = pd.read_parquet(store.path(found.table, "range.parquet"))
    prefix = {"image": "vision_model", "text": "text_model"}[encoder]
    assert {f"{prefix}.encoder.layers.{i}.mlp.fc1" for i in (0, 1)} <= set(frame["module"])
    assert found.largest in set(frame["largest"]) and frame["largest"].max() < FP16_MAX
    assert found.largest < 1000  # not the mask's -30000
    products = frame[(frame["module"] == f"{prefix}.encoder.layers.0.self_attn") & (frame["operation"] == "bmm")]
    assert len(products) == 1 and products["largest"].iloc[0] > 0


def scale(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for kind in ("weight", "bias"):
            state[f"{name}.{kind}"] *= factor

    return change


def test_large_activations_are_named(planted: Any, store: Store) -> None:
    """Every weight fits FP16, the result of the layer does not."""
    with pytest.raises(HalfOverflow, match=r"layers\.1"):
        ranges(planted(scale(f"{LAYER}.mlp.fc1", 3e5)), store, "image")


def test_attention_scores_are_named(planted: Any, store: Store) -> None:
    """q and k fit; their product, which the graph scales only afterwards, does not."""

    def change(state: dict[str, Any]) -> None:
        for name in ("q_proj", "k_proj"):
            scale(f"{LAYER}.self_attn.{name}", 400)(state)

    with pytest.raises(HalfOverflow, match=r"layers\.1\.self_attn \(bmm\)"):
        ranges(planted(change), store, "image")
