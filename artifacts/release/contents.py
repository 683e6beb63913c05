"""Whether the files of a release are what its manifest makes of them: looked at before anything reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from artifacts import array_files, parquet_files, places
from artifacts.errors import ReleaseDiffers
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.release import evidence
from artifacts.release.identity import pickle_content
from artifacts.schema import present

_TABLES = f"{places.TABLES}/"


def check_contents(manifest: Manifest, path_of: Callable[[ReleaseFile], Path]) -> None:
    """Look at the tables, arrays, evidence and pickles of a release, whose bytes are the right ones by their digests.

    Raises:
        ReleaseDiffers: a table as a file is not the manifest's, tables are missing, or a pickle has another content.
        TableError: a file is not what clipsmith writes, or would take more room than ours do.
    """
    tables = {file.path for file in manifest.files if file.path.startswith(_TABLES)}
    wanted = {f"{_TABLES}{name}.parquet" for name in present(manifest.tables)}
    if tables and (odd := sorted(wanted ^ tables)):
        raise _differs(manifest, odd[0], "missing, or of no table of its manifest")
    seen: set[tuple[str, str, str]] = set()
    for file in manifest.files:
        table = file.path.removeprefix(_TABLES).removesuffix(".parquet") if file.path in tables else None
        form = next((suffix for suffix in (".parquet", ".npy") if suffix in (file.path[-8:], file.path[-4:])), "")
        if not form and evidence.is_evidence(file.member):
            form = file.member
        # Many paths of one file are looked at once.
        if (not form and file.content is None) or (key := (file.sha256, form, table or "")) in seen:
            continue
        seen.add(key)
        path, name = path_of(file), f"{manifest.ref}: {file.path}"
        if form == ".parquet":
            parquet_files.check(path, name, table, manifest.tables.get(table or "", ()))
        elif form == ".npy":
            array_files.check(path, name)
        elif form:
            evidence.load_json(path, file.member, name)
        elif pickle_content(path) != file.content:
            raise _differs(manifest, file.path, "a pickle of another content than its manifest says")


def _differs(manifest: Manifest, path: str, what: str) -> ReleaseDiffers:
    return ReleaseDiffers(
        f"{manifest.ref} is not what it says: {path} is {what}",
        where=path,
        expected="files that follow from the manifest",
        fix="do not use it; ask whoever made it for the release as it was published",
    )
