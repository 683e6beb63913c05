"""What ModelOpt's `auto_quantize` is asked and what is made of its answers, on a small CLIP and ModelOpt itself."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import ConfigError
from artifacts.manifest import GateResult
from tasks.search.auto_quantize import AutoQuantize, Pairs, bisect
from tasks.search.choice import Choice
from tasks.search.journal import Journal
from tasks.search.plan import Trial
from tasks.search.run import Measured
from tasks.search.units import Unit
from tests.tasks.search.support import FAMILY, PLANTS, SAMPLES, Prepared, base_weights, model_with, plant


@pytest.fixture(scope="module")
def measured(plain: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return plain.measure(Journal(tmp_path_factory.mktemp("measured") / "j", "a"))


@pytest.fixture
def asked_of(plain: Prepared, measured: Measured, tmp_path: Path) -> Callable[..., AutoQuantize]:
    def make(weights: Any, path: Path = tmp_path / "j") -> AutoQuantize:
        pairs = [
            Pairs(*pixels, texts, torch.arange(SAMPLES // 2))
            for pixels, texts in zip(plain.batches["image"], plain.batches["text"], strict=True)
        ]
        return AutoQuantize(lambda: (model_with(weights), FAMILY), lambda: pairs, measured.units, Journal(path, "a"))

    return make


def mean_bits(measured: Measured, excluded: frozenset[Unit], model: Any) -> float:
    """Over the weights of all linear layers that are units."""
    sizes = {u: model.get_submodule(u.module).weight.numel() for u in measured.units if u.kind == "linear"}
    return sum(size * (16 if unit in excluded else 8) for unit, size in sizes.items()) / sum(sizes.values())


def test_the_mean_bits_of_a_weight_keep_to_the_bound(asked_of: Callable[..., AutoQuantize], measured: Measured) -> None:
    model = model_with(base_weights())
    rival = asked_of(base_weights())
    assert rival.choice(8.0).excluded == frozenset()
    before = 0
    for bits in (10.0, 12.0, 15.0):
        excluded = rival.choice(bits).excluded
        assert {unit.kind for unit in excluded} == {"linear"} and len(excluded) > before
        # Its bound counts the patch embedding too, which stays at 16 bits.
        assert bits - 1.5 < mean_bits(measured, excluded, model) <= bits
        before = len(excluded)
        names = {unit.module for unit in excluded}
        for name in (name for name in names if name.endswith(".q_proj")):
            assert {name.replace("q_proj", "k_proj"), name.replace("q_proj", "v_proj")} <= names


def test_an_output_channel_of_its_own_size_gets_its_own_scale(asked_of: Callable[..., AutoQuantize]) -> None:
    weights, module = base_weights(), "text_model.encoder.layers.0.mlp.fc1"
    rest = torch.arange(len(weights[f"{module}.weight"])) != 3
    weights[f"{module}.weight"][rest] *= 2.0**-12
    assert module in {unit.module for unit in asked_of(weights).choice(8.0).by_channel}


def test_a_layer_with_outliers_is_the_first_that_it_leaves_out(asked_of: Callable[..., AutoQuantize]) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    # Its scores are of products, so an outlier that a normalisation makes is what it sees best.
    module = rng.choice([name for name in PLANTS if name.endswith("fc1")])
    weights = base_weights()
    plant(weights, module, np.random.default_rng(seed))
    excluded = asked_of(weights).choice(10.0).excluded
    assert module in {unit.module for unit in excluded}


def test_what_the_journal_has_is_not_asked_again(
    asked_of: Callable[..., AutoQuantize], measured: Measured, tmp_path: Path
) -> None:
    path = tmp_path / "kept"
    found = asked_of(base_weights(), path).choice(10.0)

    def never() -> Any:
        raise AssertionError("scored again")

    again = AutoQuantize(never, never, measured.units, Journal(path, "a"))
    assert again.choice(10.0) == found


def test_one_caption_is_refused(plain: Prepared, measured: Measured, tmp_path: Path) -> None:
    texts = [tensor[:1] for tensor in plain.batches["text"][0]]
    pairs = [Pairs(plain.batches["image"][0][0], texts, torch.zeros(SAMPLES // 2, dtype=torch.int64))]
    rival = AutoQuantize(
        lambda: (model_with(base_weights()), FAMILY), lambda: pairs, measured.units, Journal(tmp_path / "j", "a")
    )
    with pytest.raises(ConfigError, match="different captions"):
        rival.choice(9.0)


def unit(name: str) -> Unit:
    return Unit("image", name, "linear", 100, {})


def trial(made: Choice, passed: bool) -> Trial:
    gate = GateResult(name="min_cosine_mean", status="passed" if passed else "failed", min=0.9, value=0.9)
    return Trial(made, 1 - len(made.excluded) / 100, 0.9, (gate,))


@pytest.mark.parametrize("needed", [0, 1, 7, 19])
def test_bisection_finds_the_fewest_bits(needed: int) -> None:
    units = [unit(f"m{n}") for n in range(20)]

    def choice(bits: float) -> Choice:
        return Choice(frozenset(units[: int((bits - 8) / 8 * 20)]))

    trials = bisect(choice, lambda made: trial(made, len(made.excluded) >= needed), 40)
    assert min(len(t.excluded) for t in trials if t.passed) == needed
    assert len(trials) <= 10 and len({t.choice for t in trials}) == len(trials)


def test_bisection_keeps_to_its_budget_and_may_find_nothing() -> None:
    units = [unit(f"m{n}") for n in range(400)]
    trials = bisect(lambda bits: Choice(frozenset(units[: int((bits - 8) * 50)])), lambda made: trial(made, False), 4)
    assert len(trials) == 4 and not any(t.passed for t in trials)
