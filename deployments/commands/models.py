"""The commands that describe a checkpoint before a run, and list the accepted families of models."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands import completing, panels
from deployments.commands.listing_command import ListingCommand
from deployments.commands.options import IMAGE_SIZE, MODEL, REVISION, JsonOption, answer
from deployments.printing import show_models
from deployments.server.environment import garbage_left, quiet_libraries

app = typer.Typer()


@app.command(rich_help_panel=panels.MAKE, cls=ListingCommand)
def check(
    model: Annotated[str, typer.Argument(help=f"{MODEL} Families: {{families}}.")],
    revision: Annotated[str | None, typer.Option(help=REVISION)] = None,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="HEIGHT WIDTH", help=IMAGE_SIZE),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="What becomes FP8: a built-in recipe ({recipes}), or a YAML file.", autocompletion=completing.recipes
        ),
    ] = "fp8",
    as_json: JsonOption = False,
) -> None:
    """Describe a checkpoint in seconds and say what would become FP8, or why it is refused. It reads no weights."""
    with garbage_left():  # transformers imports a model's class only when it is asked for, in `outline`
        quiet_libraries()
        from tasks.pipeline.outline import outline
        from tasks.quantizing.recipe import load_recipe

        found = outline(model, revision, image_size, load_recipe(recipe))
    answer(as_json, found.model_dump(mode="json"), show_models.print_outline, found)


@app.command(rich_help_panel=panels.MAKE)
def models(as_json: JsonOption = False) -> None:
    """List the families of models that clipsmith accepts, with published models of each."""
    from tasks.families import FAMILIES

    rows = [
        {"family": each.name, "covers": each.covers, "held_to": each.oracle, "for_example": list(each.known)}
        for each in FAMILIES
    ]
    answer(as_json, {"families": rows}, show_models.print_families, FAMILIES)
