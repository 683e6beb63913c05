"""The ledger: one numbered entry per record that was put into the store, so that `verify` notices lost records.

Without it, a missing manifest, alias entry, tombstone or signature would leave no trace. An entry is written
after its record: a crash in between leaves a record without an entry, which is not damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field

from artifacts import fs
from artifacts.errors import DamagedLedger
from artifacts.models import Frozen
from artifacts.names import Number
from artifacts.records import dump, parse, read_bytes
from artifacts.refs import RelativePath, Sha256, digest_file
from artifacts.store import layout

_SHARD = 1000


class LedgerEntry(Frozen):
    """`path`, relative to the store, was written with these bytes.

    `came` marks a release that was not published here; `vouched` marks one that a run of this store made, or that was
    signed here.
    """

    format: Literal[1] = 1
    number: Number
    path: RelativePath
    sha256: Sha256
    # Both are left out when false: entries of older versions do not have them.
    came: bool = Field(default=False, exclude_if=lambda came: not came)
    vouched: bool = Field(default=False, exclude_if=lambda vouched: not vouched)


def append(root: Path, path: Path, *, came: bool = False, vouched: bool = False) -> None:
    """Append an entry saying that `path`, an already durable record, was put into the store in `root`."""
    relative, digest = path.relative_to(root).as_posix(), digest_file(path)
    while True:
        number = last(root) + 1
        place, before = entry_path(root, number), entry_path(root, number - 1).parent
        fs.durable_folder(place.parent, root)
        if before != place.parent and before.is_dir():
            fs.flush_folder(before)  # the writer of the previous entry may have been killed before flushing
        try:
            entry = LedgerEntry(number=number, path=relative, sha256=digest, came=came, vouched=vouched)
            fs.write_exclusive(place, dump(entry), root / "staging")
        except FileExistsError:
            continue  # another process noted something at the same time
        return


def ensure(root: Path, path: Path) -> None:
    """Append an entry for `path` unless it has one: the process that wrote the record may have been killed before."""
    noted = next(_entries_of(root, path), None)
    if noted is None:
        append(root, path)
    else:
        fs.keep(entry_path(root, noted), root)


def is_vouched(root: Path, path: Path) -> bool:
    """Whether the bytes at `path` are those of an entry with `vouched`."""
    digest = digest_file(path)
    for number in _entries_of(root, path):
        with suppress(FileNotFoundError, DamagedLedger):  # `clipsmith verify` reports it
            entry = read(root, number)
            if entry.vouched and entry.sha256 == digest:
                return True
    return False


def _entries_of(root: Path, path: Path) -> Iterator[int]:
    """The numbers of the entries that speak of `path`, in order."""
    wanted = f'"path":"{path.relative_to(root).as_posix()}"'.encode()
    for number in numbers(root):
        place = entry_path(root, number)
        if place.exists() and wanted in place.read_bytes():
            yield number


def entries(root: Path) -> Iterator[LedgerEntry]:
    """Every entry that can be read, in order; `clipsmith verify` reports the others."""
    for number in numbers(root):
        with suppress(OSError, DamagedLedger):
            yield read(root, number)


def last(root: Path) -> int:
    """The number of the newest entry, 0 without any."""
    shards = sorted((int(path.name) for path in layout.listed(root / "ledger") if path.name.isdecimal()), reverse=True)
    return next((numbers[-1] for shard in shards if (numbers := layout.numbers(root / "ledger" / str(shard)))), 0)


def entry_path(root: Path, number: int) -> Path:
    """The path of an entry; a folder holds a thousand, so that appending stays cheap."""
    return root / "ledger" / str(number // _SHARD) / f"{number}.json"


def read(root: Path, number: int) -> LedgerEntry:
    """One entry.

    Raises:
        DamagedLedger: it cannot be read, or belongs to another path.
        FileNotFoundError: it is not there.
    """
    path = entry_path(root, number)
    entry = parse(LedgerEntry, read_bytes(path), where=path, error=DamagedLedger, what="an entry of the ledger")
    if entry.number != number:
        raise DamagedLedger(f"entry {entry.number} of the ledger is not in its place", where=path)
    return entry


def numbers(root: Path) -> list[int]:
    """The numbers of the entries that are there, in order."""
    return sorted(number for shard in layout.listed(root / "ledger") for number in layout.numbers(shard))
