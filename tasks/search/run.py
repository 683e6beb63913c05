"""One search on prepared encoders: measure every unit, then evaluate the recipes that the planner chooses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.manifest import Encoder, Row
from artifacts.refs import digest_json
from artifacts.release.gates import Gates, judge
from tasks.bench.roofline import count_products
from tasks.quantizing.recipe import Recipe
from tasks.runs.progress import progress
from tasks.search.auto_quantize import AutoQuantize, bisect
from tasks.search.choice import Choice
from tasks.search.evaluation import EncoderGraph
from tasks.search.journal import Journal
from tasks.search.plan import Planner, Trial, fidelity_of
from tasks.search.sensitivity import Sensitivity, measure
from tasks.search.units import Unit, units_of
from tasks.search.variants import Variants
from tasks.torch_fp8.onnx_graph import OnnxGraph
from tasks.torch_fp8.torch_graph import load

if TYPE_CHECKING:
    import torch

_KIND = "evaluation"
Batches = Sequence[Sequence["torch.Tensor"]]
"""An encoder's inputs, batch by batch, in the order of its graph, with pixels in FP32."""


@dataclass(frozen=True)
class Measured:
    """The sensitivity of each unit, and the number of operations for one picture and one text in both encoders."""

    sensitivities: tuple[Sensitivity, ...]
    flops: int

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(found.unit for found in self.sensitivities)

    def share(self, excluded: frozenset[Unit]) -> float:
        """The share of operations in FP8; products that no recipe can quantize count as not in FP8."""
        return sum(unit.flops for unit in self.units if unit not in excluded) / self.flops


def measure_all(
    graphs: Mapping[Encoder, EncoderGraph], recipe: Recipe, batches: Callable[[Encoder], Batches], journal: Journal
) -> Measured:
    """Measure the sensitivity of every unit of the recipe, one encoder after the other."""
    found: list[Sensitivity] = []
    flops = 0
    for encoder, graph in graphs.items():
        with tempfile.TemporaryDirectory(prefix="clipsmith-search-") as folder:
            path = Path(folder) / "fp16.onnx"
            graph.write(None, path)
            products = count_products(OnnxGraph.load(path), batch=1)
            variants = Variants(load(path, "cpu", fused=False))
        flops += sum(product.flops for product in products)
        units = units_of(graph.skeleton, recipe, graph.amax_of(recipe), products)
        inputs = batches(encoder)
        key, what = f"clipsmith-progress-sensitivity-{encoder}", f"sensitivity {encoder}"
        with progress(key, len(units) * len(inputs), "variant", what) as advance:
            found += measure(variants, units, inputs, journal, advance)
    return Measured(tuple(found), flops)


Evaluate = Callable[[Choice], Trial]


def evaluator(measured: Measured, rows_of: Callable[[Choice], list[Row]], gates: Gates, journal: Journal) -> Evaluate:
    """Holds a recipe to the gates; `rows_of` gives the accuracy table of a choice.

    Evaluations in the journal are not run again.
    """
    wanted = gates.gates()

    def evaluate(choice: Choice) -> Trial:
        key = digest_json(choice.names())
        rows = journal.get(_KIND, key)
        if rows is None:
            rows = rows_of(choice)
            journal.put(_KIND, key, rows)
        share = measured.share(choice.excluded)
        return Trial(choice, share, fidelity_of(rows), judge(wanted, {"accuracy": rows}))

    return evaluate


@contextmanager
def _counted(evaluate: Evaluate, budget: int, what: str) -> Iterator[Evaluate]:
    """The same function, showing progress."""
    with progress("clipsmith-progress-search", budget, "recipe", what) as advance:

        def counted(choice: Choice) -> Trial:
            trial = evaluate(choice)
            advance(1)
            return trial

        yield counted


def find(measured: Measured, evaluate: Evaluate, budget: int) -> Planner:
    """Run a planner and return it.

    Evaluations in the journal count against the budget too, so that a continued search takes the same steps as one that
    was not killed.
    """
    with _counted(evaluate, budget, "evaluate recipes") as counted:
        planner = Planner(measured.sensitivities, counted, budget)
        planner.run()
    return planner


def compare(auto_quantize: AutoQuantize, evaluate: Evaluate, budget: int) -> list[Trial]:
    """The trials of `auto_quantize` with the same gates and budget, in order."""
    with _counted(evaluate, budget, "evaluate auto_quantize") as counted:
        return bisect(auto_quantize.choice, counted, budget)
