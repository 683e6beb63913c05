"""The results as tables, for the terminal and as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import Series
from tests.benchmarks.scaling import Scale
from tests.benchmarks.targets import Target, change, judge

_QUIET = 0.2
"""Cores that may be busy with other work before wall times are called into question."""


@dataclass
class Results:
    """Everything that one run of the benchmark found; parts that were not asked for are empty."""

    machine: dict[str, Any]
    series: dict[str, Series] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    scales: list[Scale] = field(default_factory=list)

    @property
    def targets(self) -> list[Target]:
        """Promises and whether they were kept."""
        return judge(self.series, self.sizes, self.scales)

    def as_json(self) -> str:
        """All of it, every single run included."""
        document = asdict(self) | {"targets": [asdict(target) | {"met": target.met} for target in self.targets]}
        return json.dumps(document, indent=2) + "\n"


@dataclass(frozen=True)
class _Grid:
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def rich(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        rule = ["---", *("---:" for _ in self.columns[1:])]
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, rule, *self.rows)]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


def show(results: Results, console: Console) -> None:
    """Print the tables."""
    for grid in _grids(results):
        console.print(grid.rich())
    if any(runs.elsewhere > _QUIET for runs in results.series.values()):
        console.print("Other processes were at work: do not trust the wall times, run it again on a quiet machine.")


def markdown(results: Results) -> str:
    """The tables, and the machine they were measured on."""
    machine = results.machine
    ours, recipe = (
        ", ".join(f"{name} {version}" for name, version in machine[key].items())
        for key in ("versions", "recipe_versions")
    )
    about = (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB. "
        f"Python {machine['python']}, {ours}. "
        f"The recipe's environment: {recipe}.\n\n"
        "Whole processes, from start to exit, imports included. Memory is the process's own peak (VmHWM); "
        "1 MB is 10^6 bytes. Random weights. `other work` is the most cores that other processes kept busy during a "
        "run; unless it is about 0, wall times say little.\n"
    )
    return "\n".join(["# Cost of the ONNX export\n", about, *(grid.markdown() for grid in _grids(results))])


def _grids(results: Results) -> list[_Grid]:
    scales = results.scales
    grids = (
        _costs(results.series),
        _files(results.sizes),
        _growth(scales),
        _engines(scales),
        _verdicts(results.targets),
    )
    return [grid for grid in grids if grid.rows]


_HEADS = ("wall [s]", "CPU [s]", "peak [MB]")


def _costs(series: Mapping[str, Series]) -> _Grid:
    written = {"published recipe": "2 (FP8)"}
    rows = [
        (
            name,
            written.get(name, "4"),
            str(len(runs.costs)),
            _spread(runs, "wall_s", "{:.1f}"),
            _spread(runs, "cpu_s", "{:.1f}"),
            _spread(runs, "peak_mb", "{:,.0f}"),
            f"{runs.elsewhere:.1f}",
        )
        for name, runs in series.items()
    ]
    return _Grid("ViT-L/14, checkpoint to ONNX: median (min - max)", ("", "files", "runs", *_HEADS, "other work"), rows)


def _spread(runs: Series, quantity: str, pattern: str) -> str:
    low, high = (pattern.format(value) for value in runs.range_of(quantity))
    median = pattern.format(getattr(runs, quantity))
    return median if len(runs.costs) == 1 else f"{median} ({low} - {high})"


def _files(sizes: Mapping[str, int]) -> _Grid:
    rows = []
    for key, size in sorted(sizes.items()):
        encoder, _, name = key.partition(" ")
        known = f"{encoder} fp16" in sizes and name != "fp16"
        rows.append((key, f"{size / 1e6:.1f}", f"{change(sizes, encoder, name):+.1f} %" if known else ""))
    return _Grid("ViT-L/14, ONNX files", ("", "size [MB]", "against FP16"), rows)


def _growth(scales: list[Scale]) -> _Grid:
    rows = [
        (
            scale.label,
            f"{scale.parameters / 1e6:,.0f}",
            scale.stored,
            f"{scale.cost.wall_s:.1f}",
            f"{scale.cost.cpu_s:.1f}",
            f"{scale.cost.peak_mb:,.0f}",
            f"{scale.size / 1e6:,.1f}",
        )
        for scale in scales
    ]
    title = "Image encoder alone, checkpoint to FP8 ONNX (true weight amax, made-up activation amax)"
    return _Grid(title, ("", "weights [M]", "stored", *_HEADS, "file [MB]"), rows)


def _engines(scales: list[Scale]) -> _Grid:
    rows = [
        (
            f"{scale.label}, {engine.target}",
            f"{engine.wall_s:.1f}",
            f"{engine.peak_mb:,.0f}",
            f"{engine.size / 1e6:,.1f}",
        )
        for scale in scales
        if (engine := scale.engine) is not None
    ]
    return _Grid("TensorRT-RTX engine of that file", ("", "wall [s]", "peak [MB]", "engine [MB]"), rows)


def _verdicts(targets: list[Target]) -> _Grid:
    patterns = {"ratio": "{:.3f}", "%": "{:+.2f} %", "MB": "{:,.0f} MB"}
    rows = [
        (
            target.name,
            patterns[target.unit].format(target.value),
            f"<= {patterns[target.unit].format(target.limit)}",
            "met" if target.met else "MISSED",
        )
        for target in targets
    ]
    return _Grid("Targets", ("", "measured", "target", ""), rows)
