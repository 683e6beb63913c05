"""A search's choice as rules of a recipe, and the recipe file, which `optimize` and the nightly run accept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from tasks.quantizing.recipe import Fp8, Recipe, Rule
from tasks.search.choice import Choice
from tasks.search.units import Unit


def chosen(recipe: Recipe, choice: Choice) -> Recipe:
    """The recipe with a search's choice applied."""
    return without(by_channel(recipe, choice.by_channel), choice.excluded)


def without(recipe: Recipe, units: Iterable[Unit]) -> Recipe:
    """The recipe with these units in FP16, by rules at its end that switch their quantizers off."""
    patterns = [pattern for unit in sorted(units, key=lambda unit: unit.module) for pattern in unit.quantizers]
    return _with_rules(recipe, [Rule(quantizer_name=pattern, enable=False) for pattern in patterns])


def by_channel(recipe: Recipe, units: Iterable[Unit]) -> Recipe:
    """The recipe with one weight scale per output channel for these linear layers."""
    each = Fp8(num_bits="e4m3", axis=0)
    names = [unit.weight_quantizer for unit in sorted(units, key=lambda unit: unit.module)]
    return _with_rules(recipe, [Rule(quantizer_name=name, parent_class="nn.Linear", cfg=each) for name in names])


def _with_rules(recipe: Recipe, rules: list[Rule]) -> Recipe:
    """The recipe with more rules at its end, where they override all others."""
    changed = recipe.quantize.model_copy(update={"quant_cfg": [*recipe.quantize.quant_cfg, *rules]})
    return recipe.model_copy(update={"quantize": changed})


def write_recipe(recipe: Recipe, path: Path, description: str) -> None:
    """Write a recipe in the layout of the built-in recipes, so that `load_recipe(str(path))` gives the same rules."""
    content = {
        "metadata": {"recipe_type": recipe.metadata.recipe_type, "description": description},
        "quantize": recipe.quantize.model_dump(mode="json", exclude_none=True),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=110), encoding="utf-8")
