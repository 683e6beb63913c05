"""Commands that list the names that parameters accept: engine targets, recipes, gates."""

from __future__ import annotations

from dataclasses import asdict

import typer

from deployments.commands import panels
from deployments.commands.options import JsonOption, answer
from deployments.printing import show_lists

app = typer.Typer()


@app.command(rich_help_panel=panels.LOOK)
def targets(as_json: JsonOption = False) -> None:
    """List the engine targets: what each is, and whether it is built and run here, or why not."""
    from tasks.engines.available import standings

    found = standings()
    rows = [asdict(each) | {"builds": each.builds, "runs": each.runs} for each in found]
    answer(as_json, {"targets": rows}, show_lists.print_targets, found)


@app.command(rich_help_panel=panels.LOOK)
def recipes(as_json: JsonOption = False) -> None:
    """List the built-in recipes: what becomes FP8."""
    from tasks.quantizing.recipe import BUILTIN, builtin_names, load_recipe

    found = [(load_recipe(name), BUILTIN / f"{name}.yaml") for name in builtin_names()]
    rows = [
        {"recipe": each.name, "about": each.metadata.description, "file": str(path), "digest": each.digest}
        for each, path in found
    ]
    told = [(each.name, each.metadata.description, path) for each, path in found]
    answer(as_json, {"recipes": rows}, show_lists.print_recipes, told)


@app.command(rich_help_panel=panels.LOOK)
def gates(as_json: JsonOption = False) -> None:
    """List the gates that a release can be held to: what each holds, its unit, its bound unless given, and its key."""
    from artifacts.report.gate_words import kinds

    found = kinds()
    answer(as_json, {"gates": [each._asdict() for each in found]}, show_lists.print_gate_kinds, found)
