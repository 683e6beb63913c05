"""The gate on FP8: verdicts, what is said of them, and that what nobody can see does not pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.bench import __main__ as command
from tasks.bench.gate import is_rejected, judge
from tasks.bench.proof import by_hand_section, gate_section, rejected
from tasks.bench.report import BenchReport, BenchRow, Machine, markdown

NO_GPU = Machine(None, None, None, "3.12", "2.11", None)


def row(share: float | None, verdict: Any, target: str = "tensorrt", **more: Any) -> BenchRow:
    return BenchRow("image", "fp8", target, 8, "measured", 1.0, fp8_gemm_share=share, fp8_verdict=verdict, **more)


@pytest.mark.parametrize(
    ("precision", "share", "verdict"),
    [
        ("fp8", 1.0, "passed"),
        ("fp8", 0.9, "passed"),
        ("fp8", 0.8999, "failed"),
        ("fp8", 0.0, "failed"),
        ("fp8", None, "unverifiable"),
        ("fp16", 0.0, None),
        ("fp16", None, None),
    ],
)
def test_verdicts(precision: str, share: float | None, verdict: str | None) -> None:
    assert judge(precision, share, 0.9) == verdict
    assert is_rejected(judge(precision, share, 0.9)) == (verdict in ("failed", "unverifiable"))


def test_the_report_names_the_rows_that_are_rejected() -> None:
    rows = [
        row(0.95, "passed"),
        row(0.42, "failed", "trtrtx"),
        row(None, "unverifiable"),
        BenchRow(*"abc", 1, "not run"),
    ]
    report = BenchReport("f", NO_GPU, "c", rows, min_fp8_share=0.9)
    assert rejected(rows) == rows[1:3]
    said = list(gate_section(report))
    assert said[0] == "## Gate: 90% of the matrix products in FP8"
    assert "1 of 3 FP8 rows pass." in said
    assert "- image trtrtx fp8 at 8: failed, 42.0% of the matrix products in FP8, below 90%" in said
    assert "- image tensorrt fp8 at 8: unverifiable, nothing tells what ran in FP8" in said
    assert "## Gate" in markdown(report)
    assert json.loads(report.to_json())["rows"][1]["fp8_verdict"] == "failed"
    assert list(gate_section(BenchReport("f", NO_GPU, "c", rows[3:]))) == []


def test_commands_are_folded_and_named_once() -> None:
    rows = [row(1.0, "passed", build_command="build it", run_command=f"run it at {n}") for n in (1, 8)]
    said = "\n".join(by_hand_section(rows)).splitlines()
    assert [line for line in said if line.endswith(("it", "1", "8"))] == ["build it", "run it at 1", "run it at 8"]
    assert said[0].startswith("<details>") and "</details>" in said
    assert list(by_hand_section([row(1.0, "passed")])) == []


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("failed", 3), ("unverifiable", 3), (None, 0)])
def test_the_command_prints_the_report_and_exits_with_the_verdict(
    verdict: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []

    def bench(_: object, settings: Any, line: str) -> BenchReport:
        asked.append(settings.min_fp8_share)
        return BenchReport("f", NO_GPU, line, [row(0.5, verdict)], min_fp8_share=settings.min_fp8_share)

    monkeypatch.setattr(command, "bench", bench)
    assert command.main(["folder", "--min-fp8-share", "0.7"]) == code
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"][0]["fp8_verdict"] == verdict
    assert ("image tensorrt fp8 at 8" in printed.err) == (code == 3)
    assert asked == [0.7]


@pytest.mark.parametrize("share", ["-0.1", "1.1", "much"])
def test_a_share_is_between_0_and_1(share: str) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["folder", f"--min-fp8-share={share}"])
    assert caught.value.code == 2
