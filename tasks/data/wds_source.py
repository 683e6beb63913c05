"""Finding a webdataset: a folder, or a data set on the Hugging Face hub, in the layout of CLIP_benchmark

    classnames.txt, zeroshot_classification_templates.txt    for zero-shot classification
    dataset_type.txt                                         "retrieval" for retrieval
    test/nshards.txt, test/0.tar, test/1.tar, ...            the samples of one split

or in that of img2dataset and LAION, with shards at the top: 00000.tar, 00000.parquet, 00000_stats.json, ...

https://github.com/LAION-AI/CLIP_benchmark, `clip_benchmark/datasets/builder.py`, `build_wds_dataset`
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from artifacts.errors import ConfigError, DataError, DataNotFound, DataUnreachable
from tasks.checkpoints.hub_retries import is_transient, patiently
from tasks.data.hf_source import hub_name
from tasks.data.rows import read_utf8
from tasks.data.shards import COMPRESSED_SUFFIXES, compressed
from tasks.data.unpacked import SUFFIXES as GZIPPED

T = TypeVar("T")
PREFIX = "wds:"
_DEFAULT_SPLIT = "test"
_TOP = ""
"""The name of the split whose shards are at the top."""
_SPLITS = ("test", "val", "valid", "validation", "dev", "eval", "train", "training")
_FEW = 32
"""The most subfolders that are all searched; with more, as in a set with a folder per class, only usual names are."""
_COUNT = "nshards.txt"
_SHARDS = (".tar", *GZIPPED)
_TABLES = ("captions.*", "labels.*", "metadata.csv", "metadata.jsonl")
"""Tables that make a folder one of pictures, even with shards beside them; LAION's shards have a metadata.parquet."""
_SPEC = re.compile(r"(?P<place>.+?)(?::(?P<split>\w[\w-]*))?")
_FORM = f"{PREFIX}FOLDER[:SPLIT] or {PREFIX}HUB_ID[@REVISION][:SPLIT]"


@dataclass(frozen=True)
class WdsSource:
    """A webdataset on this machine: its folder, its split, the shards in order, and its name for messages.

    `files` are the local files that its content depends on; none for a set on the hub.
    """

    root: Path
    split: str
    shards: tuple[Path, ...]
    name: str
    files: tuple[Path, ...] = ()


def is_webdataset(folder: Path) -> bool:
    """Whether a folder has shards, also compressed ones, in the layout of CLIP_benchmark or img2dataset."""
    if _holds_shards(folder / _DEFAULT_SPLIT):
        return True
    if any(next(folder.glob(name), None) for name in _TABLES):
        return False
    names = _subfolders(folder)
    return bool(_splits(folder, names if len(names) <= _FEW else _SPLITS))


def find_webdataset(spec: str) -> WdsSource:
    """Find the webdataset `wds:PLACE[:SPLIT]`, or a folder; a hub data set is downloaded to the hub's own cache.

    Without SPLIT it is test, or the only split.

    Raises:
        ConfigError: the text is not of that form, or must name a split.
        DataNotFound: no such folder, hub id, revision or split, or the hub cannot be reached.
        DataError: shards are missing, compressed in an unsupported way, or more than `nshards.txt` says.
    """
    rest = spec.removeprefix(PREFIX)
    match = _SPEC.fullmatch(rest)
    if match is None or "\0" in rest:
        raise ConfigError(f"{spec!r} is not a data source", expected=_FORM)
    place, split = (rest, None) if _is(Path.is_dir, rest) else (match["place"], match["split"])
    if _is(Path.is_dir, place):
        root, given = Path(place).resolve(), Path(place)
        split = _choose(_splits(root, _subfolders(root)), str(root)) if split is None else split
        folder = given / split
        beside = (*given.glob("*.txt"), *given.glob("*.json"), *(folder.glob("*") if split else _shards_of(folder)))
        files = tuple(dict.fromkeys((given, folder, *sorted(beside))))
        return WdsSource(root, split, _shards(root, split, linked=False), _named(str(root), split), files)
    is_file = _is(Path.is_file, place)
    if is_file or "{" in place:
        raise DataNotFound(
            f"{place!r} is {'one shard' if is_file else 'a pattern'}, not a folder of shards",
            expected=_FORM,
            fix=f"name the folder: {PREFIX}{Path(place).parent}",
        )
    root, split = _from_hub(place, split)
    return WdsSource(root, split, _shards(root, split, linked=True), _named(f"{PREFIX}{place}", split))


def _is(kind: Callable[[Path], bool], place: str) -> bool:
    """Whether `kind` holds for the path in a text; False for a text that cannot be a path (such as a too long one)."""
    try:
        return kind(Path(place))
    except OSError:
        return False


def _named(place: str, split: str) -> str:
    return f"{place}:{split}" if split else place


def _from_hub(place: str, split: str | None) -> tuple[Path, str]:
    """The snapshot with the shards of the split, or of the only split. The hub is asked for the list of files only if
    the usual split is not there, so that a cached snapshot needs no network."""
    from huggingface_hub import list_repo_files, snapshot_download

    def snapshot(*shards: str) -> Path:
        return Path(_asked(partial(snapshot_download, allow_patterns=["*.txt", *shards]), place))

    root = snapshot(f"{split or _DEFAULT_SPLIT}/*")
    if split is not None or _holds_shards(root / _DEFAULT_SPLIT):
        return root, split or _DEFAULT_SPLIT
    shards = [name for name in _asked(list_repo_files, place) if name.lower().endswith(_SHARDS)]
    split = _choose(sorted({name.rpartition("/")[0] for name in shards}), place)
    return snapshot(*map(glob.escape, shards)), split  # all shards belong to the only split


def _asked(request: Callable[..., T], place: str) -> T:
    """Make a request about a data set to the hub, and turn its errors into ours."""
    import httpx

    name, revision = hub_name(place, _FORM)
    try:
        return patiently(partial(request, name, repo_type="dataset", revision=revision))
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise (DataUnreachable if is_transient(error) else DataNotFound)(
            f"the data set cannot be found or reached: {error}",
            where=f"{PREFIX}{place}",
            expected=_FORM,
            fix="check the name and the revision; without a network, use a folder",
        ) from error


# --- splits ------------------------------------------------------------------------------------------------


def _choose(found: Sequence[str], place: str) -> str:
    """The split to use if none is named, from those that were found."""
    if _DEFAULT_SPLIT in found or not found:
        return _DEFAULT_SPLIT
    if len(found) > 1:
        at_top = " and shards at the top" if _TOP in found else ""
        named = [split for split in found if split]
        raise ConfigError(
            "name the split to use",
            where=place,
            expected=f"one of {', '.join(named)}{at_top}",
            fix=f"{PREFIX}{place}:{named[0]}" + (", or move the other shards away" if at_top else ""),
        )
    return found[0]


def _subfolders(root: Path) -> list[str]:
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir())


def _splits(root: Path, names: Iterable[str]) -> list[str]:
    """The splits that hold shards: subfolders of `names`, and the top."""
    return [split for split in (_TOP, *names) if _holds_shards(root / split)]


def _holds_shards(folder: Path) -> bool:
    return any(path.name.lower().endswith((*_SHARDS, *COMPRESSED_SUFFIXES)) for path in _visible(folder))


def _visible(folder: Path) -> Iterator[Path]:
    """The files of a folder, without those that macOS adds (`._0.tar`); none if there is no such folder."""
    if folder.is_dir():
        yield from (path for path in folder.glob("*.[tT]*") if not path.name.startswith("."))


# --- shards ------------------------------------------------------------------------------------------------


def _shards_of(folder: Path) -> list[Path]:
    """The shards of a folder in order.

    Raises:
        DataError: one is compressed with something else than gzip, or is there twice.
    """
    paths = list(_visible(folder))
    for path in sorted(paths):
        if path.name.lower().endswith(COMPRESSED_SUFFIXES):
            raise compressed(path)
    found = sorted((path for path in paths if path.name.lower().endswith(_SHARDS)), key=_order)
    for first, second in pairwise(found):
        if _stem(first) == _stem(second):
            raise DataError(
                f"the shard is there twice: {first.name} and {second.name}",
                where=folder,
                expected="each shard once, plain or compressed",
                fix=f"move {second.name} away",
            )
    return found


def _shards(root: Path, split: str, *, linked: bool) -> tuple[Path, ...]:
    """The shards of a split in order; `linked`: they may be links out of the folder, as in the hub's cache."""
    folder = root / split
    found = _shards_of(folder)
    if not found:
        raise _no_shards(root, split)
    listed = folder / _COUNT
    if listed.is_file():
        _check_count(found, _count(listed), listed)
    for shard in found:
        if not shard.is_file():
            raise DataError(
                f"the shard {shard.name} is missing",
                where=folder,
                expected="a file, or a link to one",
                fix="copy it, or download the data set again",
            )
        if not (linked or _is_within(root, shard.resolve())):
            raise DataError("the shard is a link that leaves the folder", where=shard, fix="copy the file")
    return tuple(found)


def _no_shards(root: Path, split: str) -> DataNotFound:
    snapshots = sorted((root / "snapshots").glob("*"))
    if snapshots:  # a repository in the hub's cache
        return DataNotFound(
            "the folder is a repository in the hub's cache, not a data set",
            where=root,
            expected="one of its snapshots",
            fix=f"{PREFIX}{snapshots[-1]}",
        )
    others = sorted(
        {path.parent.name for path in root.glob(f"*/{_COUNT}")} | set(_splits(root, _SPLITS)) - {_TOP, split}
    )
    return DataNotFound(
        f"there are no shards of the split {split!r}",
        where=root / split,
        expected="0.tar, 1.tar, ..." + (f"; there are the splits {', '.join(others)}" if others else ""),
        fix=_FORM,
    )


def _is_within(root: Path, path: Path) -> bool:
    """Whether a file is inside a folder or, for a snapshot in the hub's cache, among its blobs."""
    return path.is_relative_to(root) or (
        root.parent.name == "snapshots" and path.is_relative_to(root.parent.parent / "blobs")
    )


def _order(shard: Path) -> tuple[int, int, str]:
    """The sort key of shards: by number (10.tar after 9.tar), and names without a number last."""
    number = _number(shard)
    return (1, 0, shard.name) if number is None else (0, number, shard.name)


def _number(shard: Path) -> int | None:
    return int(_stem(shard)) if re.fullmatch("[0-9]{1,9}", _stem(shard)) else None


def _stem(shard: Path) -> str:
    name = shard.name
    return next((name[: -len(suffix)] for suffix in _SHARDS if name.lower().endswith(suffix)), name)


def _check_count(found: Sequence[Path], count: int, listed: Path) -> None:
    """Check that the number of shards is that in `nshards.txt`; names may be padded with zeros."""
    numbers = [_number(shard) for shard in found]
    first = 1 if numbers == list(range(1, count + 1)) else 0
    missing = [] if None in numbers else [place for place in range(first, first + count) if place not in numbers]
    if missing or len(found) < count:
        what = f"the shard {missing[0]}.tar is missing" if missing else f"{count - len(found)} shards are missing"
        raise DataError(
            what,
            where=listed.parent,
            expected=f"the {count} shards that {listed.name} counts",
            fix=f"copy it, or download the data set again; or correct {listed.name} if there are {len(found)}",
        )
    if len(found) > count:
        raise DataError(
            f"there are {len(found)} shards, {found[0].name} to {found[-1].name}, and {listed.name} counts {count}",
            where=listed.parent,
            expected="as many shards as are counted: of the others CLIP_benchmark would read none",
            fix=f"write {len(found)} into {listed.name}, or move the others away",
        )


def _count(path: Path) -> int:
    text = read_utf8(path).strip()
    if not re.fullmatch("[1-9][0-9]{0,6}", text):
        raise DataError(
            f"{text[:20]!r} is not a number of shards", where=f"{path}, line 1", expected="1 or more", fix="correct it"
        )
    return int(text)
