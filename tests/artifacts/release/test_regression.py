"""Noise is told from drift: simulated histories with known truth, and what may be compared with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from artifacts.manifest import DataSource, GateResult, Manifest, Row
from artifacts.release.measurements import Measurement
from artifacts.release.regression import FEWEST, WINDOW, Finding, findings, is_aim, sentence, times_worse
from tests.artifacts.conftest import make_row
from tests.artifacts.support import SHA, digest, provenance

Noise = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
NOISES: dict[str, Noise] = {  # all with a standard deviation of 1
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "skewed": lambda rng, shape: (np.exp(0.5 * rng.standard_normal(shape)) - np.exp(0.125)) / 0.604,
}
CREATED = "2026-01-01T00:00:00+00:00"
EVALUATED = "ab" * 32


def release(version: int, **changes: Any) -> Manifest:
    data = DataSource(source="digits", digest=EVALUATED, samples=2000)
    about = {"evaluation": data, "device": {"cpu": "c", "cores": 2}, "parameters": {"profile": {"max": 8}}}
    known = ("recipe", *about)
    about |= {name: changes.pop(name) for name in known if name in changes}
    values: dict[str, Any] = {"model": "m", "sequence": version, "created": CREATED, "identity": digest(str(version))}
    values |= {"version": version, "files": (), "tables": {}, "provenance": provenance(**about)} | changes
    return Manifest(**values)


def latency(value: float, batch: int = 1, **changes: Any) -> Row:
    about = {"encoder": "image", "target": "trt", "precision": "fp8", "status": "measured", "device": "g"}
    return make_row("latency", batch=batch, median_ms=value, **(about | changes))


def build(value: float, encoder: str = "image", target: str = "trt") -> Row:
    return make_row("stages", step="build", encoder=encoder, precision="fp8", target=target, wall_s=value)


def size(value: int) -> Row:
    return make_row("sizes", encoder="image", precision="fp8", target="onnx", bytes=value, status="built")


def score(value: float, metric: str = "cosine_mean", **changes: Any) -> Row:
    about = {"encoder": "image", "target": "onnxruntime", "precision": "fp8", "reference": "fp32", "samples": 2000}
    return make_row("accuracy", metric=metric, value=value, **(about | changes))


def last(table: str, rows: Sequence[Row], **changes: Any) -> Finding:
    """What becomes of the last of these rows, one per release."""
    *history, new = [release(n, tables={table: (row,)}, **changes) for n, row in enumerate(rows, 1)]
    (finding,) = findings(history, new)
    return finding


def verdicts(times: NDArray[np.float64]) -> Counter[str]:
    """Independent histories, one in each column: what is said of the last row."""
    *history, new = [
        release(n, tables={"latency": tuple(latency(float(x), batch) for batch, x in enumerate(row, 1))})
        for n, row in enumerate(times, 1)
    ]
    return Counter(finding.verdict for finding in findings(history, new))


def share(found: Counter[str], *names: str) -> float:
    return sum(found[name] for name in names) / sum(found.values())


def simulated(noise: str, spread: float, releases: int, histories: int = 200, seed: int = 5) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return 100 * (1 + spread * NOISES[noise](rng, (releases, histories)))


# --- simulations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("releases", [FEWEST + 1, WINDOW + 1])
@pytest.mark.parametrize("spread", [0.02, 0.05, 0.2])
def test_noise_is_no_regression(noise: str, releases: int, spread: float) -> None:
    found = verdicts(simulated(noise, spread, releases, histories=1000))
    assert share(found, "regression", "drift") <= 0.01


@pytest.mark.parametrize("noise", NOISES)
def test_a_whole_release_of_noise_is_no_regression(noise: str) -> None:
    """Eleven noisy figures, as releases with one GPU have: the alarms of a release are together at most 1 %."""
    found = verdicts(simulated(noise, 0.03, WINDOW + 1, histories=2200))
    assert 11 * share(found, "regression", "drift") <= 0.01


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("step", "spread"), [(1.4, 0.02), (2.0, 0.05)])
def test_a_large_step_is_seen_at_once(noise: str, step: float, spread: float) -> None:
    times = simulated(noise, spread, WINDOW + 1)
    times[-1] *= step
    assert share(verdicts(times), "regression") >= 0.9


@pytest.mark.parametrize("noise", NOISES)
def test_a_small_step_is_seen_when_it_stays(noise: str) -> None:
    times = simulated(noise, 0.02, WINDOW + 1)
    times[-1] *= 1.2
    assert share(verdicts(times), "regression", "drift") <= 0.1
    times[-3:-1] *= 1.2
    assert share(verdicts(times), "regression", "drift") >= 0.95


@pytest.mark.parametrize("noise", NOISES)
def test_a_slow_drift_is_seen_within_ten_releases(noise: str) -> None:
    times = simulated(noise, 0.02, WINDOW + 10)
    times[WINDOW:] *= 1 + 0.02 * np.arange(1, 11)[:, None]
    assert share(verdicts(times), "regression", "drift") >= 0.95


@pytest.mark.parametrize("noise", NOISES)
def test_an_improvement_never_alarms(noise: str) -> None:
    times = simulated(noise, 0.02, WINDOW + 10)
    times[WINDOW:] *= 1 - 0.03 * np.arange(1, 11)[:, None]
    assert share(verdicts(times), "regression", "drift") == 0
    times = simulated(noise, 0.02, WINDOW + 1)
    times[-1] *= 0.5
    assert share(verdicts(times), "improved") >= 0.95


@pytest.mark.parametrize("count", range(FEWEST))
def test_short_histories_never_alarm(count: int) -> None:
    finding = last("sizes", [size(100)] * count + [size(10_000)])
    assert (finding.verdict, finding.n, finding.typical, finding.limit) == ("too few", count, None, None)
    assert not finding.alarming
    assert "too few" in sentence(finding)


# --- figures that do not vary --------------------------------------------------------------------------------------


def test_a_constant_history_has_room_for_what_does_not_matter() -> None:
    assert last("sizes", [size(1_000_000)] * 11).verdict == "steady"
    assert last("sizes", [size(1_000_000)] * 10 + [size(1_009_000)]).verdict == "steady"
    assert last("sizes", [size(1_000_000)] * 10 + [size(1_011_000)]).verdict == "regression"
    assert last("sizes", [size(1_000_000)] * 10 + [size(980_000)]).verdict == "improved"


def test_a_cosine_that_falls() -> None:
    assert last("accuracy", [score(0.9992)] * 10 + [score(0.9985)]).verdict == "steady"
    finding = last("accuracy", [score(0.9992)] * 10 + [score(0.998)])
    assert (finding.verdict, finding.typical, finding.unit) == ("regression", 0.9992, "")
    assert finding.limit == pytest.approx(0.9982)
    assert last("accuracy", [score(0.998)] * 10 + [score(0.9992)]).verdict == "improved"


def test_a_cosine_that_falls_a_little_every_night() -> None:
    rows = [score(0.9992 - 0.00015 * night) for night in range(11)]
    assert last("accuracy", rows).verdict == "drift"
    assert last("accuracy", rows[::-1]).verdict in ("steady", "improved")
    less = [score(0.9992 - 0.00005 * night) for night in range(11)]  # half a thousandth in ten releases
    assert last("accuracy", less).verdict == "steady"


def test_the_accuracy_that_fp8_loses_against_each_baseline() -> None:
    for reference in ("fp16", "fp32"):
        rows = [score(-0.002, "top1_difference", reference=reference)] * 8
        finding = last("accuracy", [*rows, score(-0.012, "top1_difference", reference=reference)])
        assert finding.verdict == "regression"
        assert reference in finding.figure
        assert "\N{MINUS SIGN}1.20 points" in sentence(finding)


def test_a_few_pictures_of_a_small_set_are_no_finding() -> None:
    small = {"metric": "top1_difference", "samples": 64}
    rows = [score(0.0, **small)] * 10
    assert last("accuracy", [*rows, score(-2 / 64, **small)]).verdict == "steady"
    assert last("accuracy", [*rows, score(-4 / 64, **small)]).verdict == "regression"


def test_fp16_and_other_metrics_are_not_judged() -> None:
    rows = (score(0.9, precision="fp16"), score(0.1, "cosine_min"), score(0.7, "top1", reference="labels"))
    assert findings([], release(1, tables={"accuracy": rows})) == []


def test_a_short_build_may_take_a_second_more() -> None:
    assert last("stages", [build(0.5 + n / 1000) for n in range(10)] + [build(2.0)]).verdict == "steady"
    assert last("stages", [build(0.5 + n / 1000) for n in range(10)] + [build(3.0)]).verdict == "regression"


def test_builds_count_together_and_only_when_they_are_the_same_ones() -> None:
    both = [release(n, tables={"stages": (build(20 + n / 9), build(10 + n / 9, "text"))}) for n in range(1, 9)]
    one = release(9, tables={"stages": (build(20.0),)})
    (finding,) = findings(both, one)
    assert (finding.verdict, finding.n) == ("too few", 0)
    slow = release(9, tables={"stages": (build(20.0), build(30.0, "text"))})
    (finding,) = findings(both, slow)
    assert (finding.figure, finding.value, finding.verdict) == ("build time on trt", 50.0, "regression")


def test_a_time_from_the_cache_is_one_measurement() -> None:
    rows = [build(30.0)] * 20 + [build(31.0)] * 4
    assert last("stages", [*rows, build(90.0)]).n == 2
    assert last("stages", rows).n == 1


# --- what may be compared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["emulated", "invalid", "built, not run"])
def test_only_latency_that_was_measured_counts(status: str) -> None:
    rows = [latency(5 + n / 100) for n in range(10)]
    assert last("latency", [*rows, latency(50.0)]).verdict == "regression"
    history = [release(n, tables={"latency": (row,)}) for n, row in enumerate(rows, 1)]
    assert findings(history, release(11, tables={"latency": (latency(50.0, status=status),)})) == []
    unreal = [release(n, tables={"latency": (row | {"status": status},)}) for n, row in enumerate(rows, 1)]
    (finding,) = findings(unreal, release(11, tables={"latency": (latency(50.0),)}))
    assert (finding.verdict, finding.n) == ("too few", 0)


OTHER = {
    "model": {"model": "another"},
    "recipe": {"recipe": "fp8-attention"},
    "image size": {"parameters": {"profile": {"max": 8}, "image_size": [384, 256]}},
    "rejected": {"gates": (GateResult(name="x", status="failed"),)},
}
OTHER_DATA = {"evaluation": DataSource(source="digits", digest=SHA, samples=2000)}
OTHER_MACHINE = {"device": {"cpu": "faster", "cores": 2}}
OTHER_PROFILE = {"parameters": {"profile": {"max": 64}}}


@pytest.mark.parametrize(
    ("table", "rows", "changes"),
    [
        *(("sizes", [size(100 + n) for n in range(9)], change) for change in OTHER.values()),
        ("accuracy", [score(0.9)] * 9, OTHER_DATA),
        ("stages", [build(30.0 + n) for n in range(9)], OTHER_MACHINE),
        ("latency", [latency(30.0 + n) for n in range(9)], OTHER_MACHINE),
        ("latency", [latency(30.0 + n) for n in range(9)], OTHER_PROFILE),
    ],
    ids=[*OTHER, "evaluation set", "machine of builds", "machine of latency", "profile"],
)
def test_only_comparable_releases_count(table: str, rows: list[Row], changes: dict[str, Any]) -> None:
    new = release(10, tables={table: (rows[-1],)})
    (finding,) = findings([release(n, tables={table: (row,)}) for n, row in enumerate(rows[:-1], 1)], new)
    assert finding.n == 8
    others = [release(n, tables={table: (row,)}, **changes) for n, row in enumerate(rows[:-1], 1)]
    assert [finding.n for finding in findings(others, new)] == [0]


def test_sizes_do_not_depend_on_data_or_machine() -> None:
    others = [release(n, tables={"sizes": (size(100),)}, **OTHER_DATA, **OTHER_MACHINE) for n in range(1, 9)]
    assert [f.verdict for f in findings(others, release(9, tables={"sizes": (size(100),)}))] == ["steady"]


def test_the_last_k_before_the_new_one_in_any_order() -> None:
    history = [release(n, tables={"sizes": (size(1000 * n),)}) for n in range(1, 31)]
    new = release(20, tables={"sizes": (size(15_000),)})
    first = findings(history, new)
    assert [(f.n, f.typical) for f in first] == [(10, 14_500)]
    assert findings(history[::-1], new) == first
    assert [(f.n, f.typical) for f in findings(history, new, k=7)] == [(7, 16_000)]


@pytest.mark.parametrize(
    ("table", "metric", "before", "after", "times"),
    [
        ("accuracy", "cosine_mean", 0.999, 0.997, 2.0),
        ("accuracy", "rank_agreement", 0.9, 0.902, -2.0),
        ("accuracy", "top1", 0.75, 0.742, 2.0),
        ("accuracy", "recall@1_text_to_image_difference", -0.01, -0.018, 2.0),
        ("accuracy", "nonfinite", 0.0, 3.0, 3.0),
        ("sizes", "bytes", 100e6, 98e6, -2.0),
        ("latency", "batch 8 median_ms", 10.0, 12.0, 2.0),
        ("latency", "batch 1 median_ms", 0.1, 0.2, 2.0),  # a twentieth of a millisecond is never worth a word
        ("latency", "batch 8 speedup", 1.6, 1.44, 2.0),
        ("accuracy", "top1_mcnemar_p", 0.9, 0.1, None),
        ("accuracy", "snr_db", 30.0, 20.0, None),
        ("latency", "batch 8 p95_ms", 10.0, 12.0, None),
        ("stages", "calibrate wall_s", 10.0, 99.0, None),
    ],
)
def test_how_many_times_the_least_that_matters(
    table: str, metric: str, before: float, after: float, times: float | None
) -> None:
    sides = [Measurement(table, "image", "trt", "fp8", None, metric, value) for value in (before, after)]
    assert times_worse(*sides) == (None if times is None else pytest.approx(times))
    assert is_aim(sides[0]) is (times is not None)


@pytest.mark.parametrize(("reach", "times"), [(0.02, 0.0), (0.005, 2.5)])
def test_what_lies_in_both_intervals_is_no_change(reach: float, times: float) -> None:
    about = ("accuracy", "both", "trt", "fp8", None, "top1")
    before, after = (Measurement(*about, value, value - reach, value + reach) for value in (0.75, 0.74))
    assert times_worse(before, after) == pytest.approx(times)


def test_sentences() -> None:
    text = sentence(Finding("size of image fp8 onnx", 2e6, 1e6, 1.01e6, "bytes", "regression", 10))
    assert text == "size of image fp8 onnx: 2.00 MB, regression: typically 1.00 MB, at most 1.01 MB (10 releases)"
    text = sentence(Finding("cosine", 0.99, 0.999, 0.998, "", "regression", 8))
    assert text == "cosine: 0.99, regression: typically 0.999, at least 0.998 (8 releases)"
