"""ViT-L/14 from checkpoint to ONNX: the published recipe, clipsmith, and clipsmith with a skeleton from before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tasks.quantizing.recipe import builtin_names, load_recipe
from tests.benchmarks.measure import Cost, Series, run_child
from tests.benchmarks.models import OURS, Model, model_in
from tests.benchmarks.recipe_env import ensure_recipe_python

ENCODERS = ("image", "text")
FORMATS = ("fp16", "fp8")
"""What every run of ours writes, for both encoders. The published recipe writes FP8 alone."""
SIZED_RECIPES = tuple(name for name in ("fp8-compact",) if name in builtin_names())
"""Recipes whose files are only weighed."""


class ExportCost:
    """One model, prepared once and exported many times.

    Every run writes into the folder `out`, which is emptied before it.
    """

    def __init__(self, work: Path, *, with_recipe: bool) -> None:
        self.model: Model = model_in(work, "l14")
        self.out = work / "out"
        self.skeletons = work / "skeletons"
        self.checkpoint = work / "modelopt"
        self.table = work / "amax.json"
        self.sizes: dict[str, int] = {}
        self.recipe_python = ensure_recipe_python() if with_recipe else None
        amax = json.loads(self.model.amax.read_text())
        if self.recipe_python is not None:
            amax |= self._prepare_recipe(self.recipe_python)
        self.table.write_text(json.dumps(amax))
        self._empty(self.skeletons)
        run_child(OURS, "save_skeletons", self.model.folder, self.skeletons)

    def _prepare_recipe(self, python: Path) -> dict[str, float]:
        """Make the quantized checkpoint; return what was calibrated."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        config, calibrated = self.table.with_name("recipe.json"), self.table.with_name("calibrated.json")
        config.write_text(json.dumps(load_recipe("fp8").modelopt_config()))
        run_child(python, "prepare_recipe", self.model.folder, config, self.checkpoint, calibrated)
        values: dict[str, float] = json.loads(calibrated.read_text())
        return values

    def published_recipe(self) -> Cost:
        """Two FP8 files, a process for each encoder."""
        assert self.recipe_python is not None
        costs = []
        for encoder in ENCODERS:
            self._empty(self.out)
            costs.append(run_child(self.recipe_python, "export_recipe", self.checkpoint, encoder, self.out))
            self.sizes[f"{encoder} fp8, published recipe"] = _bytes(self.out, encoder)
        return costs[0].then(costs[1])

    def clipsmith(self) -> Cost:
        """Four files from checkpoint and amax table."""
        self._empty(self.out)
        names = (",".join(ENCODERS), ",".join(FORMATS))
        cost = run_child(OURS, "export_clipsmith", self.model.folder, self.table, self.out, *names)
        self._weigh(FORMATS)
        return cost

    def kept_skeleton(self) -> Cost:
        """The same four files without tracing."""
        return self._from_skeletons(FORMATS)

    def weigh_other_recipes(self) -> None:
        """Write what is compared by size alone."""
        self._from_skeletons((*FORMATS, *SIZED_RECIPES))

    def _from_skeletons(self, formats: tuple[str, ...]) -> Cost:
        self._empty(self.out)
        names = ",".join(formats)
        cost = run_child(OURS, "export_kept", self.skeletons, self.model.folder, self.table, self.out, names)
        self._weigh(formats)
        return cost

    def _weigh(self, formats: tuple[str, ...]) -> None:
        for encoder in ENCODERS:
            for name in formats:
                self.sizes[f"{encoder} {name}"] = _bytes(self.out, f"{encoder}.{name}")

    @staticmethod
    def _empty(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()

    def clean_up(self) -> None:
        """Remove everything but the plain checkpoint."""
        for folder in (self.out, self.skeletons, self.checkpoint):
            shutil.rmtree(folder, ignore_errors=True)


def _bytes(folder: Path, stem: str) -> int:
    """An ONNX file and its external data."""
    return sum(path.stat().st_size for path in folder.glob(f"{stem}.onnx*"))


def interleave(plan: dict[str, tuple[int, Callable[[], Cost]]], say: Callable[[str], None]) -> dict[str, Series]:
    """Run every entry as often as it says, in turns, so that all see the same machine."""
    costs: dict[str, list[Cost]] = {name: [] for name in plan}
    for turn in range(max((count for count, _ in plan.values()), default=0)):
        for name, (count, run) in plan.items():
            if turn < count:
                cost = run()
                costs[name].append(cost)
                spent = f"{cost.wall_s:.1f} s, {cost.peak_mb:,.0f} MB"
                say(f"{name}, run {turn + 1} of {count}: {spent}, other work on {cost.elsewhere:.1f} cores")
    return {name: Series(runs) for name, runs in costs.items()}
