"""Opening a `datasets:` source: a folder written by `save_to_disk`, or a data set on the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from artifacts.errors import ConfigError, DataError, DataNotFound, DataUnreachable
from tasks.checkpoints.hub_retries import is_transient, patiently

PREFIX = "datasets:"
_SPLIT = r"\w[\w.-]*(?:\[[^\]]*\])?"  # a name, or a slice such as train[:100]
_REST = re.compile(rf"(?P<place>.+?)(?::(?P<split>{_SPLIT}))?")
_HUB = re.compile(r"(?P<id>\w[\w.-]*(?:/\w[\w.-]*)?)(?:@(?P<revision>[\w./-]+))?")
_FORM = f"{PREFIX}FOLDER[:SPLIT] or {PREFIX}HUB_ID[@REVISION][:SPLIT]"


@dataclass(frozen=True)
class HfSource:
    """A parsed `datasets:` spec; `folder` is None for a hub id."""

    place: str
    split: str | None
    folder: Path | None


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
    """`ID[@REVISION]` of a data set on the hub. Raises DataNotFound: it is none; `form` is what a source looks like."""
    match = _HUB.fullmatch(place)
    if match is None:
        raise DataNotFound(f"{place!r} is neither a folder nor a hub id", expected=form, fix="check the path or the id")
    return match["id"], match["revision"]


def load_source(source: HfSource) -> tuple[Any, str]:
    """The `datasets.Dataset` of a source, and its resolved name.

    Raises:
        DataNotFound: no such folder, hub id, revision or split, or the hub cannot be reached.
        ConfigError: the source has several splits and none was named.
        DataError: the library cannot read the source.
    """
    import httpx
    from datasets.exceptions import DatasetsError

    try:
        if source.folder is not None:
            return _load_folder(source.folder, source.split)
        return patiently(partial(_load_hub, source))
    except (OSError, httpx.HTTPError) as error:
        raise (DataUnreachable if is_transient(error) else DataNotFound)(
            f"the data set cannot be found or reached: {error}",
            where=f"{PREFIX}{source.place}",
            expected=_FORM,
            fix="check the name and the revision; without a network, use a folder written by save_to_disk",
        ) from error
    except (DatasetsError, ValueError, RuntimeError, LookupError, TypeError) as error:
        raise DataError(
            f"the datasets library cannot load it: {error!r}",
            where=f"{PREFIX}{source.place}",
            expected="a data set of files (scripts are not supported) with one configuration",
            fix="load it with the datasets library and write it with save_to_disk",
        ) from error


def _load_folder(folder: Path, split: str | None) -> tuple[Any, str]:
    import datasets

    data = datasets.load_from_disk(str(folder))
    if not isinstance(data, datasets.DatasetDict):
        if split is not None:
            raise DataNotFound(f"the folder has no split {split!r}", where=folder, expected="no split: it is one set")
        return data, str(folder)
    name = _choose_split(split, list(data), str(folder))
    return data[name], f"{folder}:{name}"


def _load_hub(source: HfSource) -> tuple[Any, str]:
    import datasets

    name, revision = hub_name(source.place, _FORM)
    split = source.split
    if split is None:  # ask for the names first: loading every split could download far too much
        builder = datasets.load_dataset_builder(name, revision=revision)
        split = _choose_split(None, list(builder.info.splits or ()), source.place)
    data = datasets.load_dataset(name, revision=revision, split=split)
    return data, f"{PREFIX}{source.place}:{split}"


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
    if split not in names:
        raise DataNotFound(f"no split {split!r}", where=where, expected=f"one of {', '.join(names)}")
    return split
