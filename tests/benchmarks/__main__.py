"""`make bench`: what exporting to ONNX costs, against the published recipe and as models grow. Not a test.

Exits with 1 when a target was missed (`targets.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.benchmarks.architectures import ARCHITECTURES
from tests.benchmarks.export_cost import ExportCost, interleave
from tests.benchmarks.machine import describe
from tests.benchmarks.measure import ROOT
from tests.benchmarks.scaling import measure_scale
from tests.benchmarks.tables import Results, markdown, show

PARTS = ("recipe", "clipsmith", "kept", "sizes", "scaling")


def _names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        wanted = text.split(",")
        if strangers := set(wanted) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(strangers))}: not one of {', '.join(known)}")
        return [name for name in known if name in wanted]

    return parse


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=_names(PARTS), default=list(PARTS), help=f"parts, by commas: {','.join(PARTS)}")
    models = tuple(ARCHITECTURES)
    parser.add_argument("--models", type=_names(models), default=list(models), help=f"of scaling: {','.join(models)}")
    parser.add_argument("--repeat", type=int, default=3, help="runs of clipsmith's children (%(default)s)")
    parser.add_argument("--recipe-repeat", type=int, default=1, help="runs of the published recipe (%(default)s)")
    parser.add_argument("--work", type=Path, help="folder for models and files, 8 GB; default: a temporary one")
    parser.add_argument("--out", type=Path, default=ROOT / ".clipsmith" / "bench", help="folder for the results")
    return parser.parse_args()


def _measure(options: argparse.Namespace, work: Path, console: Console) -> Results:
    results = Results(describe())
    if set(options.only) - {"scaling"}:
        console.print("preparing ViT-L/14")
        export = ExportCost(work, with_recipe="recipe" in options.only)
        plan = {
            "recipe": ("published recipe", options.recipe_repeat, export.published_recipe),
            "clipsmith": ("clipsmith", options.repeat, export.clipsmith),
            "kept": ("kept skeleton", options.repeat, export.kept_skeleton),
        }
        wanted = {name: (count, run) for part, (name, count, run) in plan.items() if part in options.only}
        results.series = interleave(wanted, console.print)
        if "sizes" in options.only:
            export.weigh_other_recipes()
        results.sizes = export.sizes
        export.clean_up()
    if "scaling" in options.only:
        for name in options.models:
            console.print(f"measuring {ARCHITECTURES[name].label}")
            results.scales.append(measure_scale(work, name))
    return results


def main() -> int:
    """Measure, print and write; the exit code."""
    options, console = _options(), Console()
    if options.work is None:
        with tempfile.TemporaryDirectory(prefix="clipsmith-bench-") as name:
            results = _measure(options, Path(name), console)
    else:
        options.work.mkdir(parents=True, exist_ok=True)
        results = _measure(options, options.work.resolve(), console)
    show(results, console)
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"export-{results.machine['date'][:19].replace(':', '')}"
    for suffix, text in ((".md", markdown(results)), (".json", results.as_json())):
        path = stem.with_suffix(suffix)
        path.write_text(text)
        console.print(f"written: {path}", soft_wrap=True)
    return 0 if all(target.met for target in results.targets) else 1


if __name__ == "__main__":
    sys.exit(main())
