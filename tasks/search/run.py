"""One search on prepared encoders: measure every unit, then evaluate the recipes that the planner asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.gates import Gates, judge
from artifacts.manifest import Encoder, Row
from artifacts.refs import digest_json
from tasks.bench.onnx_graph import OnnxGraph
from tasks.bench.roofline import count_products
from tasks.bench.torch_graph import load
from tasks.progress import progress
from tasks.recipe import Recipe
from tasks.search.choice import Choice
from tasks.search.evaluation import EncoderGraph
from tasks.search.journal import Journal
from tasks.search.plan import Planner, Trial, fidelity_of
from tasks.search.sensitivity import Sensitivity, measure
from tasks.search.units import Unit, units_of
from tasks.search.variants import Variants

if TYPE_CHECKING:
    import torch

_KIND = "evaluation"
Batches = Sequence[Sequence["torch.Tensor"]]
"""Inputs of an encoder in the order of its graph, pixels in FP32, batch by batch."""


@dataclass(frozen=True)
class Measured:
    """What each unit costs by itself, and the operations of one picture and one text through both encoders."""

    sensitivities: tuple[Sensitivity, ...]
    flops: int

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(found.unit for found in self.sensitivities)

    def share(self, excluded: frozenset[Unit]) -> float:
        """How much of the operations is in FP8; products that no recipe quantizes count as not."""
        return sum(unit.flops for unit in self.units if unit not in excluded) / self.flops


def measure_all(
    graphs: Mapping[Encoder, EncoderGraph], recipe: Recipe, batches: Callable[[Encoder], Batches], journal: Journal
) -> Measured:
    """The sensitivity of every unit of the recipe, an encoder after the other."""
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


def find(
    measured: Measured,
    rows_of: Callable[[Choice], list[Row]],
    gates: Gates,
    budget: int,
    journal: Journal,
) -> Planner:
    """A planner that has run; `rows_of` gives the accuracy table of a choice.

    Evaluations are taken from the journal where it has them, and count against the budget all the same: a search that
    was killed takes the way that it would have taken.
    """
    wanted = gates.gates()
    with progress("clipsmith-progress-search", budget, "recipe", "evaluate recipes") as advance:

        def evaluate(choice: Choice) -> Trial:
            key = digest_json(choice.names())
            rows = journal.get(_KIND, key)
            if rows is None:
                rows = rows_of(choice)
                journal.put(_KIND, key, rows)
            advance(1)
            share = measured.share(choice.excluded)
            return Trial(choice, share, fidelity_of(rows), judge(wanted, {"accuracy": rows}))

        planner = Planner(measured.sensitivities, evaluate, budget)
        planner.run()
    return planner
