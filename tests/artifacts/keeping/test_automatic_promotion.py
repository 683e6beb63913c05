"""What is promoted without a person is accurate, above chance, and no worse than what is there."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.keeping.automatic_promotion import MAX_DROP, why_not
from artifacts.manifest import GateResult, Manifest, Row
from artifacts.refs import digest_json
from artifacts.release.gates import Gates, judge
from tests.artifacts.conftest import build_manifest, make_row

PASSED = GateResult(name="min_cosine_mean", status="passed", min=0.9, value=0.99)
ACCURATE = GateResult(name="max_recall_drop", status="passed", max=0.01, value=0.0)
ABOVE_CHANCE = GateResult(name="above_chance", status="passed", min=0.0, value=0.5)
MAY = (PASSED, ACCURATE, ABOVE_CHANCE)


def row(metric: str, value: float, precision: str = "fp8", target: str = "onnxruntime") -> Row:
    return make_row("accuracy", encoder="both", target=target, precision=precision, metric=metric, value=value)


def release(*rows: Row, gates: tuple[GateResult, ...] = MAY, samples: str = "a", version: int = 2) -> Manifest:
    made = build_manifest()
    evaluation = made.provenance.evaluation.model_copy(update={"digest": digest_json(samples)})
    provenance = made.provenance.model_copy(update={"evaluation": evaluation})
    changes: dict[str, Any] = {"gates": gates, "tables": {"accuracy": rows}, "provenance": provenance}
    return made.model_copy(update=changes | {"version": version})


def changed(gate: GateResult, status: str) -> GateResult:
    return gate.model_copy(update={"status": status})


def test_the_first_release_needs_no_other() -> None:
    assert why_not(release(), None, MAX_DROP) is None


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ((), "no gate on accuracy is set: one of max_top1_drop, max_class_recall_drop, max_recall_drop"),
        ((PASSED,), "no gate on accuracy is set: one of max_top1_drop, max_class_recall_drop, max_recall_drop"),
        ((*MAY, changed(ACCURATE, "undecided")), "gates that did not pass: max_recall_drop"),
        ((PASSED, ACCURATE, changed(ABOVE_CHANCE, "failed")), "gates that did not pass: above_chance"),
        ((PASSED, ACCURATE), "nothing says that FP32 is above chance"),
    ],
)
def test_gates(gates: tuple[GateResult, ...], reason: str) -> None:
    assert why_not(release(gates=gates), None, MAX_DROP) == reason


def test_a_model_at_chance_is_never_promoted() -> None:
    """By its gates as they are judged: FP8 loses nothing there."""
    lost = {"metric": "top1_difference", "precision": "fp8", "encoder": "both", "target": "onnxruntime"}
    rows = [make_row("accuracy", **lost, reference=name, value=0.0, low=0.0, high=0.0) for name in ("fp16", "fp32")]
    over = {"metric": "top1_over_chance", "precision": "fp32", "encoder": "both", "target": "pytorch"}
    for value, low, allowed in ((0.01, -0.02, False), (0.4, 0.3, True)):
        tables = {"accuracy": (*rows, make_row("accuracy", **over, value=value, low=low, high=value + 0.1))}
        gates = judge(Gates(max_top1_drop=0.01, min_cosine_mean=None, max_size_ratio=None).gates(), tables)
        reason = why_not(release(gates=gates), None, MAX_DROP)
        assert reason == (None if allowed else "gates that did not pass: above_chance")


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (0.80, 0.80, None),
        (0.80, 0.795, None),
        (0.80, 0.95, None),
        (0.80, 0.74, "top1 on onnxruntime is \N{MINUS SIGN}6.00 points against clip-vit-base-patch32@1"),
    ],
)
def test_what_is_worse_than_production_is_left_to_a_person(before: float, now: float, reason: str | None) -> None:
    others = (row("top1", 0.1, "fp16"), row("top5", 0.1), row("mean_class_recall", 0.1))
    found = why_not(release(row("top1", now), *others), release(row("top1", before), version=1), MAX_DROP)
    assert found == (None if reason is None else reason.replace("clip-vit-base-patch32", release().model))
    assert why_not(release(row("top1", now), *others), release(row("top1", before), version=1), None) is None


def test_each_target_and_direction_counts() -> None:
    metrics = ("recall@1_image_to_text", "recall@1_text_to_image")
    before = release(*(row(metric, 0.5, target=target) for metric in metrics for target in ("a", "b")), version=1)
    now = release(row(metrics[0], 0.5, target="a"), row(metrics[1], 0.4, target="b"), row(metrics[1], 0.5, target="a"))
    assert (why_not(now, before, MAX_DROP) or "").startswith("recall@1_text_to_image on b is")


def test_what_cannot_be_compared_is_left_to_a_person() -> None:
    before = release(row("top1", 0.5), version=1)
    other = why_not(release(row("top1", 0.5), samples="b"), before, MAX_DROP)
    assert other == f"{before.ref} was evaluated on other samples"
    nothing = why_not(release(row("recall@1_image_to_text", 0.5)), before, MAX_DROP)
    assert nothing == f"no accuracy that both have, to compare with {before.ref}"
