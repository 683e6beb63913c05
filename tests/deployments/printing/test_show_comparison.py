"""What `diff` prints: inputs, then what they did, the worst first; noise only on request."""

from __future__ import annotations

import pytest

from artifacts.release.comparison import Change, Comparison, MetricChange
from artifacts.release.measurements import Measurement
from deployments.printing.show_comparison import print_comparison


def number(metric: str, value: float, table: str = "accuracy", **more: float) -> Measurement:
    unit = {"latency": "ms", "sizes": "bytes", "stages": "s"}.get(table, "")
    unit = "fraction" if metric.startswith("top") else unit
    return Measurement(table, "image", "onnxruntime", "fp8", None, metric, value, **more, unit=unit)


def moved(metric: str, before: float, after: float, table: str = "accuracy", **more: float) -> MetricChange:
    return MetricChange(number(metric, before, table, **more), number(metric, after, table, **more))


FOUND = Comparison(
    "demo@1",
    "demo@2",
    {
        "packages": (Change("torch", "1", "2"),),
        "gates": (Change("max_top1_drop", "passed", "failed"),),
        "graph": (Change("image fp8 fc1 actual", "fp8", "fp16"), Change("image fp8 fc1 node", "a", "b")),
        "tables": (Change("latency: note", None, "busy"),),
        "files": (Change("report.html", {"sha256": "0" * 64, "size": 3}, {"sha256": "1" * 64, "size": 3}),),
    },
    (
        moved("cosine_mean", 0.999, 0.99899),
        moved("bytes", 100e6, 90e6, "sizes"),
        moved("top1", 0.75, 0.70),
        moved("top5", 0.90, 0.89, low=0.85, high=0.95),
        moved("batch 1 median_ms", 1.0, 1.5, "latency"),
        moved("wall_s", 10.0, 99.0, "stages"),
        moved("fc1 linear input_scale", 1.0, 2.0, "coverage"),
        MetricChange(None, number("batch 8 median_ms", 4.0, "latency")),
    ),
)


@pytest.fixture(autouse=True)
def paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def printed(capsys: pytest.CaptureFixture[str], found: Comparison, **options: bool) -> list[str]:
    print_comparison(found, **options)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_inputs_come_first_and_then_what_they_did_the_worst_first(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, FOUND)
    heads = [line for line in lines if line.split()[0] in ("packages", "gates", "graph", "numbers,", "files", "tables")]
    assert heads == ["packages", "gates", "graph", "numbers, the worst change first"]
    metrics = [line.split("onnxruntime ")[1] for line in lines if line.startswith("image, fp8, onnxruntime")]
    assert [line.split(" ")[0] for line in metrics] == ["top1", "batch", "bytes", "batch"]
    assert metrics[1].startswith("batch 1 median_ms 1.00 1.50 +50.0 %")
    assert lines[-1] == "left out: 7 differences of files, notes and noise (--all)"


def test_a_change_inside_both_intervals_is_noise_and_one_that_is_not_has_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    apart = MetricChange(number("top5", 0.90, low=0.89, high=0.91), number("top5", 0.80, low=0.79, high=0.81))
    text = " ".join(printed(capsys, Comparison("demo@1", "demo@2", {}, (apart,))))
    assert "what they were made from does not differ" in text
    assert "90.00 % (89.00 % to 91.00)" in text.replace("89.00 to", "89.00 % to") and "left out" not in text
    assert "top5" not in " ".join(printed(capsys, FOUND))


def test_everything_is_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, FOUND, everything=True))
    for words in ("report.html", "fc1 node", "latency: note", "cosine_mean", "wall_s", "scales", "top5"):
        assert words in text
    assert "left out" not in text


def test_equal_releases(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, Comparison("demo@1", "demo@1", {}, ()))[-1] == "nothing differs"


@pytest.mark.parametrize("columns", ["60", "80", "100"])
def test_nothing_is_wider_than_the_paper(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_comparison(FOUND)
    assert max(len(line.rstrip()) for line in capsys.readouterr().out.splitlines()) <= int(columns)
