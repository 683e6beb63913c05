"""Opening a `datasets:` source: a folder written by `save_to_disk` or downloaded from the hub, or a set on the hub.

A folder of parquet, CSV or JSON lines files, or an imagefolder, is read by the library's own builders. Python code in
the folder is never run, and what a builder writes goes to a temporary folder.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from yaml import YAMLError

from artifacts.errors import ConfigError, DataError, DataNotFound, DataUnreachable, causes
from tasks.checkpoints.hub_retries import is_transient, patiently
from tasks.data.located import Located

PREFIX = "datasets:"
_SPLIT = r"\w[\w.-]*(?:\[[^\]]*\])?"  # a name, or a slice such as train[:100]
_REST = re.compile(rf"(?P<place>.+?)(?::(?P<split>{_SPLIT}))?")
_HUB = re.compile(r"(?P<id>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>[\w./-]+))?")
_BUILDERS = ("Arrow", "Csv", "ImageFolder", "Json", "Parquet")
_TABLES = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_FORM = f"{PREFIX}FOLDER[:SPLIT] or {PREFIX}HUB_ID[@REVISION][:SPLIT]"


@dataclass(frozen=True)
class HfSource:
    """A parsed `datasets:` spec; `folder` is None for a hub id."""

    place: str
    split: str | None
    folder: Path | None


class Loaded(NamedTuple):
    """A `datasets.Dataset`, its resolved name, and the temporary folder that it reads from, which is removed with it;
    `unread` is a table in the folder that the library ignores because of pictures beside it."""

    data: Any
    name: str
    work: TemporaryDirectory[str] | None = None
    unread: str | None = None


def is_saved_folder(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    names = ("dataset_info.json", "state.json", "dataset_dict.json")
    return any((folder / name).is_file() for name in names)


def parse_source(spec: str) -> HfSource:
    """Parse `datasets:PLACE[:SPLIT]`; a place that exists is a folder, even when it looks like a hub id.

    Raises:
        ConfigError: the text is not of that form.
    """
    rest = spec.removeprefix(PREFIX)
    match = _REST.fullmatch(rest)
    if match is None or "\0" in rest:
        raise ConfigError(f"{spec!r} is not a data source", expected=_FORM)
    place, split = (rest, None) if Path(rest).is_dir() else (match["place"], match["split"])
    return HfSource(place, split, Path(place).resolve() if Path(place).is_dir() else None)


def hub_name(place: str, form: str) -> tuple[str, str | None]:
    """Parse `ID[@REVISION]` of a data set on the hub; `form` describes a source, for the message.

    Raises:
        DataNotFound: it is not of that form.
    """
    match = _HUB.fullmatch(place)
    if match is None:
        raise DataNotFound(f"{place!r} is neither a folder nor a hub id", expected=form, fix="check the path or the id")
    return match["id"], match["revision"]


def load_source(source: HfSource) -> Loaded:
    """Load the data set of a source.

    Raises:
        DataNotFound: no such folder, hub id, revision or split, or the hub cannot be reached.
        ConfigError: the source has several splits and none was named.
        DataError: the library cannot read the source.
    """
    import httpx
    from datasets.exceptions import DatasetsError

    try:
        if source.folder is not None:
            _check_plain(source.folder)
            read = _load_saved if is_saved_folder(source.folder) else _load_files
            return read(source.folder, source.split)
        return patiently(partial(_load_hub, source))
    except (OSError, httpx.HTTPError) as error:
        raise (DataUnreachable if is_transient(error) else DataNotFound)(
            f"the {'folder cannot be read as a data set' if source.folder else 'data set cannot be found or reached'}: "
            f"{error}",
            where=f"{PREFIX}{source.place}",
            expected=_FORM,
            fix="check the name and the revision; without a network, use a folder",
        ) from error
    except (DatasetsError, YAMLError, ValueError, RuntimeError, LookupError, TypeError) as error:
        *_, cause = causes(error)
        words = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise DataError(
            f"the datasets library cannot load it: {words[:500]}",
            where=f"{PREFIX}{source.place}",
            expected="a data set of files (scripts are not supported) with one configuration",
            fix=_fix(error, source),
        ) from error


def _check_plain(folder: Path) -> None:
    """Refuse pipes, sockets and devices in the folder: the library would open them, and wait or read for ever."""
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)  # noqa: PTH118  (a Path each is slow)
            if not os.path.isfile(path) and os.path.exists(path):  # noqa: PTH110, PTH113
                raise DataError(
                    f"{name[:80]!r} is a pipe, a socket or a device",
                    where=here,
                    expected="plain files",
                    fix="remove it",
                )


def _fix(error: Exception, source: HfSource) -> str:
    if source.folder is not None and "Config name is missing" in str(error):
        return f"give the folder of one configuration: {PREFIX}{source.place}/FOLDER"
    if source.folder is not None and "scripts are no longer supported" in str(error):
        return f"remove the script {source.folder.name}.py: the files beside it are read without it"
    if source.folder is not None and next(source.folder.rglob("*.zip"), None) is not None:
        return "unpack the archives, and remove them from the folder"
    again = "download the files again, or " if source.folder is not None else ""
    return f"{again}load it with the datasets library and write it with save_to_disk"


def _load_saved(folder: Path, split: str | None) -> Loaded:
    import datasets

    data = datasets.load_from_disk(str(folder))
    if not isinstance(data, datasets.DatasetDict):
        if split is not None:
            raise DataNotFound(f"the folder has no split {split!r}", where=folder, expected="no split: it is one set")
        found, name = data, str(folder)
    else:
        split = _choose_split(split, list(data), str(folder))
        found, name = data[split], f"{folder}:{split}"
    found.data.table.validate(full=True)  # without this, bad offsets in a file crash the process
    return Loaded(found, name)


def _load_files(folder: Path, split: str | None) -> Loaded:
    """Read a folder of files with the library's builder for them, which converts them once."""
    import datasets
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError

    work = TemporaryDirectory(prefix="clipsmith-data-")
    try:
        with _quietly():
            builder = datasets.load_dataset_builder(str(folder), cache_dir=work.name)
    except (EmptyDatasetError, DataFilesNotFoundError) as error:
        card = (folder / "README.md").is_file()
        raise DataNotFound(
            "the folder is neither a saved data set nor one of files that the datasets library reads",
            where=folder,
            expected="what save_to_disk writes; parquet, CSV or JSON lines files; or an imagefolder",
            fix="check the path; README.md may name files that were not downloaded" if card else "check the path",
        ) from error
    kinds = [kind.__name__ for kind in type(builder).__mro__]  # the builder's class derives from one of the library's
    if not set(kinds).intersection(_BUILDERS):
        raise DataError(
            f"the library would read the folder's files by its builder {kinds[1]}",
            where=folder,
            expected="parquet, CSV, JSON lines or arrow files, or an imagefolder",
            fix=f"name shards {shlex.quote(f'wds:{folder}')}; write others with save_to_disk",
        )
    files = {str(name): [Path(str(path)) for path in each] for name, each in (builder.config.data_files or {}).items()}
    _check_inside(folder, [path for each in files.values() for path in each])
    name = _choose_split(split, list(files), str(folder))
    _check_one_table(folder, files[name.partition("[")[0]])
    with _quietly():  # without checks, as a card may list splits and rows that were not downloaded
        builder.download_and_prepare(verification_mode="no_checks")
    read = {path.resolve() for each in files.values() for path in each}
    tables = sorted(path for path in folder.iterdir() if path.suffix in _TABLES and path.resolve() not in read)
    return Loaded(builder.as_dataset(split=name), f"{folder}:{name}", work, tables[0].name if tables else None)


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppress the library's progress bars, and its log messages about errors that it raises too."""
    import datasets

    bars, level = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def _check_one_table(folder: Path, files: list[Path]) -> None:
    """Refuse a folder of several configurations: without a dataset card the library would read them as one table."""
    tables = [path for path in files if path.suffix in _TABLES and path.is_relative_to(folder)]
    names = {path.name for path in tables}
    if len(names) < len(tables):
        parts = sorted({path.relative_to(folder).parts[0] for path in tables})
        raise DataError(
            f"several folders hold files of the same names: {', '.join(parts)}",
            where=folder,
            expected="the files of one configuration",
            fix=f"give the folder of one: {PREFIX}{folder / parts[0]}",
        )


def _check_inside(folder: Path, files: list[Path]) -> None:
    """Refuse files outside of the folder: a dataset card may name any file, or a URL."""
    located = Located(folder)
    outside = next((path for path in files if not located.holds(path)), None)
    if outside is not None:
        raise DataError(
            f"the set names a file outside of its folder: {outside}",
            where=folder,
            expected="files of the folder",
            fix="copy the file into the folder, and correct README.md",
        )


def _load_hub(source: HfSource) -> Loaded:
    import datasets

    name, revision = hub_name(source.place, _FORM)
    split = source.split
    if split is None:  # get the names first: loading every split could download far too much
        builder = datasets.load_dataset_builder(name, revision=revision)
        split = _choose_split(None, list(builder.info.splits or ()), source.place)
    data = datasets.load_dataset(name, revision=revision, split=split)
    return Loaded(data, f"{PREFIX}{source.place}:{split}")


def _choose_split(split: str | None, names: list[str], where: str) -> str:
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        raise ConfigError(
            "name the split to use",
            where=where,
            expected=f"one of {', '.join(names) or 'its splits'}",
            fix=f"{PREFIX}{where}:{names[0] if names else 'SPLIT'}",
        )
    if split.partition("[")[0] not in names:  # without the slice
        raise DataNotFound(f"no split {split!r}", where=where, expected=f"one of {', '.join(names)}")
    return split
