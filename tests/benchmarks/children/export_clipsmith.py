"""Clipsmith's export, trace, quantize and stream: `python -m ... MODEL AMAX OUT ENCODERS FORMATS`.

ENCODERS and FORMATS are lists, by commas. One encoder's files are written while the next is traced: tracing is Python,
writing is NumPy, which lets go of the interpreter.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tasks.clip.base import ENCODERS
from tasks.families import family_named
from tasks.graph.replicate import trace_by_block
from tests.benchmarks.children.report import report
from tests.benchmarks.children.write_files import weights_of, write_files


def main() -> None:
    folder, table, out = map(Path, sys.argv[1:4])
    wanted, formats = (argument.split(",") for argument in sys.argv[4:6])
    config, amax = (json.loads(path.read_text()) for path in (folder / "config.json", table))
    reader = weights_of(folder)
    with ThreadPoolExecutor(1) as writer:
        files = []
        for encoder in (encoder for encoder in ENCODERS if encoder in wanted):
            skeleton = trace_by_block(family_named("clip"), config, encoder)
            files.append(writer.submit(write_files, skeleton, reader, amax, formats, out / encoder))
        for written in files:
            written.result()
    assert "prefect" not in sys.modules
    report()


if __name__ == "__main__":
    main()
