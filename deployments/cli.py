"""The command line: it fills the flow's parameter model, runs the flow and shows results, and decides nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from artifacts.copies.opening import open_store
from artifacts.errors import GateFailed
from artifacts.inert import visible
from deployments import last_resort
from deployments.commands import (
    aliases,
    bench,
    completing,
    copies,
    data,
    doctor,
    fleet,
    judge,
    lists,
    models,
    panels,
    releases,
    search,
    signing,
    upkeep,
    variants,
)
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
    listed,
    per_encoder,
)
from deployments.printing import show, show_forecast
from deployments.printing.console import stderr, stdout
from deployments.server.environment import garbage_left, prepare_prefect, quiet_libraries

_UsageError: Any = typer.BadParameter.__base__  # base class of all usage errors


class _Commands(TyperGroup):
    """The group of commands; in messages about wrong usage, what the user typed is made harmless for the terminal."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        """Parse the options before the command's name."""
        with _visible_usage_errors():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        """Parse the command's own options, and run it."""
        with _visible_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _visible_usage_errors() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        error.message = visible(error.message)
        fix = f"see `{error.ctx.command_path} --help`" if error.ctx else None
        last_resort.print_error_document("UsageError", error.format_message(), fix=fix)
        raise


app = typer.Typer(
    name="clipsmith",
    cls=_Commands,
    help="CLIP checkpoints in, verified FP8 TensorRT engines out, with a record you can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        stdout().say(f"clipsmith {version('clipsmith')}")
        raise typer.Exit


@app.callback()
def _options(
    shown: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    del shown


@app.command(rich_help_panel=panels.MAKE, cls=ListingCommand)
def optimize(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL} Families: {{families}}.")] = None,
    revision: Annotated[str | None, typer.Option(help=REVISION)] = None,
    name: Annotated[
        str | None, typer.Option(help="The store's name for the model. Unless given, made of the hub id or folder.")
    ] = None,
    image_size: Annotated[tuple[int, int] | None, typer.Option(metavar="HEIGHT WIDTH", help=IMAGE_SIZE)] = None,
    encoders: Annotated[str | None, typer.Option(help="Encoders to optimize, by commas: {encoders}.")] = None,
    precisions: Annotated[str | None, typer.Option(help="Precisions to make, by commas: {precisions}.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="What becomes FP8: a built-in recipe ({recipes}), or a YAML file.", autocompletion=completing.recipes
        ),
    ] = None,
    targets: Annotated[
        str | None, typer.Option(help="Engines to build, by commas: {targets}.", autocompletion=completing.targets)
    ] = None,
    calibration: Annotated[str | None, typer.Option(help=CALIBRATION)] = None,
    calibration_samples: Annotated[int | None, typer.Option(help="How many samples to calibrate on.")] = None,
    calibration_method: Annotated[
        str | None, typer.Option(help="How to scale activations: {methods}. By encoder: image=percentile,text=max.")
    ] = None,
    calibration_percentile: Annotated[
        float | None, typer.Option(help="How many percent of an activation's values must not saturate.")
    ] = None,
    sufficiency: Annotated[
        bool | None, typer.Option("--sufficiency", help="Report when more calibration samples stop helping.")
    ] = None,
    evaluation: Annotated[str | None, typer.Option(help=EVALUATION)] = None,
    evaluation_samples: Annotated[int | None, typer.Option(help="How many samples to measure accuracy on.")] = None,
    executor: Annotated[
        str | None, typer.Option(help="What evaluates FP32 and the graphs: auto, onnxruntime or torch.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help=COLUMNS)] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with the same parameters. Options override it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which steps there would be, which are cached, and for how long.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quantize a CLIP checkpoint to FP8, build and compare its engines, and publish a release."""
    prepare_prefect()
    from flows.parameters import parse_parameters, read_config

    values: dict[str, Any] = read_config(config) if config else {}
    given: dict[tuple[str, ...], Any] = {
        ("model",): model,
        ("revision",): revision,
        ("name",): name,
        ("image_size",): None if image_size is None else list(image_size),
        ("encoders",): listed(encoders),
        ("precisions",): listed(precisions),
        ("recipe",): recipe,
        ("targets",): listed(targets),
        ("calibration", "source"): calibration,
        ("calibration", "samples"): calibration_samples,
        ("calibration", "sufficiency"): sufficiency,
        ("evaluation", "source"): evaluation,
        ("evaluation", "samples"): evaluation_samples,
        ("evaluation", "executor"): executor,
        ("calibration", "columns"): columns,
        ("evaluation", "columns"): columns,
        ("store",): str(store) if store else None,
    }
    given |= {("calibration", encoder, "method"): method for encoder, method in per_encoder(calibration_method).items()}
    given |= {("calibration", encoder, "percentile"): calibration_percentile for encoder in ("image", "text")}
    for path, value in given.items():
        if value is not None:
            _put(values, path, value)
    parameters = parse_parameters(values, where=config or "command line")
    from deployments.server.run_optimize import run_optimize
    from flows.preflight import check_ahead, plan_line

    stderr().say(plan_line(parameters))
    with garbage_left():
        check_ahead(parameters, change=not dry_run)
    if dry_run:
        from flows.dry_run import forecast

        quiet_libraries()
        found = forecast(parameters)
        answer(as_json, show_forecast.document(found), show_forecast.print_forecast, found)
        return

    rejection: GateFailed | None = None
    try:
        published = run_optimize(parameters)
        ref, new = published.ref, published.new
    except GateFailed as error:
        ref, new, rejection = error.release, error.new, error
    opened = open_store(parameters.store, writable=False)
    manifest = opened.find(ref)
    answer(as_json, show.release_document(manifest, new=new), show.print_release, manifest, opened, new=new)
    if rejection is not None:  # a rejected release is printed as a result, and the command fails all the same
        raise rejection


for group in (
    models,
    data,
    search,
    variants,
    lists,
    releases,
    judge,
    bench,
    aliases,
    upkeep,
    copies,
    signing,
    fleet,
    doctor,
):
    app.add_typer(group.app)


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for name in parents:
        section = values.setdefault(name, {})
        if not isinstance(section, dict):  # validation will name the wrong type
            return
        values = section
    values[last] = value


def main() -> None:
    """Entry point: every error becomes a message on stderr and an exit code."""
    os.umask(os.umask(0o022) | 0o022)  # files that we create are writable by their owner only, also outside the store
    last_resort.run(app)


if __name__ == "__main__":
    main()
