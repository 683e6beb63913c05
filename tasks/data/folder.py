"""A folder of images with a table of captions or labels, or with a folder for each class, as a data source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from artifacts.errors import ConfigError
from artifacts.refs import digest_file
from tasks.data import limits
from tasks.data.base import Classes, Encoded, Sample, hashed, label_counts, numbered
from tasks.data.class_names import Numbering, numbering
from tasks.data.coco import find_coco, read_coco
from tasks.data.columns import BY_NAME, Chosen
from tasks.data.images import Stored
from tasks.data.known_digests import KnownDigests
from tasks.data.listing import Entry, find_listing, read_listing
from tasks.data.located import Located
from tasks.data.loose import Loose, read_loose
from tasks.data.name_list import CLASS_NAMES, nameless_notes
from tasks.data.rows import too_much, unreadable
from tasks.data.subset import subset
from tasks.data.templates import DEFAULT_TEMPLATES, fill, read_templates

_TEMPLATES = "templates.txt"


class Folder(Stored):
    """A folder with a table: `captions.*`, `labels.*` or `metadata.*` (csv, tsv, jsonl or parquet), or COCO's captions.
    Without a table, it has a folder for each class, or a text beside each picture. `templates.txt` and `classnames.txt`
    are optional.

    Every row of the table is checked; `limit` keeps a seeded draw of rows, and only their files are opened. The classes
    are those of the whole table, so that a label means the same under every limit.
    """

    def __init__(self, path: Path, limit: int | None = None, chosen: Chosen = BY_NAME) -> None:
        """Read the table and hash the images; nothing is decoded.

        Raises:
            DataNotFound: no such folder, or it holds neither a table nor pictures in class folders.
            DataError: a malformed table, a missing image, or a path that leaves the folder.
            ConfigError: columns were chosen, but the folder has no table.
        """
        self._located = Located(path)
        root = self._located.root
        entries, listing, loose = self._read(path, chosen)
        kept = [entries[place] for place in subset(len(entries), limit)]
        self._paths = [self._located.file(entry.file, entry.where) for entry in kept]
        tables = [] if listing is None else [listing]
        optional = [path / name for name in (_TEMPLATES, CLASS_NAMES) if (root / name).exists()]
        named = (*(entry.file for entry in kept), *map(str, (*tables, *self._paths)))
        parents = {path / folder for folder in {name.rpartition("/")[0] for name in named}}
        folders = {path, *(folder for folder in parents if folder.is_dir()), *(loose.folders if loose else ())}
        self.files: Sequence[Path] = (*sorted(folders), *tables, *optional, *self._paths)
        self.source: str = str(root)
        labels = self._numbering(entries, loose, listing or root)
        self.classes: Classes | None = None if labels is None else self._classes(labels)
        self.samples: Sequence[Sample] = _samples(root, kept, self._paths, self.classes, labels)
        self.notes: Sequence[str] = nameless_notes(self.classes, label_counts(self.samples))

    def stored(self, index: int) -> Path:
        """The path of sample `index`'s picture."""
        return self._paths[index]

    def encoded(self, index: int) -> Encoded:
        """The bytes of sample `index`'s file. Raises: DataError: it went away after the folder was opened."""
        path = self._paths[index]
        try:
            return Encoded(path.read_bytes(), self.samples[index].image_hash, str(path))
        except OSError as error:
            raise unreadable(path, error) from error

    def _read(self, path: Path, chosen: Chosen) -> tuple[tuple[Entry, ...], Path | None, Loose | None]:
        """The entries, with the table that they come from, or the folder's content if there is no table."""
        root = self._located.root
        listing = find_listing(root) or find_coco(root)
        if listing is not None and listing.suffix != ".json":
            self._located.file(listing.name, str(root))
            return read_listing(listing, chosen), path / listing.name, None
        if chosen != BY_NAME:
            raise ConfigError(
                "the folder has no columns to choose from",
                where=path,
                expected="a table of captions or labels in CSV, JSON lines or Parquet",
                fix="leave --columns out; a file of parameters has `columns` for each source",
            )
        if listing is not None:
            inside = listing.relative_to(root)
            self._located.file(str(inside), str(root))
            return read_coco(listing, root), path / inside, None
        loose = read_loose(root)
        return loose.entries, None, loose

    def _numbering(self, entries: Sequence[Entry], loose: Loose | None, where: Path) -> Numbering | None:
        folders = None if loose is None else loose.classes
        labels = {entry.label for entry in entries if entry.label is not None} if folders is None else set(folders)
        listed = self._optional(CLASS_NAMES)
        return numbering(labels, where, listed, folders=folders is not None) if labels else None

    def _classes(self, labels: Numbering) -> Classes:
        templates = self._optional(_TEMPLATES)
        read = DEFAULT_TEMPLATES if templates is None else read_templates(templates)
        return Classes(labels.names, read, published=labels.published)

    def _optional(self, name: str) -> Path | None:
        root = self._located.root
        return self._located.file(name, str(root)) if os.path.lexists(root / name) else None


def _hash_file(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _stat(path: Path) -> os.stat_result:
    try:
        stat = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.st_size > limits.PICTURE_BYTES:
        raise too_much("the picture's file is too large", path, f"at most {limits.PICTURE_BYTES:,} bytes")
    return stat


def _hashes(root: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """The digest of each file; those that were left alone since an earlier run are not read again."""
    before = KnownDigests(root)
    stats = {path: _stat(path) for path in dict.fromkeys(paths)}
    known = {path: digest for path, stat in stats.items() if (digest := before.known(path, stat)) is not None}
    changed = [path for path in stats if path not in known]
    digests = known | hashed(changed, _hash_file)
    if changed:
        before.keep(digests, stats)
    return digests


def _samples(
    root: Path, entries: Sequence[Entry], paths: Sequence[Path], classes: Classes | None, labels: Numbering | None
) -> tuple[Sample, ...]:
    hashes = _hashes(root, paths)
    of: dict[str, int] = {} if labels is None else labels.of
    return tuple(
        _sample(name, entry, hashes[path], classes, None if entry.label is None else of[entry.label])
        for name, entry, path in zip(numbered([entry.file for entry in entries]), entries, paths, strict=True)
    )


def _sample(name: str, entry: Entry, image_hash: str, classes: Classes | None, label: int | None) -> Sample:
    caption = entry.caption
    if caption is None and classes is not None and label is not None:
        caption = fill(classes.templates[0], classes.names[label])
    return Sample(name, image_hash, caption or "", label, entry.file)
