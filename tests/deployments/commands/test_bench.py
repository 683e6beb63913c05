"""`clipsmith bench`: without a GPU, reasons; with one, the release that is named, in its turn (the device replaced)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from artifacts.store.store import Store, active_store
from deployments.cli import app
from tasks.bench import machine, run
from tasks.bench.report import BenchReport, BenchRow, Machine
from tasks.bench.settings import BenchSettings
from tasks.device import device_turn
from tasks.engines.caches import cache_folder
from tests.deployments.conftest import Call

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
H100 = Machine("NVIDIA H100", "sm90", "580", "3.12", "2.11", "13.0")


@without_gpu
def test_without_a_gpu_every_row_has_its_reason(clipsmith: Callable[..., Any], tmp_path: Path) -> None:
    done = clipsmith("bench", "demo", "--batch", "1,8", "--json", "--store", tmp_path / "none")
    assert done.code == 0, done.err
    rows = done.document["rows"]
    wanted = {("torch-eager", "fp16"), ("torch-compile", "fp16")}
    wanted |= {(target, p) for target in ("tensorrt", "trtrtx", "torch-fp8") for p in ("fp16", "fp8")}
    assert {(row["target"], row["precision"]) for row in rows} == wanted
    assert {(row["encoder"], row["batch"]) for row in rows} == {(e, b) for e in ("image", "text") for b in (1, 8)}
    assert len(rows) == 4 * len(wanted)
    assert {(row["status"], row["note"], row["median_ms"]) for row in rows} == {
        ("not run", "no CUDA device is visible to PyTorch", None)
    }
    assert not (tmp_path / "none").exists()


@without_gpu
def test_people_read_each_reason_once(call: Call) -> None:
    code, out, err = call("bench", "demo", "--batch", "1,8", "--baselines", "", "--targets", "torch-fp8")
    assert code == 0, err
    assert out.count("no CUDA device") == 1
    assert "image torch-fp8: fp16 at 1, fp8 at 1, fp16 at 8, fp8 at 8" in out


@pytest.mark.parametrize("sizes", ["", "0", "1,x", "-1", "1.5"])
def test_batch_sizes_that_are_none(call: Call, sizes: str) -> None:
    code, _, err = call("bench", "demo", "--batch", sizes)
    assert code == 2
    assert "is no list of batch sizes" in err


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens in which order, where a GPU seems to be."""
    happened: list[Any] = []

    @contextmanager
    def turn(key: str) -> Iterator[None]:
        happened.append(("turn", key))
        yield
        happened.append("end of the turn")

    def measure(folder: Path, settings: BenchSettings, command: str) -> BenchReport:
        assert (folder / "evaluation.npz").is_file(), "so that accuracy is measured too"
        happened.append((folder.name, sorted(path.name for path in (folder / "image").glob("*.onnx")), settings))
        assert cache_folder() == active_store().root / "cache", "what TensorRT finds out is kept in the store"
        rows = [BenchRow("image", "fp8", "torch-fp8", 128, "measured", 28.9, 29.5, 29.7, 4427.0, speedup=1.652)]
        rows[0] = BenchRow(**vars(rows[0]) | {"speedup_low": 1.631, "speedup_high": 1.677, "limit_share": 0.67})
        return BenchReport(folder.name, H100, command, rows)

    monkeypatch.setattr(machine, "why_no_gpu", lambda: None)
    monkeypatch.setattr(run, "bench", measure)
    monkeypatch.setattr(device_turn, "device_turn", turn)
    return happened


def test_a_release_is_timed_in_its_turn(benched: list[Any], demo_store: Path) -> None:
    release = Store.open(demo_store, writable=False).find("demo")
    done = CliRunner().invoke(
        app, ["bench", "demo", "--batch", "128", "--targets", "torch-fp8", "--store", str(demo_store)]
    )
    assert done.exit_code == 0, done.output
    assert benched == [
        ("turn", "cpu"),
        (release.ref, ["fp16.onnx", "fp8.onnx"], BenchSettings(batches=(128,), targets=("torch-fp8",))),
        "end of the turn",
    ]
    assert "NVIDIA H100 (sm90), driver 580, CUDA 13.0, PyTorch 2.11, Python 3.12" in done.output
    line = next(" ".join(line.split()) for line in done.output.splitlines() if line.startswith("image"))
    assert line == "image 128 torch-fp8 fp8 28.900 29.500 29.700 4,427 1.65x (1.63 to 1.68) 67%"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("share", "verdict", "code"), [(0.95, "passed", 0), (0.4, "failed", 3), (None, "unverifiable", 3)]
)
def test_a_gate_that_fails_is_exit_3_after_the_report(
    share: float | None, verdict: Any, code: int, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(model: str, settings: BenchSettings, command: str, _: Path | None) -> BenchReport:
        row = BenchRow("image", "fp8", "tensorrt", 8, "measured", 1.0, fp8_gemm_share=share, fp8_verdict=verdict)
        return BenchReport(model, H100, command, [row], min_fp8_share=settings.min_fp8_share)

    monkeypatch.setattr(machine, "why_no_gpu", lambda: None)
    monkeypatch.setattr("deployments.commands.bench._measure", measure)
    done = CliRunner().invoke(app, ["bench", "demo", "--min-fp8-share", "0.5", *(["--json"] if as_json else [])])
    assert done.exit_code == code, done.output
    if as_json:
        assert json.loads(done.stdout)["rows"][0]["fp8_verdict"] == verdict
    else:
        said = " ".join(done.output.split())
        assert ("gate: image tensorrt fp8 at 8: " in said) == (code == 3)
        assert ("below 50%" in said) == (verdict == "failed")


def test_a_release_that_is_not_there_is_an_error(benched: list[Any], demo_store: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "demo:nobody", "--store", str(demo_store)])
    assert done.exit_code != 0
    assert "nobody" in str(done.exception)
    assert benched == []
