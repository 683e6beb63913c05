"""Commands that sign a release, and check who signed it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from artifacts.number_words import moment
from artifacts.store import signatures
from artifacts.store.release_check import check_release
from artifacts.store.signatures import SignatureRecord
from deployments.commands import panels
from deployments.commands.options import JsonOption, Ref, StoreOption, answer, open_to_change, open_to_read
from deployments.printing.console import Part, stdout

app = typer.Typer()
PASSWORD_VARIABLE = "CLIPSMITH_KEY_PASSWORD"


@app.command(rich_help_panel=panels.RELEASE)
def sign(
    ref: Ref,
    key: Annotated[Path, typer.Option("--key", help="Private key as PEM. $CLIPSMITH_KEY_PASSWORD has its password.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a release, sign it with an elliptic-curve key and keep the signature beside it."""
    opened = open_to_change(store)
    manifest = opened.find(ref)
    check_release(opened, manifest)
    record = signatures.sign(opened, manifest, key, os.environ.get(PASSWORD_VARIABLE))
    text = f"signed: signature {record.number} of "
    _print(record, (text, (f"{record.model}@{record.version}", "bold")), as_json)


@app.command("check-signature", rich_help_panel=panels.RELEASE)
def check_signature(
    ref: Ref,
    key: Annotated[Path, typer.Option("--key", help="Public key, as PEM, of whoever must have signed.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the owner of a key signed a release, and every byte of it. Exits with 1 if not."""
    opened = open_to_read(store)
    manifest = opened.find(ref)
    record = signatures.check(opened, manifest, [key])
    text = f" is signed by the owner of {key.name}: signature {record.number}, recorded for {record.who} "
    _print(record, ((manifest.ref, "bold"), f"{text}at {moment(record.created)}"), as_json)


def _print(record: SignatureRecord, parts: Sequence[Part], as_json: bool) -> None:
    about = record.model_dump(mode="json", include={"number", "who", "created"})
    answer(as_json, {"ref": f"{record.model}@{record.version}"} | about, stdout().say, *parts)
