"""The time of each layer, FP8 beside FP16, as SVG: `python -m tasks.bench.layer_plot REPORT.json`.

It needs matplotlib, so a report can be drawn on another machine than the one it was measured on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from artifacts.inert import visible
from artifacts.report.canvas import FP_COLOURS, INK, drawing
from tasks.bench.layers import LayerRow

_LINE_HEIGHT = 0.16
"""Height of one layer in inches."""


def write_layer_plots(reports: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write one SVG per encoder, target and batch size of parsed JSON reports; none without matplotlib."""
    if find_spec("matplotlib") is None:
        return []
    paths = []
    for report in reports:
        rows = [LayerRow(**row) for row in report["layers"]]
        for (encoder, target, batch), group in groupby(rows, lambda row: (row.encoder, row.target, row.batch)):
            name = "-".join((report["folder"], encoder, target, f"batch{batch}", "layers"))
            paths.append(folder / f"{name.replace('/', '-')}.svg")
            paths[-1].write_text(layer_plot(list(group)), encoding="utf-8")
    return paths


def layer_plot(rows: Sequence[LayerRow]) -> str:
    """Two bars per layer, in microseconds; bars of layers that fell back are hatched."""
    about = rows[0]
    with drawing(1.0 + _LINE_HEIGHT * len(rows)) as ([[axes]], finish):
        for place, (precision, shift) in enumerate((("fp16", -0.2), ("fp8", 0.2))):
            for line, row in enumerate(rows):
                hatch = "/////" if precision == "fp8" and row.fell_back else None
                value = (row.fp16_us, row.fp8_us)[place] or 0.0
                axes.barh(line + shift, value, height=0.4, color=FP_COLOURS[precision], hatch=hatch, edgecolor="white")
        for line, row in enumerate(rows):
            if row.ratio is not None:
                longest = max(row.fp16_us or 0.0, row.fp8_us or 0.0)
                axes.text(longest, line, f" {row.ratio:.2f}x", va="center", color=INK, fontsize=5.5)
        axes.set_yticks(range(len(rows)), [visible(row.module) for row in rows], fontsize=5.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.06)
        axes.set_xlabel("microseconds")
        what = visible(f"{about.encoder}, {about.target}, batch {about.batch}")
        axes.set_title(f"{what}: FP16 grey, FP8 blue, fell back hatched")
        return finish()


def main(arguments: list[str] | None = None) -> int:
    """Write the plots beside the report, and print their paths."""
    parser = argparse.ArgumentParser(prog="python -m tasks.bench.layer_plot", description="Draw a bench's layers.")
    parser.add_argument("report", type=Path, help="JSON of clipsmith bench, python -m tasks.bench or tests.gpu")
    path = parser.parse_args(arguments).report
    document = json.loads(path.read_text(encoding="utf-8"))
    for made in write_layer_plots(document.get("reports", [document]), path.parent):
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
