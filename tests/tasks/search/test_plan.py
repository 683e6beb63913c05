"""The planner against a model of fidelity whose best answer is known, with no encoder at all."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable

import pytest

from artifacts.errors import NoRecipe
from artifacts.manifest import GateResult
from tasks.search.choice import Choice
from tasks.search.plan import Planner, Trial, fidelity_of, pareto
from tasks.search.sensitivity import Sensitivity
from tasks.search.units import Unit

Evaluate = Callable[[Choice], Trial]


def unit(name: str, flops: int = 100, encoder: str = "image") -> Unit:
    return Unit(encoder, name, "linear" if flops else "embedding", flops, {})  # type: ignore[arg-type]


def judged(
    losses: dict[Unit, float], most: float, name: str = "min_cosine_mean", finer: dict[Unit, float] | None = None
) -> tuple[list[frozenset], Evaluate]:
    """What was excluded so far, and an evaluation: what is in FP8 may lose `most` altogether, by encoder.

    `finer` are the losses of units by channel that are not as they are by one scale.
    """
    asked: list[frozenset[Unit]] = []
    by_channel = losses | (finer or {})

    def evaluate(choice: Choice) -> Trial:
        excluded = choice.excluded
        assert not excluded & choice.by_channel
        asked.append(excluded)
        kept = {u: (by_channel if u in choice.by_channel else losses)[u] for u in losses if u not in excluded}
        sums = {e: sum(loss for u, loss in kept.items() if u.encoder == e) for e in {u.encoder for u in losses}}
        gates = tuple(
            GateResult(name=name, status="passed" if s <= most else "failed", min=1 - most, value=1 - s, encoder=e)
            for e, s in sums.items()
        )
        share = sum(u.flops for u in kept) / sum(u.flops for u in losses)
        return Trial(choice, share, 1 - max(sums.values()), gates)

    return asked, evaluate


def planner(losses: dict[Unit, float], evaluate: Evaluate, budget: int = 60) -> Planner:
    made = Planner([Sensitivity(u, loss, 0.0) for u, loss in losses.items()], evaluate, budget)
    made.run()
    return made


def test_nothing_is_excluded_when_everything_passes() -> None:
    losses = {unit(f"m{n}"): 0.01 for n in range(8)}
    asked, evaluate = judged(losses, 1.0)
    assert planner(losses, evaluate).best().excluded == frozenset()
    assert asked[0] == frozenset()


def test_the_bad_ones_are_found_among_many() -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    losses = {unit(f"m{n}", rng.randint(10, 1000)): rng.random() / 1000 for n in range(80)}
    bad = set(rng.sample(list(losses), 5))
    losses |= dict.fromkeys(bad, 1.0)
    asked, evaluate = judged(losses, 0.5)
    assert planner(losses, evaluate).best().excluded == bad
    # Doubling, bisecting and putting back are logarithmic where the ranking is right; 5 of the curve come on top, and 2
    # that try scales by channel.
    assert len(asked) <= 26


@pytest.mark.parametrize("drawn", [False, True])
def test_the_result_is_minimal_when_sensitivity_misleads(drawn: bool) -> None:
    """The measured losses are noise: whatever is tried first, in the end each exclusion is needed.

    With the seed that is not drawn, a point of the curve passes with more in FP8 than what had been put back.
    """
    seed = secrets.randbits(32) if drawn else 547472082
    print(f"seed {seed}")
    rng = random.Random(seed)
    truth = {unit(f"m{n}", rng.randint(10, 1000)): rng.random() for n in range(16)}
    _, evaluate = judged(truth, 3.0)
    made = Planner([Sensitivity(u, rng.random(), 0.0) for u in truth], evaluate, 500)
    made.run()
    best = made.best()
    assert best.passed and best.excluded
    for one in best.excluded:
        assert not evaluate(Choice(best.excluded - {one}, best.by_channel | {one})).passed


def test_only_the_encoder_that_fails_pays() -> None:
    losses = {unit(f"i{n}"): 0.01 for n in range(6)} | {unit(f"t{n}", encoder="text"): 0.2 for n in range(6)}
    asked, evaluate = judged(losses, 0.5)
    found = planner(losses, evaluate).best()
    assert {u.encoder for u in found.excluded} == {"text"} and len(found.excluded) == 4
    assert all({u.encoder for u in e} <= {"text"} for e in asked[:6])


def test_scales_by_channel_come_before_exclusions() -> None:
    """Of the bad units some are good by channel: those alone get that, the others are left out."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    losses = {unit(f"m{n}", rng.randint(10, 1000)): rng.random() / 1000 for n in range(80)}
    bad = rng.sample(list(losses), 6)
    losses |= dict.fromkeys(bad, 1.0)
    asked, evaluate = judged(losses, 0.5, finer=dict.fromkeys(bad[:3], 0.001))
    best = planner(losses, evaluate).best()
    assert (best.by_channel, best.excluded) == (set(bad[:3]), set(bad[3:]))
    everything = dict.fromkeys(bad, 0.001)
    asked, evaluate = judged(losses, 0.5, finer=everything)
    best = planner(losses, evaluate).best()
    assert (best.by_channel, best.excluded, best.share) == (set(bad), set(), 1.0)
    # Everything, all by channel, 5 of the curve, and halving down to six; none but those of the curve leave units out.
    assert len(asked) <= 2 + 5 + 2 * 6 * 7
    assert sum(map(bool, asked)) <= 5


def test_each_scale_by_channel_is_needed() -> None:
    """Measured losses are noise here, and how much scales by channel help is another draw."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    truth = {unit(f"m{n}", rng.randint(10, 1000)): rng.random() for n in range(16)}
    _, evaluate = judged(truth, 3.0, finer={u: loss * rng.random() for u, loss in truth.items()})
    made = Planner([Sensitivity(u, rng.random(), 0.0) for u in truth], evaluate, 500)
    made.run()
    best = made.best()
    assert best.passed and best.by_channel
    for one in best.by_channel:
        assert not evaluate(Choice(best.excluded, best.by_channel - {one})).passed
    for one in best.excluded:
        assert not evaluate(Choice(best.excluded - {one}, best.by_channel | {one})).passed


def test_a_table_has_no_channels_to_scale() -> None:
    table = unit("token_embedding", 0)
    losses = {table: 1.0, unit("fc1"): 0.0}
    best = planner(losses, judged(losses, 0.5, finer={table: 0.0})[1]).best()
    assert (best.excluded, best.by_channel) == ({table}, set())


def test_an_embedding_loses_no_work_and_goes_first() -> None:
    table, linear = unit("token_embedding", 0), unit("fc1")
    losses = {table: 0.3, linear: 0.3, unit("fc2"): 0.0}
    assert planner(losses, judged(losses, 0.4)[1]).best().excluded == {table}


def test_an_encoder_is_never_left_without_fp8() -> None:
    losses = {unit(f"m{n}"): 1.0 for n in range(4)}
    asked, evaluate = judged(losses, 0.5)
    with pytest.raises(NoRecipe, match="min_cosine_mean failed"):
        planner(losses, evaluate).best()
    assert max(map(len, asked)) == 3


def test_the_budget_is_kept() -> None:
    losses = {unit(f"m{n}"): 1.0 for n in range(40)}
    asked, evaluate = judged(losses, 5.5)
    assert len(planner(losses, evaluate, budget=7).trials) == 7 == len(asked)
    with pytest.raises(NoRecipe, match="in 1 evaluations"):
        planner(losses, evaluate, budget=1).best()
    assert NoRecipe("").exit_code == 3


def test_a_gate_that_no_recipe_changes_ends_the_search() -> None:
    losses = {unit(f"m{n}"): 1.0 for n in range(8)}
    asked, evaluate = judged(losses, 0.5, name="max_fp16_change")
    with pytest.raises(NoRecipe):
        planner(losses, evaluate).best()
    assert len(asked) == 1


def test_equal_searches_ask_the_same() -> None:
    losses = {unit(f"m{n}"): 0.1 for n in range(12)}  # all worth the same: names decide
    (first, one), (second, other) = judged(losses, 0.55), judged(losses, 0.55)
    planner(losses, one), planner(dict(reversed(losses.items())), other)
    assert first == second


def test_the_front_is_what_nothing_beats() -> None:
    points = [(0.9, 0.5), (0.8, 0.7), (0.85, 0.6), (0.8, 0.6), (0.5, 0.65), (0.4, 0.9), (0.9, 0.4)]
    front = [(t.share, t.fidelity) for t in pareto([Trial(Choice(), *point, ()) for point in points])]
    brute = [
        p for p in points if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points)
    ]  # fmt: skip
    assert front == sorted(brute, reverse=True)


def test_fidelity_is_the_worse_encoder_and_nothing_for_zeros() -> None:
    rows = [
        {"precision": p, "reference": "fp32", "metric": "cosine_mean", "value": v}
        for p, v in (("fp16", 0.1), ("fp8", 0.98), ("fp8", 0.95))
    ]
    assert fidelity_of(rows) == 0.95
    assert fidelity_of([*rows, rows[1] | {"value": float("nan")}]) == 0.0
