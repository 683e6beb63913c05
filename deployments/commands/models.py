"""The commands that tell what a checkpoint is before anything is made of it, and which checkpoints go through."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands import panels
from deployments.commands.options import JsonOption, print_json
from deployments.printing import show_models
from deployments.server.environment import quiet_libraries

app = typer.Typer()


@app.command(rich_help_panel=panels.MAKE)
def check(
    model: Annotated[str, typer.Argument(help="As for optimize: a Hugging Face id, a local folder, or demo.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hugging Face model.")] = None,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="HEIGHT WIDTH", help="For a model that takes pictures of any size: SigLIP 2 NaFlex."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="What is to become FP8: a built-in recipe or a file.")] = "fp8",
    as_json: JsonOption = False,
) -> None:
    """Tell in seconds what a checkpoint is and what would be FP8, or why it is refused; no weights are read."""
    from tasks.pipeline.outline import outline
    from tasks.quantizing.recipe import load_recipe

    quiet_libraries()
    found = outline(model, revision, image_size, load_recipe(recipe))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_models.print_outline(found)


@app.command(rich_help_panel=panels.MAKE)
def models(as_json: JsonOption = False) -> None:
    """List the families of models that go through, with published ones of each that are tested."""
    from tasks.families import FAMILIES

    if as_json:
        rows = [
            {"family": each.name, "covers": each.covers, "held_to": each.oracle, "for_example": list(each.known)}
            for each in FAMILIES
        ]
        print_json({"families": rows})
    else:
        show_models.print_families(FAMILIES)
