"""What the commands share: their options, how they open the store, and how they print a result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, overload

import typer

from artifacts.copies.opening import open_store
from artifacts.inert import exact_json
from artifacts.store.store import BUCKET_VARIABLE, Store
from deployments.commands import completing
from flows.defaults import default_store

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of the release store. Unless given, $CLIPSMITH_STORE or .clipsmith/store."),
]
MODEL = "A Hugging Face id, a local folder, a checkpoint that clipsmith exported, or demo."
REVISION = "Branch, tag or commit of a Hugging Face model."
IMAGE_SIZE = "Height and width in pixels, for models that take pictures of any size (SigLIP 2 NaFlex)."
CALIBRATION = "Data to calibrate on: digits, a folder, datasets:NAME_OR_FOLDER[:split] or wds:NAME[:split]."
EVALUATION = "Data to measure accuracy on, named as for --calibration. The two must not overlap."
COLUMNS = "Columns of the data's table, for example image=jpg,label=fine_label,caption=title. For both sources."
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
SCHEMA = 1
"""Which form the documents of --json have. A key that goes or comes to mean something else makes it another number."""
_REF = "model (its newest), model@version, model:alias, or 8 or more digits of its identity"
Ref = Annotated[str, typer.Argument(help=f"The release: {_REF}.", autocompletion=completing.refs)]
AliasOption = Annotated[str, typer.Option("--alias", help="Name of the alias, for example production.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="List this model's only.")]
WhyOption = Annotated[str | None, typer.Option("--why", help="The reason. The alias's history keeps it.")]
_P = ParamSpec("_P")


def store_path(store: Path | None) -> Path:
    """The folder of the store: the given one, or the default."""
    return Path(store or default_store())


def open_to_read(store: Path | None) -> Store:
    """Open the store to read it; a bucket's working copy is opened for writing, to bring in what others published."""
    return open_store(store_path(store), writable=bool(os.environ.get(BUCKET_VARIABLE)))


def open_to_change(store: Path | None) -> Store:
    """Open an existing store to change it; a wrong path must not create a new store."""
    return open_store(open_to_read(store).root)


@overload
def listed(text: str) -> list[str]: ...


@overload
def listed(text: None) -> None: ...


def listed(text: str | None) -> list[str] | None:
    """The parts of an option's value, separated by commas; None if the option was not given."""
    return None if text is None else [item.strip() for item in text.split(",") if item.strip()]


def per_encoder(text: str | None) -> dict[str, str]:
    """Parse one value for both encoders, or `encoder=value` parts separated by commas, into values by encoder.

    Unknown encoders are left for validation to refuse.
    """
    parts = [part.partition("=") for part in listed(text) or ()]
    return {
        name: value if given else encoder
        for encoder, given, value in parts
        for name in ((encoder,) if given else ("image", "text"))
    }


def answer(
    as_json: bool, document: dict[str, Any], tell: Callable[_P, object], *values: _P.args, **named: _P.kwargs
) -> None:
    """Print a command's result: with --json its document, else what `tell` prints of `values` for people."""
    if as_json:
        print_json(document)
    else:
        tell(*values, **named)


def print_json(document: dict[str, Any]) -> None:
    """Print the one document of a command with --json, its schema first."""
    plain = not (sys.stdout.encoding or "").lower().startswith("utf")  # such as with LANG=C
    sys.stdout.write(exact_json({"schema": SCHEMA} | document, ascii_only=plain) + "\n")
