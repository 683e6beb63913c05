"""`python -m tests.gpu` where there is no GPU: the whole table, each row with its reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tasks.bench.machine import why_no_gpu
from tests.gpu.command import main


def test_without_a_gpu_the_table_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = why_no_gpu()
    if reason is None:
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(
        sys,
        "argv",
        ["tests.gpu", "--parts", "latency", "--models", "l14,b32", "--batch", "8,1", "--out", str(tmp_path)],
    )
    main()
    reports = json.loads((tmp_path / "bench-gpu.json").read_text())["reports"]
    assert [report["folder"] for report in reports] == ["ViT-L-14", "ViT-B-32"]
    for report in reports:
        rows = {(row["encoder"], row["target"], row["precision"], row["batch"]) for row in report["rows"]}
        assert len(rows) == len(report["rows"]) == 2 * 2 * (1 + 3 * 2)
        assert {row["note"] for row in report["rows"]} == {reason}
    assert capsys.readouterr().out.count(reason) == 2 * len(reports[0]["rows"])
