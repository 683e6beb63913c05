"""Gates judge intervals: checked point by point, at their bounds, and on the rows they do or do not speak about."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from artifacts.manifest import GateResult, Row
from artifacts.release.gates import Gate, Gates, judge
from tests.artifacts.conftest import build_manifest, make_row


def accuracy(metric: str = "cosine_mean", **changes: Any) -> Row:
    base = {"encoder": "image", "target": "onnxruntime", "precision": "fp8", "reference": "fp32", "samples": 9}
    return make_row("accuracy", metric=metric, **(base | {"value": 0.99} | changes))


def size(encoder: str, ratio: float | None, **changes: Any) -> Row:
    base = {"precision": "fp8", "target": "onnx", "bytes": 9, "status": "built"}
    return make_row("sizes", encoder=encoder, vs_fp16=ratio, **(base | changes))


def judged(gates: Gates, *rows: Row, sizes: tuple[Row, ...] = ()) -> tuple[GateResult, ...]:
    """The results without that on chance, which has its own test."""
    results = judge(gates.gates(), {"accuracy": rows, "sizes": sizes})
    return tuple(result for result in results if result.name != "above_chance")


def only(**bounds: float | None) -> Gates:
    """These gates and no others."""
    return Gates(**(dict.fromkeys(Gates.model_fields) | bounds))


def statuses(results: tuple[GateResult, ...]) -> list[str]:
    return [result.status for result in results]


def test_what_is_not_a_number_fails() -> None:
    """The cosine of an embedding of zeros: no more samples would settle it, so it is not left undecided."""
    (result,) = judged(only(min_cosine_mean=0.9), accuracy(value=float("nan")))
    assert result.status == "failed" and result.rejects


# --- intervals -------------------------------------------------------------------------------------------------------

SHARES = st.integers(-8, 8).map(lambda eighths: eighths / 8)  # exact in floats, and equal often enough


@given(ends=st.lists(SHARES, min_size=3, max_size=3).map(sorted), bound=st.integers(1, 8), drop=st.booleans())
@example(ends=[0.0, 0.5, 0.5], bound=4, drop=False)
@example(ends=[0.5, 0.5, 0.5], bound=4, drop=False)
@example(ends=[0.5, 0.5, 0.75], bound=4, drop=False)
@pytest.mark.parametrize("side", ["min", "max"])
def test_an_interval_is_judged_as_all_of_its_points(side: str, ends: list[float], bound: int, drop: bool) -> None:
    low, value, high = ends
    where = {"metric": ("m",)}
    gate = Gate(name="g", table="accuracy", column="value", where=where, drop=drop, **{side: bound / 8})
    (result,) = judge([gate], {"accuracy": [accuracy("m", value=value, low=low, high=high)]})
    step = Fraction(1, 16)  # finer than ends and bounds: no point between two of them behaves otherwise
    points = [Fraction(low) + step * n for n in range(int((Fraction(high) - Fraction(low)) / step) + 1)]
    if drop:
        points = [-point for point in points]
    right = [point >= Fraction(bound, 8) if side == "min" else point <= Fraction(bound, 8) for point in points]
    assert result.status == ("passed" if all(right) else "undecided" if any(right) else "failed")
    assert (result.low, result.value, result.high) == ((-high, -value, -low) if drop else (low, value, high))
    assert result.rejects == (not all(right))
    assert result.samples == 9
    assert (result.needed is None) == (result.status != "undecided" or Fraction(value) == _bound(bound, drop))


def _bound(eighths: int, drop: bool) -> Fraction:
    """The value that is the bound itself."""
    return Fraction(-eighths if drop else eighths, 8)


@pytest.mark.parametrize("ends", [(None, None), (None, 0.9), (0.1, None)])
def test_without_a_whole_interval_the_value_is_judged(ends: tuple[float | None, float | None]) -> None:
    for value, status in ((0.5, "passed"), (0.49999, "failed"), (1.0, "passed")):
        (result,) = judged(only(min_cosine_mean=0.5), accuracy(value=value, low=ends[0], high=ends[1]))
        assert (result.status, result.low, result.high) == (status, None, None)


def test_a_drop_is_a_loss() -> None:
    rows = (
        accuracy("top1_difference", encoder="both", value=-0.002, low=-0.006, high=0.0),
        accuracy("top1_difference", encoder="both", value=0.25, low=0.25, high=0.5, reference="fp16"),
    )
    for bound, status in ((0.006, "passed"), (0.0059, "undecided"), (0.001, "undecided")):
        results = judged(only(max_top1_drop=bound), *rows)
        assert statuses(results) == [status, "passed"]
        assert [(r.reference, r.value, r.low, r.high) for r in results] == [
            ("fp32", 0.002, 0.0, 0.006),
            ("fp16", -0.25, -0.5, -0.25),
        ]
    lost = accuracy("top1_difference", value=-0.02, low=-0.03, high=-0.011)
    assert statuses(judged(only(max_top1_drop=0.01), lost)) == ["failed"]
    same = judged(only(max_top1_drop=0.01), accuracy("top1_difference", value=0.0, low=0.0, high=0.0))
    assert str(same[0].value) == "0.0"  # not -0.0


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.0, 0.0, 0.0), ("passed", 0.0, 0.0)),
        ((-0.001, -0.0005, 0.0002), ("passed", 0.0, 0.001)),
        ((-0.0002, 0.0005, 0.0011), ("undecided", 0.0, 0.0011)),
        ((-0.003, -0.002, -0.0015), ("failed", 0.0015, 0.003)),
        ((0.0015, 0.002, 0.003), ("failed", 0.0015, 0.003)),
    ],
)
def test_a_change_is_judged_either_way(ends: tuple[float, ...], expected: tuple[str, float, float]) -> None:
    low, value, high = ends
    row = accuracy("top1_difference", precision="fp16", encoder="both", value=value, low=low, high=high)
    (result,) = judged(only(max_fp16_change=0.001), row)
    assert (result.status, result.low, result.high) == expected
    assert result.value == abs(value)


CHANCES = {(0.2, 0.15, 0.25): "passed", (0.01, -0.02, 0.04): "failed", (-0.2, -0.25, -0.15): "failed"}


@pytest.mark.parametrize("ends", CHANCES)
def test_a_gate_on_top1_asks_for_more_than_chance(ends: tuple[float, float, float]) -> None:
    value, low, high = ends
    values = {"encoder": "both", "precision": "fp32", "reference": "chance", "target": "pytorch"}
    chance = accuracy("top1_over_chance", value=value, low=low, high=high, **values)
    same = accuracy("top1_difference", encoder="both", value=0.0, low=0.0, high=0.0)
    results = {r.name: r for r in judge(only(max_top1_drop=0.1).gates(), {"accuracy": [same, chance]})}
    assert results["above_chance"].status == CHANCES[ends]
    assert results["max_top1_drop"].status == "passed"
    assert judge(only(max_size_ratio=0.9).gates(), {"accuracy": [chance]})[-1].name != "above_chance"
    recall = chance | {"metric": "recall@1_image_to_text_over_chance"}
    for bounds in ({"max_recall_drop": 0.1}, {"max_recall_drop": 0.1, "max_top1_drop": 0.1}):
        found = judge(only(**bounds).gates(), {"accuracy": [recall]})
        assert [r.status for r in found if r.name == "above_chance"] == [CHANCES[ends]]
    assert judge(only(max_recall_drop=0.1).gates(), {"accuracy": [chance]})[-1].status == "not measured"
    missing = judge(only(max_top1_drop=0.1).gates(), {"accuracy": [same]})
    assert [(r.name, r.status) for r in missing][-1] == ("above_chance", "not measured")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_every_row_that_a_gate_speaks_about_is_judged_and_no_other() -> None:
    rows = (
        accuracy(value=0.99),
        accuracy(value=0.98, encoder="text"),
        accuracy(value=0.5, target="trtrtx-sm89"),
        accuracy(value=0.1, reference="fp16"),
        accuracy(value=0.1, precision="fp16"),
        accuracy("snr_db", value=None),
        accuracy("cosine_min", value=0.1),
    )
    results = judged(only(min_cosine_mean=0.985), *rows)
    assert [(r.encoder, r.target, r.reference, r.metric, r.status) for r in results] == [
        ("image", "onnxruntime", "fp32", "cosine_mean", "passed"),
        ("text", "onnxruntime", "fp32", "cosine_mean", "failed"),
        ("image", "trtrtx-sm89", "fp32", "cosine_mean", "failed"),
    ]
    assert {(r.name, r.min, r.max) for r in results} == {("min_cosine_mean", 0.985, None)}
    (worst,) = judged(only(min_cosine_worst=0.05), *rows)
    assert (worst.metric, worst.value, worst.status) == ("cosine_min", 0.1, "passed")


def test_the_classes_recall_is_judged_by_itself() -> None:
    rows = [
        accuracy("mean_class_recall_difference", encoder="both", value=-0.1, low=-0.2, high=-0.06, reference="fp32"),
        accuracy("mean_class_recall_difference", encoder="both", value=0.0, low=0.0, high=0.0, reference="fp16"),
        accuracy("mean_class_recall_difference", encoder="both", value=-0.5, precision="fp16"),
        accuracy("mean_class_recall", encoder="both", value=0.1),
        accuracy("top1_difference", encoder="both", value=-0.5),
    ]
    results = judged(only(max_class_recall_drop=0.05), *rows)
    assert [(r.reference, r.value, r.status) for r in results] == [("fp32", 0.1, "failed"), ("fp16", 0.0, "passed")]
    assert only(max_class_recall_drop=0.05).gates()[-1].name == "above_chance"


def test_recall_is_judged_both_ways() -> None:
    ways = ("image_to_text", "text_to_image")
    rows = [
        accuracy(f"recall@{k}_{way}_difference", encoder="both", value=-0.1, reference=reference)
        for k in (1, 5)
        for way in ways
        for reference in ("fp32", "fp16")
    ]
    results = judged(only(max_recall_drop=0.05), *rows)
    assert {(r.metric, r.reference) for r in results} == {
        (f"recall@1_{way}_difference", reference) for way in ways for reference in ("fp32", "fp16")
    }
    assert set(statuses(results)) == {"failed"}


def test_sizes_of_graphs_are_judged_and_engines_are_not() -> None:
    sizes = (size("image", 0.5), size("text", 0.7), size("text", 1.2, target="trtrtx-sm89"))
    fp16 = (size("image", 1.0, precision="fp16"),)
    results = judged(only(max_size_ratio=0.6), sizes=sizes + fp16)
    assert [(r.encoder, r.target, r.value, r.status) for r in results] == [
        ("image", "onnx", 0.5, "passed"),
        ("text", "onnx", 0.7, "failed"),
    ]


def test_engines_are_judged_each_in_fp8_alone() -> None:
    def engine(target: str, fused: float | None, fp8: float, precision: str = "fp8") -> Row:
        about = {"encoder": "image", "target": target, "precision": precision}
        return make_row("engines", **about, fused_share=fused, fp8_share=fp8)

    rows = [engine("a", 1.0, 1.0), engine("b", 0.5, 0.8), engine("c", None, 0.0), engine("a", 0.0, 0.0, "fp16")]
    results = judge(only(min_attention_fused=0.6, min_products_fp8=0.8).gates(), {"engines": rows})
    assert [(r.name, r.target, r.status) for r in results] == [
        ("min_attention_fused", "a", "passed"),
        ("min_attention_fused", "b", "failed"),
        ("min_attention_fused", "c", "not measured"),
        ("min_products_fp8", "a", "passed"),
        ("min_products_fp8", "b", "passed"),
        ("min_products_fp8", "c", "failed"),
    ]


CONFIGURED: list[dict[str, float]] = [
    {"min_cosine_mean": 0.91},
    {"min_cosine_worst": 0.5},
    {"max_top1_drop": 0.5},
    {"max_class_recall_drop": 0.5},
    {"max_recall_drop": 0.5},
    {"max_fp16_change": 0.5},
    {"max_size_ratio": 0.97},
    {"min_attention_fused": 0.5},
    {"min_products_fp8": 1.0},
]


@pytest.mark.parametrize("bounds", CONFIGURED, ids=lambda bounds: next(iter(bounds)))
def test_what_was_configured_and_not_measured_rejects(bounds: dict[str, float]) -> None:
    for sizes in ((), (size("image", None),)):
        results = judged(only(**bounds), sizes=sizes)
        assert statuses(results) == ["not measured"]
        assert (results[0].value, results[0].rejects) == (None, True)


def test_part_of_what_was_configured_is_not_enough() -> None:
    results = judged(only(max_size_ratio=0.9), sizes=(size("image", 0.5), size("text", None)))
    assert [(r.encoder, r.status) for r in results] == [("image", "passed"), ("text", "not measured")]


def test_defaults_are_left_out_where_there_is_nothing_to_judge() -> None:
    assert judged(Gates()) == ()
    assert judged(Gates(), accuracy(precision="fp16"), sizes=(size("image", 1.0, precision="fp16"),)) == ()
    alone = judged(Gates(), accuracy(), sizes=(size("image", None),))  # FP8 without an FP16 file
    assert [(r.name, r.status) for r in alone] == [("min_cosine_mean", "passed")]
    # Written out, as a form or a saved configuration does it, a default stays one.
    assert judged(Gates.model_validate(Gates().model_dump())) == ()


def test_defaults_pass_what_is_sound_and_reject_what_is_broken() -> None:
    sound = build_manifest().tables
    assert set(statuses(judge(Gates().gates(), sound))) == {"passed"}
    assert {r.name for r in judge(Gates().gates(), sound)} == {"min_cosine_mean", "max_size_ratio"}
    broken = judged(Gates(), accuracy(value=0.7), sizes=(size("image", 1.0),))
    assert statuses(broken) == ["failed", "failed"]


def test_null_switches_a_gate_off() -> None:
    assert only().gates() == ()
    assert [gate.name for gate in Gates(min_cosine_mean=None).gates()] == ["max_size_ratio"]


# --- as data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 0.0, -0.01, 1.0001, 5, float("nan"), float("inf"), True, "0.5"])
@pytest.mark.parametrize("name", Gates.model_fields)
def test_impossible_bounds_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Gates.model_validate({name: value})


def test_unknown_gates_are_refused() -> None:
    with pytest.raises(ValidationError, match="max_top2_drop"):
        Gates.model_validate({"max_top2_drop": 0.1})


@pytest.mark.parametrize("bounds", [{}, {"min": 0.5, "max": 0.6}])
def test_a_gate_has_one_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="either min or max"):
        Gate(name="g", table="accuracy", column="value", where={}, **bounds)


def test_results_and_gates_survive_json() -> None:
    bounds = dict.fromkeys(Gates.model_fields, 0.5)
    gates = Gates(**bounds).gates()
    assert tuple(Gate.model_validate_json(gate.model_dump_json()) for gate in gates) == gates
    for result in judge(gates, build_manifest().tables):
        assert GateResult.model_validate_json(result.model_dump_json()) == result
