"""P8: the store against a dictionary, whatever is done to it in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from artifacts import fs
from artifacts.errors import AliasMoved, AliasNotFound, ConfigError, NothingToRollBack, ReleaseNotFound, ReleaseRejected
from artifacts.keeping.promotion import Move, promote, rollback
from artifacts.manifest import GateResult, Manifest
from artifacts.refs import ArtifactRef
from artifacts.store import aliases, layout
from artifacts.store.garbage import Collected, collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release
from tests.faults.support import scratch

MODELS = st.sampled_from(["a", "b"])
WHATS = st.sampled_from(["1", "2", "3", "4", "5"])
ALIASES = st.sampled_from(["production", "staging"])
VERSIONS = st.integers(1, 6)
REJECTED = GateResult(name="fidelity", status="failed", min=0.9, value=0.5)


@dataclass
class Release:
    """What the model knows of a release."""

    what: str
    sequence: int
    objects: frozenset[str]
    rejected: bool


@dataclass
class Model:
    """A store as dictionaries."""

    releases: dict[tuple[str, int], Release] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)  # the last one ever given
    moves: dict[tuple[str, str], list[tuple[str, int, bool]]] = field(default_factory=dict)  # action, version, forced
    objects: set[str] = field(default_factory=set)
    mine: set[str] = field(default_factory=set)  # what the store under test holds
    pinned: set[str] = field(default_factory=set)  # what the second store holds

    def newest(self, model: str) -> int | None:
        return max((version for name, version in self.releases if name == model), default=None)

    def back(self, model: str, alias: str) -> int | None:
        """Where a rollback goes, found by replaying the moves."""
        stack: list[int] = []
        for action, version, _ in self.moves[model, alias]:
            if action == "promote":
                stack.append(version)
            else:
                del stack[-1]
        return stack[-2] if len(stack) > 1 else None

    def held(self) -> set[tuple[str, int]]:
        """What aliases hold."""
        found = set()
        for (model, alias), moves in self.moves.items():
            found.add((model, moves[-1][1]))
            back = self.back(model, alias)
            if back is not None:
                found.add((model, back))
        return found

    def to_retire(self, keep: int) -> set[tuple[str, int]]:
        kept = {
            (model, version)
            for model in {name for name, _ in self.releases}
            for version in sorted(v for name, v in self.releases if name == model)[-keep:]
        }
        return set(self.releases) - kept - self.held()


class StoreMachine(RuleBasedStateMachine):
    """Rules do the same to both; invariants compare them."""

    @initialize()
    def begin(self) -> None:
        self.folder = scratch("machine")
        self.root = Path(self.folder.name) / "store"
        self.store, self.second = Store.open(self.root), Store.open(self.root)
        self.model = Model()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.store.close()
            self.second.close()
            self.folder.cleanup()

    # --- rules -----------------------------------------------------------------------------------------------

    @rule(what=WHATS)
    def add(self, what: str) -> None:
        self._own(add(self.store, what.encode()))

    @rule(model=MODELS, what=WHATS, rejected=st.booleans())
    def publish(self, model: str, what: str, rejected: bool) -> None:
        same = (model, what, rejected)  # what gates found is part of a release's identity
        known = {v for (name, v), r in self.model.releases.items() if (name, r.what, r.rejected) == same}
        refs = [add(self.store, data) for data in (what.encode(), b"shared")]
        for ref in refs:
            self._own(ref)
        gates = (REJECTED,) if rejected else ()
        manifest, new = make_release(self.store, model, digest(f"{model}{what}"), *refs, gates=gates)
        if known:
            assert not new
            assert manifest.version in known
            return
        assert new
        version = self.model.versions.get(model, 0) + 1
        assert manifest.version == version, "versions count up and are never given twice"
        sequence = 1 + max((release.sequence for release in self.model.releases.values()), default=0)
        assert manifest.sequence == sequence
        self.model.versions[model] = version
        objects = frozenset(ref.digest for ref in refs)
        self.model.releases[model, version] = Release(what, sequence, objects, rejected)

    @rule(model=MODELS, version=VERSIONS, alias=ALIASES, force=st.booleans())
    def promote(self, model: str, version: int, alias: str, force: bool) -> None:
        release = self.model.releases.get((model, version))
        moves = self.model.moves.get((model, alias), [])
        expected = _failure(release, force)
        why = "because" if force else None
        move = _outcome(lambda: promote(self.store, f"{model}@{version}", alias, force=force, why=why))
        if expected is not None:
            assert move is expected
            return
        assert isinstance(move, Move) and release is not None
        stays = bool(moves) and moves[-1][1] == version
        assert move.moved is not stays
        if not stays:
            self._moved(model, alias, "promote", version, release.rejected)

    @rule(model=MODELS, alias=ALIASES)
    def rollback(self, model: str, alias: str) -> None:
        outcome = _outcome(lambda: rollback(self.store, model, alias))
        if (model, alias) not in self.model.moves:
            assert outcome is AliasNotFound
            return
        back = self.model.back(model, alias)
        if back is None:
            assert outcome is NothingToRollBack
        elif (model, back) not in self.model.releases:
            assert outcome is ReleaseNotFound
        else:
            assert isinstance(outcome, Move)
            assert outcome.after.version == back
            self._moved(model, alias, "rollback", back, self.model.releases[model, back].rejected)

    @rule(model=MODELS, alias=ALIASES, late=st.integers(0, 9))
    @precondition(lambda self: self.model.moves)
    def promote_on_an_old_view(self, model: str, alias: str, late: int) -> None:
        moves, newest = self.model.moves.get((model, alias), []), self.model.newest(model)
        if newest is None or late >= len(moves):
            return
        call = lambda: promote(self.store, f"{model}@{newest}", alias, force=True, why="x", seen=late)  # noqa: E731
        assert _outcome(call) is AliasMoved

    @rule(keep=st.sampled_from([None, 1, 2]), dry_run=st.booleans())
    def collect(self, keep: int | None, dry_run: bool) -> None:
        retired = set() if keep is None else self.model.to_retire(keep)
        left = {key: release for key, release in self.model.releases.items() if key not in retired}
        needed = set().union(*(release.objects for release in left.values()), self.model.mine, self.model.pinned)
        found = collect(self.second, keep=keep, dry_run=dry_run)
        assert isinstance(found, Collected)
        assert {tuple(ref.split("@")) for ref in found.releases} == {(model, str(v)) for model, v in retired}
        assert set(found.objects) == self.model.objects - needed
        if not dry_run:
            self.model.releases = left
            self.model.objects &= needed

    @rule()
    def reopen(self) -> None:
        """As a new process: it holds nothing."""
        self.store.close()
        self.store = Store.open(self.root)
        self.model.mine = set()

    @rule(model=MODELS)
    def pin(self, model: str) -> None:
        """Another process reads the newest release, and holds what it reads."""
        version = self.model.newest(model)
        if version is None:
            assert _outcome(lambda: self.second.find(f"{model}@1")) is ReleaseNotFound
            return
        manifest = self.second.find(model)
        for ref in manifest.objects():
            self.second.check(ref)
            self.model.pinned.add(ref.digest)

    @rule()
    def unpin(self) -> None:
        self.second.close()
        self.model.pinned = set()

    # --- invariants ------------------------------------------------------------------------------------------

    @invariant()
    def releases_agree(self) -> None:
        found = Store.open(self.root, writable=False).releases()
        wanted = sorted(
            ((r.sequence, model, version, r.what) for (model, version), r in self.model.releases.items()), reverse=True
        )
        assert [(m.sequence, m.model, m.version, _what(self.store, m)) for m in found] == wanted
        assert [s["ref"] for s in self.store.summaries()[0]] == [m.ref for m in found]
        for model in ("a", "b"):
            newest = self.model.newest(model)
            outcome = _outcome(lambda name=model: self.store.find(name))
            assert outcome is ReleaseNotFound if newest is None else outcome.version == newest  # type: ignore[union-attr]

    @invariant()
    def aliases_agree(self) -> None:
        assert set(aliases.names(self.root)) == set(self.model.moves)
        for (model, alias), moves in self.model.moves.items():
            history = aliases.history(self.root, model, alias)
            assert [(entry.action, entry.version, entry.forced) for entry in history] == moves
            assert self.store.find(f"{model}:{alias}").version == moves[-1][1], "an alias dangles"

    @invariant()
    def objects_agree(self) -> None:
        assert {path.name for path in (self.root / "objects").glob("*/*")} == self.model.objects

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert verify(self.root).problems == ()
        assert list((self.root / "staging").iterdir()) == []

    # --- helpers ---------------------------------------------------------------------------------------------

    def _own(self, ref: ArtifactRef) -> None:
        self.model.objects.add(ref.digest)
        self.model.mine.add(ref.digest)

    def _moved(self, model: str, alias: str, action: str, version: int, forced: bool) -> None:
        self.model.moves.setdefault((model, alias), []).append((action, version, forced))


def _failure(release: Release | None, force: bool) -> type[Exception] | None:
    if release is None:
        return ReleaseNotFound
    return ReleaseRejected if release.rejected and not force else None


def _outcome(call: object) -> object:
    """What a call returned, or the type of what it raised."""
    try:
        return call()  # type: ignore[operator]
    except (ReleaseNotFound, ReleaseRejected, AliasNotFound, AliasMoved, NothingToRollBack, ConfigError) as error:
        return type(error)


def _what(store: Store, manifest: Manifest) -> str:
    return store.read(manifest, "image/a.bin").read_text()


StoreMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestStoreAgainstADictionary = StoreMachine.TestCase


def test_the_machine_has_teeth() -> None:
    """An object lost behind the model's back is seen at once."""
    machine = StoreMachine()
    machine.begin()
    try:
        machine.add("1")
        machine.objects_agree()
        (folder,) = (machine.root / "objects").glob("*/*")
        fs.discard_tree(folder)
        lost = layout.object_folder(machine.root, folder.name)
        assert not lost.exists()
        try:
            machine.objects_agree()
        except AssertionError:
            return
        raise RuntimeError("the machine did not see it")
    finally:
        machine.teardown()
