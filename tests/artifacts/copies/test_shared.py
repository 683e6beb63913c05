"""Two hosts and one bucket: two stores that share a folder, or a bucket on moto, an emulator of S3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artifacts import limits
from artifacts.copies import remote
from artifacts.copies.bucket import Bucket
from artifacts.copies.opening import open_store
from artifacts.copies.shared import SharedStore
from artifacts.errors import AliasMoved, ConfigError, ObjectMissing, ReleaseConflict, ReleaseNotFound, ReplicaError
from artifacts.keeping.promotion import promote, rollback
from artifacts.store import aliases, layout, results
from artifacts.store.garbage import collect
from artifacts.store.signatures import vouched
from artifacts.store.store import BUCKET_VARIABLE, Store
from artifacts.store.verification import verify
from tests.artifacts.places import Place, in_bucket, in_folder
from tests.artifacts.support import add, digest, make_release, place, rewrite
from tests.wording import refusal

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty bucket of each kind, which the environment names."""
    if request.param == "folder":
        made = replace(in_folder(tmp_path / "bucket"), url=str(tmp_path / "bucket"))
    else:
        made = in_bucket(request.getfixturevalue("s3"), f"b{digest(str(tmp_path))[:20]}")
    monkeypatch.setenv(BUCKET_VARIABLE, made.url)
    monkeypatch.setattr(remote, "_LONGEST_WAIT_S", 0.0)
    return made


@pytest.fixture
def hosts(shared: Place, tmp_path: Path) -> tuple[Store, Store]:
    """The stores of two hosts."""
    assert shared.files() == {}
    return open_store(tmp_path / "a"), open_store(tmp_path / "b")


def test_hosts_have_one_identity_and_stores_of_their_own(hosts: tuple[Store, Store], tmp_path: Path) -> None:
    one, two = hosts
    assert one.id == two.id == open_store(tmp_path / "c").id
    assert (one.root / layout.HEADER).read_bytes() != (two.root / layout.HEADER).read_bytes()


def test_an_object_of_one_host_is_found_by_the_other(hosts: tuple[Store, Store], shared: Place) -> None:
    one, two = hosts
    ref = add(one, b"engine" * 1000, "model.engine")
    assert shared.files()[f"objects/{ref.digest[:2]}/{ref.digest}/model.engine"] == b"engine" * 1000
    assert not place(two, ref).exists()
    two.check(ref)
    assert (place(two, ref) / "model.engine").read_bytes() == b"engine" * 1000


def test_a_damaged_or_missing_object_is_restored_from_the_bucket(hosts: tuple[Store, Store]) -> None:
    one, two = hosts
    ref = add(one, b"engine")
    two.check(ref)
    rewrite(place(two, ref) / "a.bin", b"enginE")
    two.check(ref)
    assert (place(two, ref) / "a.bin").read_bytes() == b"engine"


def test_an_object_that_nobody_has_is_missing(hosts: tuple[Store, Store], shared: Place) -> None:
    one, two = hosts
    ref = add(one, b"engine")
    shared.remove(f"objects/{ref.digest[:2]}/{ref.digest}/a.bin")
    with pytest.raises(ObjectMissing):
        two.check(ref)


@pytest.mark.parametrize("damage", [b"enginE", b"engin"])
def test_what_is_damaged_in_the_bucket_is_refused_and_replaced_by_who_makes_it_again(
    hosts: tuple[Store, Store], shared: Place, damage: bytes, tmp_path: Path
) -> None:
    one, two = hosts
    ref = add(one, b"engine")
    path = f"objects/{ref.digest[:2]}/{ref.digest}/a.bin"
    shared.write(path, damage)
    with pytest.raises((ReplicaError, ObjectMissing)):
        two.check(ref)
    assert not place(two, ref).exists()
    assert list((two.root / "staging").iterdir()) == []
    assert add(two, b"engine") == ref
    assert shared.files()[path] == b"engine"
    open_store(tmp_path / "c").check(ref)


def test_a_release_of_one_host_is_the_others_too(hosts: tuple[Store, Store], shared: Place) -> None:
    one, two = hosts
    ref = add(one, b"engine")
    made, _ = make_release(one, "m", digest("one"), ref)
    assert two.find("m") == made
    assert not place(two, ref).exists()
    assert verify(two.root).problems == ()
    assert two.read(made, "image/a.bin").read_bytes() == b"engine"
    again, new = make_release(two, "m", digest("one"), ref)
    assert (again, new) == (made, False)
    following, new = make_release(two, "m", digest("two"), ref)
    assert (following.version, new) == (2, True)
    assert make_release(one, "n", digest("three"), ref)[0].sequence == 3
    assert one.find("m") == following
    names = {name for name in shared.files() if name.startswith("releases")}
    assert names == {"releases/m/1.json", "releases/m/2.json", "releases/n/1.json"}
    assert verify(one.root).problems == verify(two.root).problems == ()


@pytest.mark.usefixtures("shared")
def test_racing_hosts_get_versions_of_their_own(tmp_path: Path) -> None:
    stores = [open_store(tmp_path / f"host{n}") for n in range(4)]
    barrier = threading.Barrier(len(stores), timeout=60)

    def publish(number: int) -> list[int]:
        ref = add(stores[number], b"%d" % number)
        barrier.wait()
        return [make_release(stores[number], "m", digest(f"{number} {k}"), ref)[0].version for k in range(3)]

    with ThreadPoolExecutor(len(stores)) as pool:
        versions = [version for made in pool.map(publish, range(4)) for version in made]
    assert sorted(versions) == list(range(1, 13))
    for store in stores:
        store.refresh()
        assert len(store.releases()) == 12
        sources = {m.provenance.source.digest for m in store.releases()}
        assert sources == {digest(f"{n} {k}") for n in range(4) for k in range(3)}
        assert verify(store.root).problems == ()


@pytest.mark.usefixtures("shared")
def test_of_hosts_that_publish_the_same_one_does(tmp_path: Path) -> None:
    stores = [open_store(tmp_path / f"host{n}") for n in range(3)]
    refs = [add(store, b"same") for store in stores]
    barrier = threading.Barrier(len(stores), timeout=60)

    def publish(number: int) -> tuple[int, bool]:
        barrier.wait()
        created = f"2026-01-01T00:00:0{number}+00:00"
        made, new = make_release(stores[number], "m", digest("same"), refs[number], created=created)
        return made.version, new

    with ThreadPoolExecutor(len(stores)) as pool:
        made = list(pool.map(publish, range(3)))
    assert {version for version, _ in made} == {1}
    assert sorted(new for _, new in made) == [False, False, True]


def test_an_alias_is_one_for_all(hosts: tuple[Store, Store]) -> None:
    one, two = hosts
    first, _ = make_release(one, "m", digest("1"), add(one, b"1"))
    second, _ = make_release(two, "m", digest("2"), add(two, b"2"))
    promote(one, "m@1", "production")
    assert two.find("m:production") == first
    promote(two, "m@2", "production")
    assert one.find("m:production") == second
    assert rollback(one, "m", "production").after.version == 1
    assert two.find("m:production") == first
    assert [e.version for e in aliases.history(two.root, "m", "production")] == [1, 2, 1]
    assert verify(one.root).problems == verify(two.root).problems == ()


def test_of_hosts_that_move_an_alias_at_once_one_does(hosts: tuple[Store, Store]) -> None:
    one, two = hosts
    make_release(one, "m", digest("1"), add(one, b"1"))
    make_release(one, "m", digest("2"), add(one, b"2"))
    make_release(one, "m", digest("3"), add(one, b"3"))
    promote(one, "m@1", "production")
    two.refresh()
    two.refresh = lambda: None  # type: ignore[method-assign]  # it has looked before the other moves
    promote(one, "m@2", "production")
    with pytest.raises(AliasMoved, match="to m@2"):
        promote(two, "m@3", "production", seen=1)
    assert aliases.current(two.root, "m", "production").version == 2
    assert len(aliases.history(one.root, "m", "production")) == 2


def test_a_retired_version_stays_taken_on_all_hosts(hosts: tuple[Store, Store], tmp_path: Path) -> None:
    one, two = hosts
    for text in ("1", "2"):
        make_release(one, "m", digest(text), add(one, text.encode()))
    two.refresh()
    assert collect(one, keep=1).releases == ("m@1",)
    fresh = open_store(tmp_path / "c")
    assert [m.ref for m in fresh.releases()] == ["m@2"]
    with pytest.raises(ReleaseNotFound, match="was retired"):
        fresh.find("m@1")
    two.refresh()
    assert collect(two, keep=1).releases == ("m@1",)  # nothing keeps the other host from doing the same
    assert make_release(fresh, "m", digest("3"), add(fresh, b"3"))[0].version == 3
    assert all(verify(s.root).problems == () for s in (one, two, fresh))


@pytest.mark.parametrize("when", ["claim", "_keep"])
def test_killed_while_publishing(shared: Place, tmp_path: Path, when: str) -> None:
    script = f"""
import os, sys
from artifacts.copies import bucket, shared
from artifacts.copies.opening import open_store
from tests.artifacts.places import Place, in_bucket, in_folder
from tests.artifacts.support import add, digest, make_release
store = open_store(sys.argv[1])
ref = add(store, b"engine")
target = bucket.Bucket if {when!r} == "claim" else shared.SharedStore
setattr(target, {when!r}, lambda *_, **__: os.kill(os.getpid(), 9))
make_release(store, "m", digest("one"), ref)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    other = open_store(tmp_path / "b")
    claimed = when == "_keep"  # the moment at which it is published lies between the two
    assert [m.ref for m in other.releases()] == (["m@1"] if claimed else [])
    assert any(name.startswith("objects") for name in shared.files())
    store = open_store(tmp_path / "a")
    made, new = make_release(store, "m", digest("one"), add(store, b"engine"))
    assert (made.version, new) == (1, not claimed)
    assert verify(store.root).problems == ()


def test_no_manifest_without_its_objects(hosts: tuple[Store, Store], shared: Place) -> None:
    one, _ = hosts
    ref = add(one, b"engine")
    shared.remove(f"objects/{ref.digest[:2]}/{ref.digest}/a.bin")
    reopened = open_store(one.root)
    make_release(reopened, "m", digest("one"), ref)
    assert shared.files()[f"objects/{ref.digest[:2]}/{ref.digest}/a.bin"] == b"engine"


def test_a_store_takes_its_releases_along(shared: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BUCKET_VARIABLE)
    alone = open_store(tmp_path / "a")
    ref = add(alone, b"engine")
    made, _ = make_release(alone, "m", digest("one"), ref)
    promote(alone, "m@1", "production")
    monkeypatch.setenv(BUCKET_VARIABLE, shared.url)
    assert open_store(tmp_path / "a").id != alone.id
    two = open_store(tmp_path / "b")
    assert two.find("m:production") == made
    two.check(ref)
    monkeypatch.delenv(BUCKET_VARIABLE)
    with refusal(ConfigError, "bucket.json"):
        open_store(tmp_path / "a")
    assert open_store(tmp_path / "a", writable=False).releases() == [made]


def test_different_histories_are_not_mixed(shared: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_store(tmp_path / "a")
    make_release(first, "m", digest("one"), add(first, b"1"))
    before = shared.files()
    monkeypatch.delenv(BUCKET_VARIABLE)
    alone = open_store(tmp_path / "b")
    ref = add(alone, b"2")
    make_release(alone, "m", digest("two"), ref)
    monkeypatch.setenv(BUCKET_VARIABLE, shared.url)
    with pytest.raises(ReleaseConflict, match="different histories"):
        open_store(tmp_path / "b")
    assert {name: data for name, data in shared.files().items() if ref.digest not in name} == before


def test_a_working_copy_belongs_to_one_bucket(
    hosts: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BUCKET_VARIABLE, str(tmp_path / "another"))
    with pytest.raises(ConfigError, match="another bucket"):
        open_store(hosts[0].root)


@pytest.mark.parametrize("name", ["aliases/m/production/1.json", "bucket.json"])
def test_a_damaged_record_is_refused(hosts: tuple[Store, Store], shared: Place, tmp_path: Path, name: str) -> None:
    one, _ = hosts
    make_release(one, "m", digest("one"), add(one, b"1"))
    promote(one, "m", "production")
    shared.write(name, shared.files()[name].replace(b'"format":1', b'"format": 1'))
    with pytest.raises(ReplicaError) as caught:
        open_store(tmp_path / "c")
    assert str(caught.value.where).endswith(name)


@pytest.mark.parametrize(("number", "edit"), [(1, b'"format": 1'), (2, b'"format":1')])
def test_a_release_that_is_damaged_or_elsewhere_than_in_its_place_is_named_and_left_out(
    hosts: tuple[Store, Store],
    shared: Place,
    tmp_path: Path,
    number: int,
    edit: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    one, _ = hosts
    make_release(one, "m", digest("one"), add(one, b"1"))
    make_release(one, "n", digest("two"), add(one, b"2"))
    data = shared.files()["releases/m/1.json"].replace(b'"format":1', edit)
    shared.write(f"releases/m/{number}.json", data)
    other = open_store(tmp_path / "c")
    assert f"releases/m/{number}.json" in caplog.text
    assert [summary["ref"] for summary in other.summaries()[0]] == (["n@1"] if number == 1 else ["n@1", "m@1"])
    made, _ = make_release(other, "m", digest("three"), add(other, b"3"))
    assert made.version == number + 1


def test_an_alias_elsewhere_than_in_its_place_is_refused(
    hosts: tuple[Store, Store], shared: Place, tmp_path: Path
) -> None:
    one, _ = hosts
    make_release(one, "m", digest("one"), add(one, b"1"))
    promote(one, "m", "production")
    shared.write("aliases/m/staging/1.json", shared.files()["aliases/m/production/1.json"])
    with pytest.raises(ReplicaError, match="not in its place"):
        open_store(tmp_path / "c")


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_LONGEST_WAIT_S", 0.0)
    monkeypatch.setenv(BUCKET_VARIABLE, "s3://no-such-bucket/team")
    with refusal(ReplicaError, "s3://no-such-bucket/team/bucket.json") as caught:
        open_store(tmp_path / "a")
    assert str(caught.value.where).startswith("s3://no-such-bucket/team")


def test_a_bucket_that_goes_away(hosts: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = hosts
    ref = add(one, b"1")

    def lost(*_: Any, **__: Any) -> Any:
        raise ConnectionError("gone")

    for name in ("create", "sizes", "read", "upload"):
        monkeypatch.setattr(remote.Remote, name, lambda self, path, *_: self._call("used", path, lost))
    for action in (lambda: make_release(one, "m", digest("one"), ref), lambda: add(one, b"2"), lambda: one.find("m")):
        with refusal(ReplicaError):
            action()
    with pytest.raises(ReplicaError):
        results.write(one, "trace-1-a", "text")
    assert results.read(one, "trace-1-a") is None
    monkeypatch.undo()
    assert list(layout.manifests(one.root)) == []


def test_what_a_step_returned_is_every_hosts(hosts: tuple[Store, Store], shared: Place) -> None:
    one, two = hosts
    assert results.read(two, "trace-1-a") is None
    results.write(one, "trace-1-a", "text", step=("trace", 1))
    assert results.read(two, "trace-1-a") == results.read(one, "trace-1-a") == "text"
    assert [name for name in shared.files() if name.startswith("cache")] == ["cache/results/trace-1-a.json"]
    results.write(two, "trace-1-a", "newer")
    assert results.read(one, "trace-1-a") == "newer"
    assert collect(one).leftovers == ()


@pytest.mark.usefixtures("shared")
def test_of_what_another_host_computed_no_release_is_made_that_this_one_vouches_for(tmp_path: Path) -> None:
    """Whoever may write in the bucket could have put it there, a pickle among its objects."""
    name = results.name_of("quantize", 2, digest("key"))

    def published(host: str, what: str, *, computes: bool) -> bool:
        store = open_store(tmp_path / host)  # a run of its own
        results.begin(store)
        if results.read(store, name) is None or computes:
            results.write(store, name, what, step=("quantize", 2))
        made, _ = make_release(store, "m", digest(what), add(store, what.encode()))
        return vouched(store, made)

    assert published("a", "one", computes=True)
    assert published("a", "two", computes=False), "this host did it"
    assert not published("b", "three", computes=False)
    assert published("b", "four", computes=True)
    assert not published("a", "five", computes=False), "what the other has put in its place"


@pytest.mark.parametrize("damage", ["one bit", "torn", "empty", "another's", "too large"])
def test_what_is_forged_or_damaged_in_the_bucket_is_named_and_gives_way(
    hosts: tuple[Store, Store], shared: Place, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = hosts
    path = "cache/results/trace-1-a.json"
    results.write(one, "trace-1-a", "text", step=("trace", 1))
    results.write(one, "trace-1-b", "passed", step=("trace", 1))
    whole = shared.files()[path]
    shared.write(
        path,
        {
            "one bit": whole.replace(b"text", b"tezt"),
            "torn": whole[: len(whole) // 2],
            "empty": b"",
            "another's": shared.files()["cache/results/trace-1-b.json"],
            "too large": b" " * (limits.RESULT.bytes + 1),
        }[damage],
    )
    assert results.read(two, "trace-1-a") is None
    assert "not used: the entry trace-1-a of the store's cache" in caplog.text
    results.write(two, "trace-1-a", "made again", step=("trace", 1))
    assert results.read(one, "trace-1-a") == "made again"


@pytest.mark.parametrize(
    ("url", "error"), [("memory://x", ConfigError), ("s3://user:password@x/y", ConfigError), ("store", ReplicaError)]
)
def test_what_cannot_be_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, error: type) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(tmp_path / "store")
    with pytest.raises(error):
        Bucket(url)


def test_reading_alone_does_not_join(shared: Place, tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path / "a"), SharedStore)
    assert not isinstance(open_store(tmp_path / "a", writable=False), SharedStore)
    assert os.environ[BUCKET_VARIABLE] == shared.url
