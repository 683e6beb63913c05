"""Commands that move releases to other machines: as one archive, or object by object to a remote copy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from artifacts.copies import archive, replica
from artifacts.copies.opening import open_store
from deployments.commands import panels
from deployments.commands.options import JsonOption, Ref, StoreOption, answer, open_to_read, store_path
from deployments.printing import show_copies
from deployments.printing.console import progress

app = typer.Typer()
Url = Annotated[str, typer.Argument(metavar="URL", help="A folder, or any fsspec URL: s3://bucket/folder.")]


@app.command(rich_help_panel=panels.KEEP)
def pack(
    ref: Ref,
    file: Annotated[Path, typer.Argument(help="The archive to write. It must not exist yet.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a release and its signatures into one portable archive, a plain tar."""
    opened = open_to_read(store)
    manifest = opened.find(ref)
    archive.pack(opened, manifest, file)
    size = file.expanduser().stat().st_size
    document = {"ref": manifest.ref, "file": str(file.absolute()), "bytes": size}
    answer(as_json, document, show_copies.print_packed, manifest, file, size)


@app.command(rich_help_panel=panels.KEEP)
def unpack(
    file: Annotated[Path, typer.Argument(help="An archive that pack wrote.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a packed release and put it into the store. Makes the store where there is none."""
    manifest, new = archive.unpack(open_store(store_path(store)), file)
    answer(as_json, {"ref": manifest.ref, "new": new}, show_copies.print_arrived, manifest.ref, new)


@app.command(rich_help_panel=panels.KEEP)
def push(ref: Ref, url: Url, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Copy a release to a remote copy, verified, and only what is missing there. After a failure, run it again."""
    opened = open_to_read(store)
    manifest = opened.find(ref)
    with progress("copying", sum(part.size for part in manifest.objects())) as advance:
        copied = replica.push(opened, manifest, url, advance)
    _print(manifest.ref, copied, as_json)


@app.command(rich_help_panel=panels.KEEP)
def pull(ref: Ref, url: Url, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Copy a release from a remote copy, only what is missing or damaged here. Makes the store where there is none."""
    with progress("copying", None) as advance:
        manifest, copied = replica.pull(open_store(store_path(store)), ref, url, advance)
    _print(manifest.ref, copied, as_json)


def _print(ref: str, copied: replica.Copied, as_json: bool) -> None:
    answer(as_json, {"ref": ref} | asdict(copied), show_copies.print_copied, ref, copied)
