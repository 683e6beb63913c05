"""Clipsmith's export from kept skeletons, without torch: `python -m ... SKELETONS MODEL AMAX OUT FORMATS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tasks.graph.skeleton import Skeleton
from tests.benchmarks.children.report import report
from tests.benchmarks.children.write_files import weights_of, write_files


def main() -> None:
    skeletons, folder, table, out = map(Path, sys.argv[1:5])
    amax, reader = json.loads(table.read_text()), weights_of(folder)
    for encoder in ("image", "text"):
        skeleton = Skeleton.load(skeletons / f"{encoder}.skeleton")
        write_files(skeleton, reader, amax, sys.argv[5].split(","), out / encoder)
    assert not {"torch", "transformers", "prefect"} & sys.modules.keys()
    report()


if __name__ == "__main__":
    main()
