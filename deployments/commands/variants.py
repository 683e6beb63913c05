"""The commands for variants: write a variant's file, check files, and run the nightly flow once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from artifacts.errors import ConfigError, VariantsFailed
from artifacts.exit_codes import ExitCode
from artifacts.nearest import meant, nearest
from deployments.commands import panels
from deployments.commands.listing_command import EXAMPLES, ListingCommand, examples
from deployments.commands.options import JsonOption, StoreOption, answer, store_path
from deployments.printing import show_variants
from deployments.server.environment import prepare_prefect

app = typer.Typer()
group = typer.Typer(no_args_is_help=True)
_TEMPLATE = "variant"


@app.command(rich_help_panel=panels.MAKE, cls=ListingCommand)
def init(
    file: Annotated[Path, typer.Argument(help="The file to write, in .yaml or .yml; its name is the variant's.")],
    like: Annotated[
        str, typer.Option(help="An example to begin with: {examples}.", autocompletion=examples)
    ] = _TEMPLATE,
    as_json: JsonOption = False,
) -> None:
    """Write a commented file of a variant, to be changed. It overwrites nothing."""
    source = EXAMPLES / f"{like}.yaml"
    if like not in examples():
        raise ConfigError(
            f"no example {like!r}",
            expected=f"one of {', '.join(examples())}",
            fix=f"{meant(nearest(like, examples()))}correct --like",
        )
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError("a variant's file ends in .yaml or .yml", where=file, fix="give it such a name")
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(source.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise ConfigError(
            "the file exists already, and is not overwritten", where=file, fix="give another name"
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError("there is no folder for the file", where=file.parent, fix="make it, or correct it") from error
    answer(as_json, {"file": str(file.absolute()), "like": like}, show_variants.print_written, file)


@app.command(rich_help_panel=panels.MAKE)
def nightly(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[VARIANT]...", help="Which variants. Unless given, all there are.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="How many changed variants are made at a time.")] = 2,
    hours: Annotated[
        int, typer.Option(min=1, max=72, help="How long a variant may take that a worker makes; none does here.")
    ] = 12,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make again what has changed of the variants in $CLIPSMITH_VARIANTS, as the server does every night."""
    prepare_prefect()
    from deployments.server.run_optimize import run_nightly
    from flows.nightly import NightlyParameters, chosen
    from flows.variants import read_variants, variants_folder

    wanted = names or []
    chosen(read_variants(variants_folder()), wanted)  # a wrong name is refused before anything starts
    failure: VariantsFailed | None = None
    try:
        parameters = NightlyParameters(variants=wanted, at_once=at_once, hours=hours, store=str(store_path(store)))
        outcomes = [each.model_dump(mode="json") for each in run_nightly(parameters)]
    except VariantsFailed as error:
        outcomes, failure = list(error.outcomes), error
    answer(as_json, {"outcomes": outcomes}, show_variants.print_outcomes, outcomes)
    if failure is not None:
        raise failure


@group.command("check")
def check_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The files, one variant each.")],
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with files of variants, and start nothing. Exits with 2 when something is."""
    from flows.variants import check_variant

    found = {file: check_variant(file) for file in files}
    wrong = any(found.values())
    rows = [{"file": str(file), "complaints": [asdict(each) for each in those]} for file, those in found.items()]
    answer(as_json, {"sound": not wrong, "files": rows}, show_variants.print_complaints, found)
    raise typer.Exit(ExitCode.WRONG_INPUT if wrong else ExitCode.DONE)


app.add_typer(group, name="variants", rich_help_panel=panels.MAKE, help="Check files of variants before a night does.")
