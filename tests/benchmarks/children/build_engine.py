"""Build one engine in clipsmith's builder process and pass its cost on: `python -m ... ONNX ENGINE TARGET`."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.engines import BatchProfile
from tasks.engines.child import Job, build_in_child
from tests.benchmarks.children.report import report


def main() -> None:
    onnx, engine = map(Path, sys.argv[1:3])
    stats, _ = build_in_child(Job(onnx=onnx, engine=engine, target=sys.argv[3], profile=BatchProfile()))
    report(builder_wall_s=stats.wall_s, builder_peak_mb=stats.peak_rss_mb * 2**20 / 1e6)


if __name__ == "__main__":
    main()
