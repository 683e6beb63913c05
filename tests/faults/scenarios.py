"""What a store goes through, call by call, with what each call promises when it returns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

from artifacts.copies import transfer
from artifacts.errors import ReleaseNotFound
from artifacts.keeping.promotion import promote, rollback
from artifacts.keeping.repair import repair
from artifacts.manifest import Manifest
from artifacts.schema import new_row
from artifacts.store import aliases, layout, results, signatures
from artifacts.store.aliases import AliasEntry
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, sealed
from tests.artifacts.support import digest as digest_of
from tests.faults.support import SHARED, Acknowledged, publish

Promise = Callable[[], None]
Damage = Callable[[Path, bytes], None]
Step = Callable[[], object]

CACHED = ("what a step returned", "what it returned another time")


class Life:
    """A store's life below `base`. `done` collects what was promised; `promise` is told after each call.

    Every step can be done again after it failed: what it promises is the same.
    """

    def __init__(self, base: Path, done: Acknowledged, promise: Promise, damage: Damage) -> None:
        self.root = base / "store"
        self.done = done
        self._promise = promise
        self._damage = damage
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The store, opened by whoever needs it first."""
        if self._store is None:
            self._store = Store.open(self.root)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None

    def steps(self) -> dict[str, Step]:
        """All of it in order, and two that are no part of it."""
        return {
            "open": self.open,
            "add": self.add,
            "cache": self.cache,
            "publish 1": lambda: self.publish("1"),
            "publish 1 again": lambda: self.publish("1"),
            "promote 1": lambda: self.promote("1"),
            "publish 2": lambda: self.publish("2"),
            "promote 2": lambda: self.promote("2"),
            "sign 2": self.sign,
            "roll back": self.roll_back,
            "publish 3": lambda: self.publish("3"),
            "publish 4": lambda: self.publish("4"),
            "promote 4": lambda: self.promote("4"),
            "collect": self.collect,
            "insert": self.insert,
            "repair": self.repair,
            "promote 1 if there": lambda: self._if_there("a@1", lambda: self.promote("1")),
            "sign 2 if there": lambda: self._if_there("a@2", self.sign),
        }

    def whole(self) -> list[Step]:
        """The whole life."""
        return [step for name, step in self.steps().items() if "if there" not in name]

    def _if_there(self, ref: str, step: Step) -> None:
        with suppress(ReleaseNotFound):
            self.store.find(ref)
            step()

    def open(self) -> None:
        self._store = Store.open(self.root)
        self.done.opened = True
        self._promise()

    def add(self) -> None:
        self.done.objects.append(add(self.store, b"lone"))
        self._promise()

    def cache(self) -> None:
        """What a step returned is kept, and then what another run of it did."""
        for text in CACHED:
            results.write(self.store, "trace-1-a", text)
            assert results.read(self.store, "trace-1-a") == text
        self._promise()

    def publish(self, what: str) -> Manifest:
        manifest = publish(self.store, "a", what)
        self.done.published(manifest)
        self._promise()
        return manifest

    def promote(self, what: str) -> AliasEntry:
        entry = promote(self.store, f"a@{what}", "production").after
        self.done.moved(entry)
        self._promise()
        return entry

    def roll_back(self) -> None:
        if aliases.current(self.root, "a", "production").action == "rollback":
            self.done.moved(promote(self.store, "a@1", "production").after)  # it was done, and nobody told us
        else:
            self.done.moved(rollback(self.store, "a", "production").after)
        self._promise()

    def sign(self, ref: str = "a@2") -> None:
        with mock.patch.object(signatures.signing, "sign", lambda *_: b"a bundle"):
            record = signatures.sign(self.store, self.store.find(ref), Path("key"), None)
        self.done.signatures.add((f"{record.model}@{record.version}", record.number))
        self._promise()

    def collect(self) -> None:
        self.close()  # another process does it: nothing of ours is held
        self.done.objects.clear()
        self.done.retired |= {"a@2", "a@3"}
        collect(self.store, keep=1, wait_s=1)
        assert [m.ref for m in self.store.releases()] == ["a@4", "a@1"]
        self._promise()

    def insert(self) -> None:
        """What unpack and pull do, of a release that another store made."""
        own, shared = add(self.store, b"b other " * 3), add(self.store, SHARED, "deep/shared.bin")
        manifest = foreign(self.store, own.digest, shared.digest)
        record = signatures.SignatureRecord(
            model="b", version=7, number=1, bundle="a bundle", who="ann@example", created="2026-01-01T00:00:00+00:00"
        )
        transfer.insert(self.store, manifest, [record])
        self.done.published(manifest)
        self.done.signatures.add((manifest.ref, 1))
        self._promise()

    def repair(self) -> None:
        """The object that every release has was damaged; a release's file that is equal brings it back."""
        if not self.done.damaged:
            add(self.store, SHARED, "copy.bin")
            shared = next((self.root / "objects").rglob("shared.bin"))
            self.done.damaged = True
            self._damage(shared, b"x" + SHARED[1:])
        repair(self.store)
        self.done.damaged = False
        assert verify(self.root).problems == ()
        self._promise()


def lived_in(base: Path) -> Path:
    """A store that has everything in it, sound, with nobody at work."""
    life = Life(base, Acknowledged(), lambda: None, lambda *_: None)
    for step in life.whole()[:-1]:
        step()
    life.sign("a@4")
    life.close()
    collect(life.store)  # nothing unused is left
    life.close()
    return life.root


def foreign(store: Store, *objects: str) -> Manifest:
    """A release that another store published as `b@7`."""
    template = store.find("a@1")
    files = tuple(
        file.model_copy(update={"object": digest, "sha256": _sha(store, digest, file.member), "size": size})
        for file, digest in zip(template.files, objects, strict=True)
        for size in [(layout.object_folder(store.root, digest) / file.member).stat().st_size]
    )
    tables = {"stages": (new_row("stages", step="other"),)}
    source = template.provenance.source.model_copy(update={"digest": digest_of("b other")})
    changes = {"model": "b", "version": 7, "files": files, "tables": tables}
    changes["provenance"] = template.provenance.model_copy(update={"source": source})
    return sealed(template.model_copy(update=changes))


def _sha(store: Store, digest: str, member: str) -> str:
    from artifacts.refs import digest_file

    return digest_file(layout.object_folder(store.root, digest) / member)


def go_on(root: Path, done: Acknowledged) -> None:
    """The store can be used as before: publish, promote, collect, and all of it is sound."""
    store = Store.open(root)
    assert results.read(store, "trace-1-a") in (None, *CACHED), "all of it or nothing"
    manifest = publish(store, "after", "the fault")
    done.published(manifest)
    done.moved(promote(store, manifest.ref, "production").after)
    store.close()
    done.objects.clear()
    collect(store, wait_s=1)
    store.close()
