"""A variant is what the exported graph with that one module in FP8 computes, and no more than that is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.manifest import Encoder
from tasks.bench.roofline import count_products
from tasks.search.journal import Journal
from tasks.search.recipe_file import by_channel, without
from tasks.search.sensitivity import measure
from tasks.search.units import Unit, units_of
from tasks.search.variants import Variants, fake_quantize
from tasks.torch_fp8.onnx_graph import OnnxGraph
from tasks.torch_fp8.torch_graph import load
from tests.tasks.families.support import run_onnx
from tests.tasks.search.support import ENCODERS, RECIPE, SAMPLES, Prepared, all_units

Opened = tuple[Variants, tuple[Unit, ...], list[torch.Tensor]]


@pytest.fixture(scope="module")
def opened(plain: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[Encoder, Opened]:
    """Both encoders with their units and one batch."""
    found: dict[Encoder, Opened] = {}
    for encoder, graph in plain.evaluator.graphs.items():
        path = tmp_path_factory.mktemp("fp16") / "fp16.onnx"
        graph.write(None, path)
        units = units_of(graph.skeleton, RECIPE, graph.amax, count_products(OnnxGraph.load(path), 1))
        inputs = [torch.cat(parts) for parts in zip(*plain.batches[encoder], strict=True)]
        found[encoder] = Variants(load(path, "cpu", fused=False)), units, inputs
    return found


def in_onnx_runtime(prepared: Prepared, encoder: Encoder, path: Path, in_fp8: Sequence[Unit]) -> np.ndarray:
    """The exported graph with only these units in FP8."""
    graph = prepared.evaluator.graphs[encoder]
    names = {unit.module for unit in in_fp8}
    others = [unit for unit in all_units(prepared, encoder) if unit.module not in names]
    graph.write(without(RECIPE, others) if in_fp8 else None, path)
    (_, feed), *_ = prepared.evaluator.feeds[encoder]
    given: dict[str, Any] = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in feed.items()}
    return run_onnx(path, given).astype(np.float32)


def test_units_are_the_modules_that_the_recipe_has_in_fp8(opened: dict[Encoder, Opened]) -> None:
    kinds = {e: [unit.kind for unit in units] for e, (_, units, _) in opened.items()}
    assert kinds["image"].count("linear") == kinds["text"].count("linear") == 2 * 6 + 1
    assert kinds["image"].count("attention") == kinds["text"].count("attention") == 2
    assert kinds["image"].count("embedding") == 0 and kinds["text"].count("embedding") == 1


def test_work_is_counted_by_hand(opened: dict[Encoder, Opened]) -> None:
    flops = {unit.module: unit.flops for unit in opened["text"][1]}
    tokens, width, hidden = 16, 64, 128
    assert flops["text_model.encoder.layers.1.mlp.fc1"] == 2 * tokens * width * hidden
    assert flops["text_model.encoder.layers.0.self_attn.q_proj"] == 2 * tokens * width * width
    assert flops["text_model.encoder.layers.0.self_attn"] == 2 * 2 * tokens * tokens * width
    assert flops["text_projection"] == 2 * width * 48  # of the pooled token alone
    assert flops["text_model.embeddings.token_embedding"] == 0


@pytest.mark.parametrize("encoder", ENCODERS)
def test_exclusions_switch_off_that_module_alone(encoder: Encoder, plain: Prepared) -> None:
    units = all_units(plain, encoder)
    graph = plain.evaluator.graphs[encoder]
    for unit in units:
        left = units_of(graph.skeleton, without(RECIPE, [unit]), graph.amax, ())
        assert {u.module for u in left} == {u.module for u in units} - {unit.module}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_variant_is_the_exported_graph(
    encoder: Encoder, plain: Prepared, opened: dict[Encoder, Opened], tmp_path: Path
) -> None:
    """What FP8 adds to the embeddings here is what it adds in ONNX Runtime, element by element."""
    variants, units, inputs = opened[encoder]
    reference = variants.together(inputs, ()).numpy()
    fp16 = in_onnx_runtime(plain, encoder, tmp_path / "fp16.onnx", [])
    assert np.allclose(reference, fp16, atol=0.01, rtol=0.01)
    for chosen in (*([unit] for unit in units[-5:]), [units[0]], [u for u in units if u.kind == "attention"]):
        noise = variants.together(inputs, chosen).numpy() - reference
        expected = in_onnx_runtime(plain, encoder, tmp_path / "fp8.onnx", chosen) - fp16
        # ONNX Runtime rounds to FP16 in between, which moves one operand in a hundred to the next E4M3 value, by a
        # whole step; the square of a rounding error is a twelfth of that. Unrelated noise would be 1.4 away.
        scale, error = float(np.linalg.norm(expected)), float(np.linalg.norm(noise - expected))
        assert error < 0.6 * scale, chosen[0].module
        assert float(np.linalg.norm(noise)) == pytest.approx(scale, rel=0.2)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_recipe_that_scales_by_channel_gives_units_with_those_scales(
    encoder: Encoder, plain: Prepared, opened: dict[Encoder, Opened], tmp_path: Path
) -> None:
    """A search may start from one: their scales are the graph's, and there is nothing finer to choose."""
    variants, units, inputs = opened[encoder]
    graph = plain.evaluator.graphs[encoder]
    linears = [unit for unit in units if unit.can_go_by_channel]
    assert {unit.kind for unit in linears} == {"linear"} and len(linears) == 13
    recipe = by_channel(RECIPE, linears)
    finer = units_of(graph.skeleton, recipe, graph.amax_of(recipe), ())
    assert finer == tuple(replace(unit, flops=0) for unit in units)
    assert not any(unit.can_go_by_channel for unit in finer)
    fp16, fp8 = (tmp_path / f"{name}.onnx" for name in ("fp16", "fp8"))
    graph.write(None, fp16)
    last = finer[-1]
    graph.write(without(recipe, [unit for unit in finer if unit is not last]), fp8)
    (_, feed), *_ = plain.evaluator.feeds[encoder]
    given: dict[str, Any] = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in feed.items()}
    expected = run_onnx(fp8, given).astype(np.float32) - run_onnx(fp16, given)
    noise = variants.together(inputs, [last]).numpy() - variants.together(inputs, ()).numpy()
    assert np.linalg.norm(noise - expected) < 0.6 * np.linalg.norm(expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_variant_taken_up_in_the_middle_is_exact(encoder: Encoder, opened: dict[Encoder, Opened]) -> None:
    variants, units, inputs = opened[encoder]
    found = dict(variants.one_by_one(inputs, units))
    assert set(found) == set(units)
    different = set()
    for unit, embeddings in found.items():
        assert torch.equal(embeddings, variants.together(inputs, [unit]))
        different.add(embeddings.numpy().tobytes())
    assert len(different) == len(units)  # each changes something, and something else


def test_only_what_follows_is_run(opened: dict[Encoder, Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    variants, units, inputs = opened["image"]
    places: list[int] = []
    step = Variants._step
    monkeypatch.setattr(Variants, "_step", lambda self, place, *rest: (places.append(place), step(self, place, *rest)))
    reached = 0
    for unit, _ in variants.one_by_one(inputs, units):
        first = min(variants._places[tensor] for tensor in unit.products)
        again = [place for place in places[reached:] if place >= first]
        assert min(again) == first and len(again) == len(set(again))
        assert places[:reached] == [] or first >= min(places[:reached])
        reached = len(places)
    # Half of all variants' nodes at most, and each node of the reference once: no unit starts from the beginning.
    assert len(places) < 0.65 * len(units) * len(variants._nodes)


def test_fake_quantization_is_e4m3_times_the_scale() -> None:
    import ml_dtypes

    x = torch.randn(1000) * torch.logspace(-6, 3, 1000)
    scale = float(np.float16(0.37))
    codes = np.clip(x.half().float().numpy() / np.float32(scale), -448, 448).astype(ml_dtypes.float8_e4m3fn)
    expected = (codes.astype(np.float32) * np.float32(scale)).astype(np.float16)
    assert np.array_equal(fake_quantize(x, scale).numpy(), expected.astype(np.float32))


def test_fake_quantization_by_channel_is_each_columns_own() -> None:
    x = torch.randn(64, 5) * torch.logspace(-3, 3, 5)
    scales = tuple(float(np.float16(scale)) for scale in (1e-4, 0.001, 0.01, 0.1, 1))
    expected = torch.stack([fake_quantize(x[:, n], scale) for n, scale in enumerate(scales)], 1)
    assert torch.equal(fake_quantize(x, scales), expected)


def test_measuring_in_batches_is_measuring_the_whole(
    opened: dict[Encoder, Opened], plain: Prepared, tmp_path: Path
) -> None:
    variants, units, inputs = opened["text"]
    told: list[int] = []
    parts = measure(variants, units, plain.batches["text"], Journal(tmp_path / "parts", "a"), told.append)
    whole = measure(variants, units, [inputs], Journal(tmp_path / "whole", "a"), told.append)
    assert [s.unit for s in parts] == [s.unit for s in whole] == list(units)
    assert [s.loss for s in parts] == pytest.approx([s.loss for s in whole], rel=0.05, abs=1e-7)
    assert sum(told) == 3 * len(units) and len(inputs[0]) == SAMPLES


def test_what_the_journal_has_is_not_run_again(opened: dict[Encoder, Opened], plain: Prepared, tmp_path: Path) -> None:
    variants, units, _ = opened["text"]
    batches = plain.batches["text"]
    first = measure(variants, units, batches, Journal(tmp_path / "j", "a"), lambda _: None)
    nothing: Any = None
    again = measure(nothing, units, batches, Journal(tmp_path / "j", "a"), lambda _: None)
    assert again == first
    worst = max(first, key=lambda s: s.loss)
    assert 0 < worst.loss < 0.1 and 5 < worst.snr_db < 60
