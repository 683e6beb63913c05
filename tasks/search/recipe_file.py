"""Recipes with exclusions, and the file that a search leaves: `optimize` and the nightly run take it as any other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

from tasks.recipe import Recipe, Rule
from tasks.search.units import Unit


def without(recipe: Recipe, units: Iterable[Unit]) -> Recipe:
    """The recipe with these units in FP16: rules at its end switch their quantizers off."""
    rules = [
        Rule(quantizer_name=pattern, enable=False)
        for unit in sorted(units, key=lambda unit: unit.module)
        for pattern in unit.quantizers
    ]
    changed = recipe.quantize.model_copy(update={"quant_cfg": [*recipe.quantize.quant_cfg, *rules]})
    return recipe.model_copy(update={"quantize": changed})


def write_recipe(recipe: Recipe, path: Path, description: str) -> None:
    """Write it in the layout of the built-in recipes; `load_recipe(str(path))` gives back what it does."""
    content = {
        "metadata": {"recipe_type": recipe.metadata.recipe_type, "description": description},
        "quantize": recipe.quantize.model_dump(mode="json", exclude_none=True),
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=110), encoding="utf-8")
