"""Trace both encoders and keep their skeletons, as an earlier run would have: `python -m ... MODEL OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tasks.families import family_named
from tasks.graph.replicate import trace_by_block
from tests.benchmarks.children.report import report


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    config = json.loads((folder / "config.json").read_text())
    for encoder in ("image", "text"):
        trace_by_block(family_named("clip"), config, encoder).save(out / f"{encoder}.skeleton")
    report()


if __name__ == "__main__":
    main()
