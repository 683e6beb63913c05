"""What steps returned and what runs led to, kept with the store: whoever has the store, or its bucket, has its cache.

cache/results/<name>.json    one entry, as JSON that carries its own digest, its name and the store's identity

An entry that cannot be used, or is another's under this name, counts as one that is not there, and is said in the log.
Entries are not part of any release: no copy of one takes them along.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal

from artifacts import limits
from artifacts.errors import ClipsmithError, ConfigError, StoreError
from artifacts.models import Frozen
from artifacts.records import dump, in_a_line, parse, read_bytes
from artifacts.refs import Sha256
from artifacts.store import layout
from artifacts.store.store import Store

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,199}")
_OF_STEP = re.compile(r"-[0-9]+-[0-9a-f]{64}")
_BEGUN = "begun"


class _Entry(Frozen):
    """`text` is what its writer gives a meaning.

    Of a step's result, `step` and `version` say whose it is, and `objects` are those that it refers to; `release` is
    the identity of a release that the entry is about.
    """

    format: Literal[1] = 1
    store: str
    name: str
    text: str
    step: str = ""
    version: int = 0
    objects: tuple[Sha256, ...] = ()
    release: Sha256 | None = None


def read(store: Store, name: str) -> str | None:
    """What was kept under a name; None where nothing is that can be used."""
    _refuse_bad(name)
    try:
        data = store.read_result(name)
        return None if data is None else _parsed(data, store.id, name).text
    except (OSError, ClipsmithError) as error:
        _log.warning("not used: the entry %s of the store's cache: %s", name, in_a_line(error))
        return None


def write(
    store: Store,
    name: str,
    text: str,
    *,
    step: tuple[str, int] = ("", 0),
    objects: Iterable[str] = (),
    release: str | None = None,
) -> None:
    """Keep `text` under a name, in the place of what was kept before. What is too large to be read again is left out.

    Args:
        store: Where.
        name: At most 200 small letters, digits, dots, dashes and underscores.
        text: What is read back.
        step: Of a step's result, the step's name and version.
        objects: The digests of the objects without which the entry is of no use.
        release: The identity of the release without which it is of no use.

    Raises:
        DiskFull, ReplicaError: it could not be kept.
    """
    _refuse_bad(name)
    kept = tuple(sorted(set(objects)))
    entry = _Entry(store=store.id, name=name, text=text, step=step[0], version=step[1], objects=kept, release=release)
    data = dump(entry)
    try:
        _parsed(data, store.id, name)
    except StoreError as error:
        _log.warning("not kept: the entry %s of the store's cache: %s", name, error.what)
    else:
        store.write_result(name, data)


def name_of(step: str, version: int, key: str) -> str:
    """The name of what a step returned; `key` is a digest."""
    return f"{step}-{version}-{key}"


def is_of_step(name: str) -> bool:
    """Whether a name is one that `name_of` makes."""
    return _OF_STEP.search(name) is not None


def begin(store: Store) -> bool:
    """Note that the store has a cache; whether it is new and the store has releases, whose steps it does not know."""
    if read(store, _BEGUN) is not None:
        return False
    write(store, _BEGUN, "")
    return bool(store.summaries()[0])


def unneeded(store: Store, objects: AbstractSet[str], releases: AbstractSet[str]) -> Iterator[Path]:
    """The entries in the store's folder that no run can use, for the collector: what is damaged, another store's, of an
    older version of a step than another entry, or about something else than these objects and releases (identities)."""
    entries: dict[Path, _Entry] = {}
    newest: dict[str, int] = {}
    for path in layout.listed(store.root / layout.RESULTS):
        try:
            if path.is_symlink():
                raise OSError("a link")
            entry = _parsed(read_bytes(path, limits.RESULT), store.id, path.stem)
        except (OSError, StoreError):
            yield path
            continue
        entries[path] = entry
        newest[entry.step] = max(newest.get(entry.step, 0), entry.version)
    for path, entry in entries.items():
        old = entry.version < newest[entry.step]
        lost = not objects >= set(entry.objects) or (entry.release is not None and entry.release not in releases)
        if old or lost:
            yield path


def _parsed(data: bytes, store: str, name: str) -> _Entry:
    """An entry that belongs where it was found.

    Raises:
        StoreError: it is none, is another's, or too large.
    """
    entry = parse(_Entry, data, where=name, error=StoreError, what="it", limit=limits.RESULT)
    if (entry.store, entry.name) != (store, name):
        raise StoreError("it is another's", where=name, expected=f"the entry {name} of store {store}")
    return entry


def _refuse_bad(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:60]!r} cannot be the name of an entry of the store's cache", fix="give another name")
