"""Commands that show, compare and export releases."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from artifacts.copies import exporting
from artifacts.errors import ClipsmithError, ConfigError, ReleaseNotFound
from artifacts.exit_codes import ExitCode
from artifacts.keeping import history, render
from artifacts.names import check_model_name
from artifacts.release import fastest
from artifacts.release.comparison import compare
from artifacts.store import aliases, signatures
from deployments.commands import panels
from deployments.commands.options import JsonOption, ModelOption, Ref, StoreOption, answer, open_to_read
from deployments.printing import show, show_comparison, show_releases
from deployments.printing.console import print_errors, stderr, stdout

app = typer.Typer()
Layout = Literal["plain", "triton"]
_HISTORY = Path(".clipsmith/history")


@app.command(rich_help_panel=panels.LOOK)
def releases(model: ModelOption = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the releases, newest first."""
    opened = open_to_read(store)
    wanted = None if model is None else check_model_name(model)
    known, damaged = opened.summaries()
    named = aliases.pointing_to(opened.root)
    found = [
        summary | {"aliases": named.get((summary["model"], summary["version"]), [])}
        for summary in known
        if wanted in (None, summary["model"])
    ]
    errors = [error for error in damaged if wanted in (None, Path(error.where or "").parent.name)]
    document = {"releases": found, "damaged": [error.where for error in errors]}
    answer(as_json, document, show_releases.print_releases, found, wanted, [summary["model"] for summary in known])
    _finish(errors)


@app.command("show", rich_help_panel=panels.LOOK)
def show_release(
    ref: Ref,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every row of its tables too, its files, and what made them.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one release: aliases, signatures, what its report says, gates, accuracy, sizes, speed and fidelity.

    The JSON document always holds everything.
    """
    opened = open_to_read(store)
    manifest = opened.find(ref)
    standing = show.Standing(
        aliases=aliases.pointing_to(opened.root).get((manifest.model, manifest.version), []),
        signatures=signatures.signatures(opened.root, manifest.model, manifest.version),
    )
    document = show.release_document(manifest) | standing.document()
    answer(as_json, document, show.print_release, manifest, opened, standing=standing, everything=everything)


@app.command(rich_help_panel=panels.COMPARE)
def diff(
    before: Ref,
    after: Ref,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every difference: files, run times, scales and noise, too.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two releases: what they were made from, and what that did, the worst first.

    The JSON document always holds everything.
    """
    opened = open_to_read(store)
    found = compare(opened.find(before), opened.find(after))
    answer(as_json, found.document(), show_comparison.print_comparison, found, everything=everything)


@app.command("history", rich_help_panel=panels.LOOK)
def show_history(
    model: Annotated[str, typer.Option("--model", help="The model to follow.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. Unless given, .clipsmith/history/MODEL.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a model's metrics over its releases: print a table, write all numbers as Parquet and a plot as SVG."""
    opened = open_to_read(store)
    manifests, damaged = history.read(opened, check_model_name(model))
    if not manifests and not damaged:
        raise ReleaseNotFound(f"no release of {model!r}", where=opened.root, fix="see `clipsmith releases`")
    table, plot = history.write(manifests, (out or _HISTORY / model).absolute())
    points = history.points(manifests)
    document = show_releases.history_document(model, points, table, plot)
    answer(as_json, document, show_releases.print_history, model, points, table, plot)
    _finish(damaged)


@app.command(rich_help_panel=panels.SERVE)
def export(
    ref: Ref,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A new or empty folder to write to.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The same, as an option.")] = None,
    layout: Annotated[
        Layout, typer.Option(help="plain, or triton: a model repository for Triton Inference Server.")
    ] = "plain",
    target: Annotated[
        str | None,
        typer.Option(help="With triton: tensorrt or onnxruntime. Unless given, tensorrt if the release has it."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="With triton: fp8 or fp16. Unless given, the faster one by the release's table.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a release as a plain folder that you can use without clipsmith, or in the layout of a server."""
    if (folder is None) == (to is None):
        raise ConfigError("export needs one folder", fix="name it once: `clipsmith export REF DIR`")
    if layout == "plain" and (target or precision):
        raise ConfigError("a plain folder holds every target and precision", fix="leave --target and --precision out")
    destination = folder or to or Path()
    opened = open_to_read(store)
    manifest = opened.find(ref)
    if layout == "triton":
        from tasks.serving.triton import export_triton

        files, choice = export_triton(opened, manifest, destination, target, precision)
        chosen = [choice]
    else:
        from tasks.serving.readme import readme
        from tasks.serving.release_scripts import derive

        files = exporting.export(opened, manifest, destination, derive, readme(manifest))
        chosen = fastest.choices(manifest)
    precisions = [asdict(choice) for choice in chosen]
    document = {"ref": manifest.ref, "folder": str(destination.absolute()), "files": files, "precisions": precisions}
    answer(as_json, document, show.print_exported, manifest, files, destination, chosen)


@app.command(rich_help_panel=panels.LOOK)
def report(
    ref: Ref,
    show_it: Annotated[
        bool, typer.Option("--open", help="Open it in the default browser, where there is one.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the path of a release's HTML report, or open it."""
    opened = open_to_read(store)
    manifest = opened.find(ref)
    path = render.report_path(opened, manifest)
    shown = show_it and webbrowser.open(path.as_uri())
    answer(as_json, {"ref": manifest.ref, "report": str(path), "opened": shown}, stdout().say, str(path))
    if show_it and not shown:
        stderr().say("there is no browser here that could be started: open the file in one")


def _finish(errors: Sequence[ClipsmithError]) -> None:
    print_errors(errors)
    raise typer.Exit(ExitCode.FAILED if errors else ExitCode.DONE)
