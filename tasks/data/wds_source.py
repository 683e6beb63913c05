"""Finding a webdataset in the layout of CLIP_benchmark: a folder, or a data set on the Hugging Face hub.

    classnames.txt, zeroshot_classification_templates.txt    for zero-shot classification
    dataset_type.txt                                         "retrieval" for retrieval
    test/nshards.txt, test/0.tar, test/1.tar, ...            the samples of one split

https://github.com/LAION-AI/CLIP_benchmark, `clip_benchmark/datasets/builder.py`, `build_wds_dataset`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from artifacts.errors import ConfigError, DataError, DataNotFound, DataUnreachable
from tasks.checkpoints.hub_retries import is_transient, patiently
from tasks.data.hf_source import hub_name
from tasks.data.rows import read_utf8

PREFIX = "wds:"
_DEFAULT_SPLIT = "test"
_SPEC = re.compile(r"(?P<place>.+?)(?::(?P<split>\w[\w-]*))?")
_FORM = f"{PREFIX}FOLDER[:SPLIT] or {PREFIX}HUB_ID[@REVISION][:SPLIT]"


@dataclass(frozen=True)
class WdsSource:
    """A webdataset on this machine: its folder, its split, the shards in order, and its name for messages.

    `files` are those that decide what is in it; none where the hub does.
    """

    root: Path
    split: str
    shards: tuple[Path, ...]
    name: str
    files: tuple[Path, ...] = ()


def is_webdataset(folder: Path) -> bool:
    """Whether a folder has shards where CLIP_benchmark looks for them."""
    return next((folder / _DEFAULT_SPLIT).glob("*.tar"), None) is not None


def find_webdataset(spec: str) -> WdsSource:
    """Find `wds:PLACE[:SPLIT]`, or a folder; a hub data set is downloaded to the hub's own cache. The split is test
    unless it is named.

    Raises:
        ConfigError: the text is not of that form.
        DataNotFound: no such folder, hub id, revision or split, or the hub cannot be reached.
        DataError: shards are missing.
    """
    rest = spec.removeprefix(PREFIX)
    match = _SPEC.fullmatch(rest)
    if match is None or "\0" in rest:
        raise ConfigError(f"{spec!r} is not a data source", expected=_FORM)
    place, split = (rest, None) if Path(rest).is_dir() else (match["place"], match["split"])
    split = split or _DEFAULT_SPLIT
    if Path(place).is_dir():
        root, given = Path(place).resolve(), Path(place)
        files = (given, given / split, *sorted(given.glob("*.txt")), *sorted((given / split).glob("*")))
        return WdsSource(root, split, _shards(root, split, within=root), f"{root}:{split}", files)
    root = _download(place, split)
    return WdsSource(root, split, _shards(root, split, within=None), f"{PREFIX}{place}:{split}")


def _download(place: str, split: str) -> Path:
    import httpx
    from huggingface_hub import snapshot_download

    name, revision = hub_name(place, _FORM)
    patterns = ["*.txt", f"{split}/*"]
    fetch = partial(snapshot_download, name, repo_type="dataset", revision=revision, allow_patterns=patterns)
    try:
        return Path(patiently(fetch))
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise (DataUnreachable if is_transient(error) else DataNotFound)(
            f"the data set cannot be found or reached: {error}",
            where=f"{PREFIX}{place}",
            expected=_FORM,
            fix="check the name and the revision; without a network, use a folder",
        ) from error


def _shards(root: Path, split: str, *, within: Path | None) -> tuple[Path, ...]:
    """The shards of a split in order; the hub's cache is made of links, a folder's must not leave it."""
    folder = root / split
    found = sorted(folder.glob("*.tar"), key=_order)
    if not found:
        raise DataNotFound(
            f"there are no shards of the split {split!r}", where=folder, expected="0.tar, 1.tar, ...", fix=_FORM
        )
    listed = folder / "nshards.txt"
    if listed.is_file():
        found = [folder / f"{number}.tar" for number in range(_count(listed))]
    for shard in found:
        if not shard.is_file():
            raise DataError(
                f"the shard {shard.name} is missing",
                where=folder,
                expected=f"the {len(found)} shards that {listed.name} counts",
                fix="copy it, or download the data set again",
            )
        if within is not None and not shard.resolve().is_relative_to(within):
            raise DataError("the shard is a link that leaves the folder", where=shard, fix="copy the file")
    return tuple(found)


def _order(shard: Path) -> tuple[int, int, str]:
    """10.tar after 9.tar, and names that are no numbers last."""
    return (0, int(shard.stem), "") if re.fullmatch("[0-9]{1,9}", shard.stem) else (1, 0, shard.name)


def _count(path: Path) -> int:
    text = read_utf8(path).strip()
    if not re.fullmatch("[1-9][0-9]{0,6}", text):
        raise DataError(
            f"{text[:20]!r} is not a number of shards", where=f"{path}, line 1", expected="1 or more", fix="correct it"
        )
    return int(text)
