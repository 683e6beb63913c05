"""A release as a plain folder that needs nothing of ours, with its provenance and its signatures beside it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from artifacts import fs, places
from artifacts.errors import ExportFailed, ExportTargetExists
from artifacts.manifest import Manifest
from artifacts.refs import digest_file
from artifacts.release.identity import is_derived
from artifacts.store.release_check import came, check_release
from artifacts.store.signatures import signatures
from artifacts.store.signing import may_add
from artifacts.store.slsa import slsa_statement
from artifacts.store.store import Store

Derive = Callable[[Store, Manifest, Path], None]
"""Writes the tables, the report and the scripts of a release into an exported folder."""


def export(
    store: Store, manifest: Manifest, destination: Path, derive: Derive | None = None, readme: str | None = None
) -> list[str]:
    """Write a release as a plain folder and return the paths of its files in it.

    `readme` is written to README.md, unless the release has signatures of older versions, which do not allow that file.

    For a release from elsewhere, derived files (tables, report, scripts) are never the sender's: `derive` makes them
    here; without it they are left out. If its bytes differ from the signed ones, the signatures are left out.

    Every file is verified on the way; on any failure there is no folder. The manifest and each signature are the
    bytes that the store holds, so `model_signing verify key DIR --signature DIR/signatures/1.json` works.

    Raises:
        ExportTargetExists: `destination` is a file or a folder that is not empty.
        ExportFailed: it cannot be written.
        ObjectMissing, ObjectDamaged, DamagedSignature: something is not what was published.
        ReleaseDiffers, TableError: the release is not what it says it is.
    """
    with store.reading():
        check_release(store, manifest)
        theirs = {file.path: file for file in manifest.files if is_derived(file)} if came(store, manifest) else {}
        beside = _beside(store, manifest)
        if readme is not None and all(may_add(data.decode(), places.README) for data in _signatures(beside).values()):
            beside[places.README] = readme.encode()
        with new_folder(destination) as folder:
            for file in manifest.files:
                if file.path not in theirs:
                    store.copy_out(manifest, file, folder / file.path)
            if theirs and derive is not None:
                derive(store, manifest, folder)
            if any(not _is(folder / path, file.sha256) for path, file in theirs.items()):
                beside = {path: data for path, data in beside.items() if path not in _signatures(beside)}
            for path, data in beside.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
            written = sorted(path.relative_to(folder).as_posix() for path in fs.files_below(folder))
    return [*beside, *(path for path in written if path not in beside)]


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and digest_file(path) == sha256


@contextmanager
def new_folder(destination: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `destination` in one step when the block ends; when it fails, there is none.

    Raises:
        ExportTargetExists: `destination` is a file or a folder that is not empty.
        ExportFailed: it cannot be written.
    """
    destination = destination.expanduser().absolute()
    if destination.exists() and not destination.is_dir():
        raise ExportTargetExists("a file is where the export folder is to be", where=destination, fix="give a folder")
    if destination.exists() and any(destination.iterdir()):
        raise ExportTargetExists("the export folder is not empty", where=destination, fix="give an empty folder")
    scratch = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}")
    try:
        fs.make_folders(scratch)
        mode = scratch.stat().st_mode
        scratch.chmod(0o700)  # until its content is closed to others too
        yield scratch
        fs.close_tree(scratch)
        scratch.chmod(mode)
        if destination.exists():
            destination.rmdir()
        scratch.rename(destination)
    except OSError as error:
        raise ExportFailed(
            f"the release cannot be written: {error.strerror or error}",
            where=destination,
            fix="give a folder on a disk that can be written and has room",
        ) from error
    finally:
        fs.discard_tree(scratch)


def _signatures(beside: Mapping[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in beside.items() if path.startswith(places.SIGNATURES)}


def _beside(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """What an export holds beside the release's files."""
    data = manifest.to_bytes()
    statement = slsa_statement(manifest, hashlib.sha256(data).hexdigest())
    bundles = {
        f"{places.SIGNATURES}/{record.number}.json": record.bundle.encode()
        for record in signatures(store.root, manifest.model, manifest.version)
    }
    return {places.MANIFEST: data, places.PROVENANCE: json.dumps(statement, indent=2).encode(), **bundles}
