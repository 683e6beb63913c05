"""The command line. It fills the flow's parameter model and shows what the store holds; it decides nothing else."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from artifacts.errors import ClipsmithError, GateFailed
from artifacts.store import Store
from deployments import show
from deployments.embedded_api import EmbeddedApi
from deployments.environment import prepare_prefect, quiet_libraries
from flows.defaults import default_store

app = typer.Typer(
    name="clipsmith",
    help="CLIP checkpoints in, verified FP8 TensorRT engines out, with a record you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Folder of the release store ($CLIPSMITH_STORE, .clipsmith/store).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Ref = Annotated[str, typer.Argument(help="model, model@version, or 8 or more digits of a release's identity.")]


@app.command()
def optimize(
    model: Annotated[str | None, typer.Argument(help="A Hugging Face id, a local folder, or demo.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hugging Face model.")] = None,
    encoders: Annotated[str | None, typer.Option(help="image,text")] = None,
    precisions: Annotated[str | None, typer.Option(help="fp16,fp8")] = None,
    recipe: Annotated[str | None, typer.Option(help="A built-in FP8 recipe (fp8, fp8-no-attention) or a file.")] = None,
    targets: Annotated[str | None, typer.Option(help="onnxruntime, trtrtx-sm89, trtrtx-sm120, tensorrt, ...")] = None,
    calibration: Annotated[str | None, typer.Option(help="digits, a folder, or datasets:NAME[:split].")] = None,
    calibration_samples: Annotated[int | None, typer.Option(help="How many samples to calibrate on.")] = None,
    evaluation: Annotated[str | None, typer.Option(help="As --calibration; must not overlap with it.")] = None,
    evaluation_samples: Annotated[int | None, typer.Option(help="How many samples to measure accuracy on.")] = None,
    config: Annotated[Path | None, typer.Option(help="The same parameters as a YAML file; options win.")] = None,
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
        ("encoders",): _listed(encoders),
        ("precisions",): _listed(precisions),
        ("recipe",): recipe,
        ("targets",): _listed(targets),
        ("calibration", "source"): calibration,
        ("calibration", "samples"): calibration_samples,
        ("evaluation", "source"): evaluation,
        ("evaluation", "samples"): evaluation_samples,
        ("store",): str(store) if store else None,
    }
    for path, value in given.items():
        if value is not None:
            _put(values, path, value)
    parameters = parse_parameters(values, where=config or "command line")
    api = EmbeddedApi.start()
    quiet_libraries()
    from flows.optimize import optimize as flow

    if api is not None:  # it has been starting while the flow was imported
        api.wait()
    # Whatever a library prints goes to stderr: stdout is for the result.
    with contextlib.redirect_stdout(sys.stderr):
        rejection: GateFailed | None = None
        try:
            published = flow(parameters)
            ref, new = published.ref, published.new
        except GateFailed as error:
            ref, new, rejection = error.release, error.new, error
    opened = Store.open(parameters.store, writable=False)
    manifest = opened.find(ref)
    if as_json:
        _print_json(show.release_document(manifest, new=new))
    else:
        show.print_release(manifest, opened, new=new)
    if rejection is not None:  # a rejected release is a result, and the run has failed
        raise rejection


@app.command()
def releases(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the releases, newest first."""
    manifests = _open(store).releases()
    if as_json:
        _print_json({"releases": [show.summary(manifest) for manifest in manifests]})
    else:
        show.print_releases(manifests)


@app.command("show")
def show_release(ref: Ref, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show one release: its tables, files and provenance."""
    opened = _open(store)
    manifest = opened.find(ref)
    if as_json:
        _print_json(show.release_document(manifest))
    else:
        show.print_release(manifest, opened)


@app.command()
def export(
    ref: Ref,
    folder: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a release as a plain folder that needs nothing of ours to be used."""
    opened = _open(store)
    manifest = opened.find(ref)
    opened.export(manifest, folder)
    if as_json:
        files = [file.path for file in manifest.files]
        _print_json({"ref": manifest.ref, "folder": str(folder.absolute()), "files": ["manifest.json", *files]})
    else:
        show.print_exported(manifest, folder)


@app.command()
def report(ref: Ref, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Print where a release's HTML report is."""
    opened = _open(store)
    manifest = opened.find(ref)
    path = opened.read(manifest, "report.html")
    if as_json:
        _print_json({"ref": manifest.ref, "report": str(path)})
    else:
        typer.echo(path)


def _open(store: Path | None) -> Store:
    return Store.open(store or default_store(), writable=False)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for name in parents:
        section = values.setdefault(name, {})
        if not isinstance(section, dict):  # leave it for validation to name the wrong type
            return
        values = section
    values[last] = value


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")


def main() -> None:
    """Entry point: typed errors become a message on stderr and their exit code."""
    try:
        app()
    except ClipsmithError as error:
        show.print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
