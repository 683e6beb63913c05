"""The command that searches for a recipe that meets gates."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from artifacts.errors import ConfigError
from deployments.commands import panels
from deployments.commands.listing_command import ListingCommand
from deployments.commands.options import (
    CALIBRATION,
    COLUMNS,
    EVALUATION,
    IMAGE_SIZE,
    MODEL,
    REVISION,
    JsonOption,
    StoreOption,
    answer,
)
from deployments.printing import show_search
from deployments.server.environment import prepare_prefect, quiet_libraries
from deployments.server.prefect_settings import load_settings

app = typer.Typer()


@app.command(rich_help_panel=panels.MAKE, cls=ListingCommand)
def search(
    model: Annotated[str, typer.Argument(help=f"{MODEL} Families: {{families}}.")],
    gate: Annotated[
        list[str] | None,
        typer.Option(help="A gate to meet, as max_top1_drop=0.005, or a YAML file with `gates:`. Repeat it for more."),
    ] = None,
    budget: Annotated[int, typer.Option(min=1, max=10_000, help="Evaluate at most this many recipes.")] = 40,
    samples: Annotated[
        int, typer.Option(min=1, max=100_000, help="Measure each module on this many calibration samples.")
    ] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed that draws these samples.")] = 0,
    out: Annotated[Path, typer.Option(help="Recipe file to write. Journal and plot go beside it.")] = Path(
        "recipe.yaml"
    ),
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe to start from ({recipes}, or a YAML file). Unless given, everything is FP8."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help=REVISION)] = None,
    image_size: Annotated[tuple[int, int] | None, typer.Option(metavar="HEIGHT WIDTH", help=IMAGE_SIZE)] = None,
    calibration: Annotated[str | None, typer.Option(help=CALIBRATION)] = None,
    calibration_samples: Annotated[int | None, typer.Option(help="How many samples to calibrate on.")] = None,
    evaluation: Annotated[str | None, typer.Option(help=EVALUATION)] = None,
    evaluation_samples: Annotated[int | None, typer.Option(help="How many samples to judge recipes on.")] = None,
    columns: Annotated[str | None, typer.Option(help=COLUMNS)] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Let ModelOpt's auto_quantize try the same, with as many evaluations.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the recipe that keeps the most work in FP8 and meets the gates. Exits with 3 when none does.

    A killed search goes on where it stopped when you start it again with the same parameters.
    """
    prepare_prefect()
    load_settings()
    from flows.defaults import default_store
    from flows.parameters import parse_parameters
    from flows.search import WIDEST, SearchSettings
    from flows.search import search as find

    data = {
        "calibration": (calibration, calibration_samples, columns),
        "evaluation": (evaluation, evaluation_samples, columns),
    }
    keys = ("source", "samples", "columns")
    sections = {
        name: {key: value for key, value in zip(keys, given, strict=True) if value is not None}
        for name, given in data.items()
    }
    values: dict[str, Any] = {
        "model": model,
        "revision": revision,
        "image_size": None if image_size is None else list(image_size),
        "recipe": recipe or WIDEST,
        "gates": _gates(gate or []),
        "store": str(store or default_store()),
        **sections,
    }
    parameters = parse_parameters(values, where="command line")
    settings = SearchSettings(budget=budget, samples=samples, seed=seed, out=out, compare=compare)
    quiet_libraries()
    with contextlib.redirect_stdout(sys.stderr):
        found = find(parameters, settings)
    answer(as_json, show_search.document(found), show_search.print_found, found)


def _gates(given: list[str]) -> dict[str, Any]:
    """The values of a `gates` block from the options; a later option overrides an earlier one.

    Raises:
        ConfigError: an option is neither `name=number` nor a file with gates.
    """
    from flows.parameters import parse_gates, read_config

    gates: dict[str, Any] = {}
    for text in given:
        name, equals, number = text.partition("=")
        if not equals:
            gates |= parse_gates(read_config(Path(text)), where=text).model_dump(exclude_unset=True)
            continue
        try:
            gates[name.strip()] = float(number)
        except ValueError as error:
            raise ConfigError(
                f"{number!r} is no bound",
                where=f"--gate {text}",
                expected="a number, as in min_cosine_mean=0.999",
                fix="correct it, or name a YAML file with a `gates:` block",
            ) from error
    return gates
