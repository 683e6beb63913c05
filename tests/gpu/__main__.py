"""`make bench-gpu`: the headline table on this machine's GPU, as one Markdown and one JSON file.

Encoders of real sizes with random weights are made here (`tests.gpu.exports`) and timed by `tasks.bench`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tasks.bench.gpu_timing import TimingSettings
from tasks.bench.machine import why_no_gpu
from tasks.bench.report import BenchReport, markdown
from tasks.bench.run import bench
from tasks.bench.settings import BenchSettings
from tests.benchmarks.architectures import ARCHITECTURES
from tests.gpu.exports import make_export

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    """Time each architecture until the time is up, and write what there is after each."""
    options = _options()
    end = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    reports: list[BenchReport] = []
    with tempfile.TemporaryDirectory(prefix="clipsmith-gpu-") as work:
        for name in options.models.split(","):
            label = ARCHITECTURES[name].label
            folder = Path(work) / label.replace("/", "-")
            if why_no_gpu() is None and time.monotonic() < end:
                make_export(folder, ARCHITECTURES[name], options.skeletons, "cuda")
            settings = BenchSettings(
                batches=tuple(int(batch) for batch in options.batch.split(",")),
                baselines=tuple(filter(None, options.baselines.split(","))),
                timing=TimingSettings(seconds=options.batch_seconds),
                seconds=max(0.0, end - time.monotonic()),
            )
            command = f"python -m tests.gpu --models {name} --batch {options.batch}"
            reports.append(bench(folder, settings, command, lambda report: _write(options.out, [*reports, report])))
            _write(options.out, reports)
    print((options.out / "bench-gpu.md").read_text())


def _write(folder: Path, reports: list[BenchReport]) -> None:
    (folder / "bench-gpu.json").write_text(json.dumps([asdict(report) for report in reports], indent=1))
    (folder / "bench-gpu.md").write_text("\n".join(markdown(report) for report in reports))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="l14,b32", help=f"by commas, of {','.join(ARCHITECTURES)} (%(default)s)")
    parser.add_argument("--batch", default="128,32,8,1", help="batch sizes, by commas (%(default)s)")
    parser.add_argument("--baselines", default="torch-eager,torch-compile", help="by commas (%(default)s)")
    parser.add_argument("--seconds", type=float, default=480, help="begin nothing after so many (%(default)s)")
    parser.add_argument("--batch-seconds", type=float, default=6, help="of rounds for each batch (%(default)s)")
    parser.add_argument("--skeletons", type=Path, default=ROOT / ".clipsmith" / "gpu" / "skeletons")
    parser.add_argument("--out", type=Path, default=ROOT / ".clipsmith" / "bench-gpu", help="folder (%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
