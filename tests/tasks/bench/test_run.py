"""The bench without a GPU: valid JSON with reasons; and its whole course with the device's calls replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.bench.gpu_timing import TimingSettings
from tasks.bench.report import markdown
from tasks.bench.run import bench
from tasks.bench.settings import BenchSettings
from tasks.device.gpu_state import GpuState
from tests.processes import own_environment

ROOT = Path(__file__).parents[3]
FAST = TimingSettings(rounds=4, input_sets=2)
BLOCKED = ("prefect", "modelopt", "pydantic", "tenacity", "rich", "onnxruntime", "transformers", "tqdm", "polygraphy")


def test_without_a_gpu_every_row_says_why(export: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({BLOCKED!r})\n"  # None in sys.modules: an import of it fails
        "from tasks.bench.__main__ import main\n"
        f"sys.exit(main([{str(export)!r}, '--batch', '1,4', '--markdown', {str(tmp_path / 'out.md')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=own_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = {(r["encoder"], r["target"], r["precision"], r["batch"]) for r in report["rows"]}
    per_encoder = {("torch-eager", "fp16"), ("torch-compile", "fp16")}
    per_encoder |= {(target, p) for target in ("tensorrt", "trtrtx", "torch-fp8") for p in ("fp16", "fp8")}
    assert rows == {(e, *pair, b) for e in ("image", "text") for pair in per_encoder for b in (1, 4)}
    assert {r["status"] for r in report["rows"]} == {"not run"}
    assert all("no CUDA device" in r["note"] and r["median_ms"] is None for r in report["rows"])
    assert report["machine"]["gpu"] is None
    assert "no CUDA device" in (tmp_path / "out.md").read_text()


def test_every_module_loads_without_what_a_gpu_machine_lacks() -> None:
    names = sorted(f"tasks.bench.{path.stem}" for path in (ROOT / "tasks" / "bench").glob("*.py"))
    # Triton is optional, and who asks for engines has what they need.
    apart = ("__init__", "triton_kernels", "engine_evidence")
    names = [name for name in names if name.split(".")[-1] not in apart]
    code = f"import sys\nsys.modules |= dict.fromkeys({BLOCKED!r})\nimport {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own_environment(), check=True)


@pytest.mark.usefixtures("device")
def test_the_whole_course(export: Path) -> None:
    settings = BenchSettings((2, 3), ("torch-eager",), ("torch-fp8", "other"), FAST)
    report = bench(export, settings, "a command")
    text = json.loads(report.to_json())
    assert len(text["rows"]) == 2 * 2 * (1 + 2 + 2)
    rows = {(r.encoder, r.target, r.precision, r.batch): r for r in report.rows}
    fp8 = rows["image", "torch-fp8", "fp8", 3]
    assert (fp8.status, fp8.median_ms, fp8.speedup, fp8.speedup_low, fp8.throughput) == (
        "measured",
        1.0,
        2.0,
        2.0,
        3000,
    )
    assert fp8.cosine is not None and 0.99 < fp8.cosine < 1
    assert fp8.fp8_gemm_share == 0.75 and fp8.limit_share == fp8.limit_ms
    assert rows["image", "torch-fp8", "fp16", 3].speedup is None
    assert rows["text", "torch-eager", "fp16", 2].median_ms == 4.0
    assert rows["text", "other", "fp8", 2].status == "not run"
    assert {(item.encoder, item.batch) for item in report.evidence} == {("image", 3), ("text", 3)}
    lines = markdown(report).splitlines()
    table = [line for line in lines if line.startswith(("| image", "| encoder"))]
    assert {line.count("|") for line in table} == {19}
    assert any("2.000 (2.000 to 2.000)" in line for line in table)


def test_a_throttled_gpu_makes_no_speedup(export: Path, device: Any) -> None:
    device()[0] = GpuState(100, 900, 0x08)
    report = bench(export, BenchSettings((2,), (), ("torch-fp8",), FAST))
    assert {row.status for row in report.rows} == {"invalid"}
    assert all("throttled to 900 MHz" in (row.note or "") and row.speedup is None for row in report.rows)


@pytest.mark.usefixtures("device")
def test_what_the_time_does_not_allow_says_so(export: Path) -> None:
    report = bench(export, BenchSettings((2,), (), ("torch-fp8",), FAST, seconds=-1))
    assert {(row.status, row.note) for row in report.rows} == {("not run", "the time is up")}
