"""`make bench-gpu`: what this machine's GPU gives, as one Markdown and one JSON file.

In this order, until the time is up, of which every architecture has its share: accuracy and the stability of its bits,
with the trained demo model; for each architecture, with random weights that are made here (`tests.gpu.exports`), the
throughput of calibration, and latency.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from artifacts.exit_codes import ExitCode
from tasks.bench import machine
from tasks.bench.gpu_timing import TimingSettings
from tasks.bench.layer_plot import write_layer_plots
from tasks.bench.proof import rejected
from tasks.bench.report import BenchReport, markdown
from tasks.bench.run import bench
from tasks.bench.settings import ENCODERS, BenchSettings
from tasks.torch_fp8.torch_graph import load
from tests.benchmarks.architectures import ARCHITECTURES
from tests.gpu.calibration import Throughput, throughput
from tests.gpu.exports import make_export, photographs

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / ".clipsmith" / "gpu"
PARTS = ("accuracy", "calibration", "latency")
_CALIBRATION_BATCH = 32
_CALIBRATION_SETS = 4


@dataclass
class Findings:
    """All of one run."""

    folder: Path
    reports: list[BenchReport] = field(default_factory=list)
    calibration: list[Throughput] = field(default_factory=list)

    def write(self, unfinished: BenchReport | None = None) -> None:
        """Write what there is so far."""
        reports = self.reports if unfinished is None else [*self.reports, unfinished]
        document = {
            "calibration": [asdict(item) | {"share": item.share} for item in self.calibration],
            "reports": [asdict(report) for report in reports],
        }
        (self.folder / "bench-gpu.json").write_text(json.dumps(document, indent=1, allow_nan=False))
        text = [*_calibration_lines(self.calibration), *map(markdown, reports)]
        (self.folder / "bench-gpu.md").write_text("\n".join(text))


def main() -> int:
    """Measure part by part, and write what there is after each; 3 where the gate rejects rows."""
    options = _options()
    end = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    found = Findings(options.out)
    if "accuracy" in options.parts:
        _accuracy(found, options, end)
    with _work(options.work) as work:
        for place, name in enumerate(options.models):
            now = time.monotonic()
            _architecture(found, options, name, work, now + (end - now) / (len(options.models) - place))
    found.write()
    write_layer_plots([asdict(report) for report in found.reports], options.out)
    print((options.out / "bench-gpu.md").read_text())
    return ExitCode.GATE if any(rejected(report.rows) for report in found.reports) else ExitCode.DONE


def _accuracy(found: Findings, options: argparse.Namespace, end: float) -> None:
    """The demo model's, which has been exported where clipsmith is installed: `python -m tests.gpu.demo`."""
    settings = BenchSettings(batches=(), baselines=(), seconds=end - time.monotonic())
    report = bench(options.demo, settings, "python -m tests.gpu --parts accuracy", found.write)
    report.unscored += filter(None, [machine.why_no_gpu()])
    found.reports.append(report)
    found.write()


def _architecture(found: Findings, options: argparse.Namespace, name: str, work: Path, end: float) -> None:
    label = ARCHITECTURES[name].label
    folder = work / label.replace("/", "-")
    if machine.why_no_gpu() is None and time.monotonic() < end:
        if not folder.exists():
            make_export(folder, ARCHITECTURES[name], options.skeletons, machine.DEVICE)
        if "calibration" in options.parts:
            found.calibration += _calibration(label, folder)
            found.write()
    if "latency" not in options.parts:
        return
    settings = BenchSettings(
        batches=options.batch,
        baselines=options.baselines,
        timing=TimingSettings(seconds=options.batch_seconds),
        seconds=max(0.0, end - time.monotonic()),
    )
    command = f"python -m tests.gpu --models {name} --batch {','.join(map(str, options.batch))}"
    found.reports.append(bench(folder, settings, command, found.write))
    found.write()


def _calibration(label: str, folder: Path) -> Iterator[Throughput]:
    """Of FP16 graphs called from PyTorch, as the maxima in front of the products are collected."""
    import torch

    for encoder in ENCODERS:
        loaded = load(folder / encoder / "fp16.onnx", machine.DEVICE)
        inputs = photographs(loaded.graph, _CALIBRATION_BATCH, machine.DEVICE)
        with torch.no_grad():
            yield throughput(label, encoder, loaded, [inputs] * _CALIBRATION_SETS, rounds=3)


def _calibration_lines(rows: list[Throughput]) -> Iterator[str]:
    if not rows:
        return
    yield "# Calibration: the largest magnitude in front of every product, FP16 graph in eager PyTorch"
    yield ""
    yield "| model | encoder | device | batch | samples/s | bare forward loop | share |"
    yield "|---" * 7 + "|"
    for row in rows:
        rates = f"{row.calibrating:,.1f} | {row.bare:,.1f} | {row.share:.0%}"
        yield f"| {row.model} | {row.encoder} | {row.device} | {row.batch} | {rates} |"
    yield ""


@contextmanager
def _work(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="clipsmith-gpu-") as work:
        yield Path(work)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    models = ",".join(ARCHITECTURES)
    parser.add_argument("--parts", type=_names, default=PARTS, help=f"of {','.join(PARTS)}, by commas (all)")
    parser.add_argument("--models", type=_names, default=("l14", "b32"), help=f"of {models}, by commas (l14,b32)")
    parser.add_argument("--batch", type=_numbers, default=(128, 32, 8, 1), help="batch sizes, by commas (128,32,8,1)")
    parser.add_argument("--baselines", type=_names, default=("torch-eager",), help="by commas (torch-eager)")
    parser.add_argument("--seconds", type=float, default=480, help="begin nothing after so many (%(default)s)")
    parser.add_argument("--batch-seconds", type=float, default=4, help="of rounds for each batch (%(default)s)")
    parser.add_argument("--skeletons", type=Path, default=KEPT / "skeletons", help="kept graphs without weights")
    parser.add_argument("--demo", type=Path, default=KEPT / "demo", help="what `python -m tests.gpu.demo` wrote")
    parser.add_argument("--work", type=Path, help="keep exported models in this folder, and use those that are there")
    parser.add_argument("--out", type=Path, default=ROOT / ".clipsmith" / "bench-gpu", help="folder (%(default)s)")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, _names(text)))
