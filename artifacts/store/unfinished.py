"""Unfinished work of long steps, kept in the store's cache, so that a run after a kill goes on from there. Also data
that several steps of a run share, until the last of them is done.

cache/partial/<key>/<n>-<sha256>    one chunk of bytes, written durably and whole; the step gives them their meaning
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from artifacts import fs, locks
from artifacts.store.layout import PARTIAL
from artifacts.store.store import Store, room

_NAME = re.compile(r"([0-9]{9})-([0-9a-f]{64})")


class Partial:
    """The chunks of one piece of work, in order; one process at a time may add to them: see `alone`."""

    def __init__(self, store: Store, key: str) -> None:
        """`key` is a digest of everything that the chunks depend on. While this process lives, the collector does not
        remove them."""
        self.root, self.key = store.root, key
        self._folder = store.root / PARTIAL / key
        with store.reading():
            store.lease.hold([key])

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yields whether this caller is the only one, in all processes of the host, inside the block with this key."""
        path = self.root / "locks" / self.key
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            mine = locks.try_lock(file) and locks.is_at(file, path)
            try:
                yield mine
            finally:
                if mine:
                    fs.unlink(path)
        finally:
            os.close(file)

    def chunks(self) -> Iterator[bytes]:
        """The sound chunks, up to the first that is missing or damaged; the rest is removed."""
        found = {} if not self._folder.is_dir() else {path.name: path for path in self._folder.iterdir()}
        whole = 0
        for number, name in enumerate(sorted(name for name in found if _NAME.fullmatch(name))):
            data = found[name].read_bytes()
            if name != _name(number, data):
                break
            whole += 1
            del found[name]
            yield data
        for path in found.values():
            fs.unlink(path)
        self._count = whole

    def add(self, data: bytes) -> None:
        """Keep one more chunk; call it after `chunks` was read to its end.

        Raises:
            DiskFull.
        """
        with room(self.root):
            fs.durable_folder(self._folder, self.root)
            fs.write_exclusive(self._folder / _name(self._count, data), data, self.root / "staging")
        self._count += 1

    def read(self, number: int) -> bytes:
        """A chunk that this process has added or read already."""
        (path,) = self._folder.glob(f"{number:09d}-*")
        return path.read_bytes()

    def __len__(self) -> int:
        return self._count

    def discard(self) -> None:
        """Remove all chunks: the work is done."""
        if self._folder.is_dir():
            fs.discard_tree(self._folder)


def _name(number: int, data: bytes) -> str:
    return f"{number:09d}-{hashlib.sha256(data).hexdigest()}"
