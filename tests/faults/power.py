"""A disk that loses what was not flushed: the store's operations are recorded while they run on a real folder.

A file's bytes are durable from `flush_file` on, a folder's entries from `flush_folder` of that folder on. Of what was
done since, anything may survive a power loss and anything may not, in any order: a rename may survive in one of the two
folders, in both or in neither, and a file whose name survives may be empty or torn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from artifacts import fs
from tests.faults.support import SEAM, Acknowledged

Node = int
Survives = Literal["flushed", "everything"] | random.Random


class Killed(BaseException):
    """The process is gone: nothing that it still tries has any effect."""


@dataclass
class Disk:
    """What is durable, and what has happened since: per folder its entries and a list of (name, node or None)."""

    flushed: dict[Node, dict[str, Node]] = field(default_factory=dict)
    pending: dict[Node, list[tuple[str, Node | None]]] = field(default_factory=dict)
    durable: dict[Node, bytes] = field(default_factory=dict)
    written: dict[Node, bytes] = field(default_factory=dict)

    def copy(self) -> Disk:
        return Disk(
            {node: dict(entries) for node, entries in self.flushed.items()},
            {node: list(entries) for node, entries in self.pending.items()},
            dict(self.durable),
            dict(self.written),
        )

    def entries(self, folder: Node, survives: Survives) -> dict[str, Node]:
        """A folder's entries after a power loss."""
        found = dict(self.flushed[folder])
        for name, node in self.pending[folder]:
            if survives == "flushed" or (isinstance(survives, random.Random) and survives.random() < 0.5):
                continue
            if node is None:
                found.pop(name, None)
            else:
                found[name] = node
        return found

    def content(self, file: Node, survives: Survives) -> bytes:
        """A file's bytes after a power loss."""
        if file in self.durable:
            return self.durable[file]
        data = self.written[file]
        if isinstance(survives, random.Random):
            return data[: survives.choice([0, len(data) // 2, len(data)])]
        return data if survives == "everything" else b""


@dataclass(frozen=True)
class Moment:
    """The disk just after an operation, and what had been acknowledged by then."""

    after: str
    disk: Disk
    done: Acknowledged


class Recorder:
    """Runs the store's operations below `base` and keeps a `Moment` after each."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.disk = Disk({0: {}}, {0: []})
        self.done = Acknowledged()
        self.moments: list[Moment] = []
        self.kill_after: int | None = None
        self._nodes = 1
        self._real: dict[str, Callable[..., Any]] = {name: getattr(fs, name) for name in SEAM}

    def promise(self) -> None:
        """A call has returned: from here on `done` holds what it promised."""
        self.moments.append(Moment("a call that returned", self.disk.copy(), self.done.copy()))

    def damage(self, path: Path, data: bytes) -> None:
        """The disk changes a durable file by itself."""
        path.chmod(0o644)
        path.write_bytes(data)
        self.disk.durable[self._node(path)] = data

    @contextmanager
    def running(self) -> Iterator[None]:
        """While inside, operations are recorded."""
        with mock.patch.multiple(fs, **{name: self._wrap(name) for name in SEAM}):
            yield

    def killed_after(self, operations: int, work: Callable[[], object]) -> bool:
        """Do `work` as a process that is killed after so many operations; False when it was done before."""
        self.kill_after = len(self.moments) + operations
        try:
            work()
        except Killed:
            return True
        finally:
            self.kill_after = None
        return False

    def _wrap(self, name: str) -> Callable[..., None]:
        def run(*paths: Any) -> None:
            if self.kill_after is not None and len(self.moments) >= self.kill_after:
                raise Killed
            self._before(name, *paths)
            self._real[name](*paths)
            self._after(name, *paths)
            self.moments.append(Moment(f"{name} {paths[0]}", self.disk.copy(), self.done.copy()))

        return run

    # --- the model -------------------------------------------------------------------------------------------

    def _before(self, name: str, path: Path, *_: Any) -> None:
        if name in ("link", "rename"):
            self._take_in(path)  # what was put there without the seam, as a step's output in its staging folder

    def _after(self, name: str, path: Path, *more: Any) -> None:
        match name:
            case "make_folder" | "write_file":
                self._take_in(path)
            case "flush_file":
                self.disk.durable[self._take_in(path)] = path.read_bytes()
            case "flush_folder":
                self._flush(path)
            case "link":
                self._put(more[0], self._node(path))
            case "rename":
                self._put(more[0], self._node(path))
                self._put(path, None)
            case "unlink" | "remove_folder":
                self._put(path, None)

    def _flush(self, path: Path) -> None:
        folder = self._take_in(path)
        for name in self._now(folder).keys() - {entry.name for entry in path.iterdir()}:
            self.disk.pending[folder].append((name, None))
        self.disk.flushed[folder] = self._now(folder)
        self.disk.pending[folder] = []

    def _now(self, folder: Node) -> dict[str, Node]:
        return self.disk.entries(folder, "everything")

    def _put(self, path: Path, node: Node | None) -> None:
        self.disk.pending[self._node(path.parent)].append((path.name, node))

    def _node(self, path: Path) -> Node:
        """The node that the model has at a path, or a new one."""
        node, place = 0, self.base
        for name in path.relative_to(self.base).parts:
            place = place / name
            known = self._now(node).get(name)
            if known is None:
                known, self._nodes = self._nodes, self._nodes + 1
                self.disk.pending[node].append((name, known))
                if place.is_dir():
                    self.disk.flushed[known], self.disk.pending[known] = {}, []
            node = known
        return node

    def _take_in(self, path: Path) -> Node:
        """The node at a path, with what is really there, and all below it that the model has not seen yet."""
        node = self._node(path)
        if path.is_file():
            self.disk.written[node] = path.read_bytes()
            return node
        for entry in path.iterdir():
            if entry.name not in self._now(node) and not _is_lock(entry):
                self._take_in(entry)
        return node


def _is_lock(path: Path) -> bool:
    """Lease files come and go without the seam: whether one survives is not the disk's business."""
    return path.parent.name == "leases"


Image = dict[str, Any]


def image(disk: Disk, survives: Survives, node: Node = 0) -> Image:
    """What survived as nested dictionaries of bytes."""
    found: Image = {}
    for name, below in disk.entries(node, survives).items():
        found[name] = image(disk, survives, below) if below in disk.flushed else disk.content(below, survives)
    return found


def write_image(tree: Image, target: Path) -> None:
    """Make a folder of an image."""
    target.mkdir()
    for name, below in tree.items():
        if isinstance(below, dict):
            write_image(below, target / name)
        else:
            (target / name).write_bytes(below)


def frozen(tree: Image) -> tuple[Any, ...]:
    """An image as something that can be compared and kept in a set."""
    return tuple(sorted((name, frozen(below) if isinstance(below, dict) else below) for name, below in tree.items()))
