"""Finding the file that a table names: beside the table or in a folder of pictures, in any spelling of its name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from artifacts.errors import DataError
from tasks.data.rows import unreadable

_PICTURES = "images"
"""A folder that may hold the folder of pictures, for example `images/val2017`."""


class Located:
    """The files of a folder. Links are followed only inside the folder; for a snapshot in the hub's cache, its blobs
    count as inside."""

    def __init__(self, folder: Path) -> None:
        self.root = Path(os.path.realpath(folder))
        self._within = (self.root, *_blobs(self.root))
        self._listed: dict[Path, dict[str, str]] = {}
        self._plain_files: dict[str, tuple[Path, frozenset[str]]] = {}

    def file(self, name: str, where: str) -> Path:
        """The real path of the file with the relative path `name`, below the folder or exactly one of its subfolders.

        Backslashes may stand for slashes, and letters may be composed or decomposed (NFC or NFD).

        Raises:
            DataError: there is no such file, there are several, or it is a link that leaves the folder.
        """
        plain = self._plain(name)
        if plain is not None:
            return plain
        found = self._found(self.root, name)
        if found is None:
            below = [path for base in self._bases if (path := self._found(base, name)) is not None]
            if len(below) > 1:
                raise DataError(
                    f"several folders have a file {name!r}",
                    where=where,
                    expected=f"one of {', '.join(str(path.relative_to(self.root)) for path in below)}",
                    fix="name the folder in the table, or keep one of them",
                )
            found = below[0] if below else None
        if found is None:
            raise DataError(
                f"the listed file {name!r} does not exist",
                where=where,
                expected=f"a file at {self.root / name}",
                fix="add the file or remove its row",
            )
        path = Path(os.path.realpath(found))
        if not any(path.is_relative_to(folder) for folder in self._within):
            raise DataError(
                f"{name!r} is a link that leaves the folder",
                where=where,
                expected=f"a file below {self.root}",
                fix="copy the file into the folder",
            )
        return path

    def _plain(self, name: str) -> Path | None:
        """The file of this very name, if it is no link. One listing of a folder tells of all its files: to ask for each
        took most of the time of opening a large set."""
        folder, _, last = name.rpartition("/")
        if folder not in self._plain_files:
            self._plain_files[folder] = self._files_of(folder)
        real, files = self._plain_files[folder]
        return real / last if last in files else None

    def _files_of(self, folder: str) -> tuple[Path, frozenset[str]]:
        """The real path of a folder below the root, and the names of its files that are no links; no names if it cannot
        be listed: then each file is asked for, and says what is wrong."""
        real = Path(os.path.realpath(self.root / folder))
        with suppress(OSError):
            if self.holds(real) and real.is_dir():
                with os.scandir(real) as entries:
                    return real, frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        return real, frozenset()

    def holds(self, path: str | Path) -> bool:
        """Whether a path, links followed, is inside the folder (or the hub's cache, if it is a snapshot there)."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(folder) for folder in self._within)

    def _found(self, base: Path, name: str) -> Path | None:
        for spelt in dict.fromkeys((name, name.replace("\\", "/"))):
            try:
                if (base / spelt).is_file():
                    return base / spelt
            except OSError as error:  # for example a name that is too long
                raise unreadable(base / spelt, error) from error
            otherwise = None if spelt.isascii() else self._spelt_otherwise(base, spelt)
            if otherwise is not None:
                return otherwise
        return None

    def _spelt_otherwise(self, base: Path, name: str) -> Path | None:
        """The file whose path differs only in Unicode form, or None."""
        path = base
        for part in Path(name).parts:
            spelt = self._names(path).get(unicodedata.normalize("NFC", part))
            if spelt is None:
                return None
            path = path / spelt
        return path if path.is_file() else None

    def _names(self, folder: Path) -> dict[str, str]:
        """The names in a folder, by their composed form (NFC)."""
        if folder not in self._listed:
            names = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208
            self._listed[folder] = {unicodedata.normalize("NFC", name): name for name in names}
        return self._listed[folder]

    @cached_property
    def _bases(self) -> list[Path]:
        """The subfolders, and those of `images`."""
        return [*_folders(self.root), *_folders(self.root / _PICTURES)]


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _blobs(root: Path) -> Iterator[Path]:
    """The folder of blobs of a snapshot in the hub's cache: `NAME/blobs/` for `NAME/snapshots/COMMIT/`."""
    for folder in (root, *root.parents):
        if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
            yield folder.parent.parent / "blobs"
