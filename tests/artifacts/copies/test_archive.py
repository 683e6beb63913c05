"""Archives: what `pack` writes any tar can read, and `unpack` takes nothing else in."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts import fs
from artifacts.copies import transfer
from artifacts.copies.archive import pack, unpack
from artifacts.errors import (
    BadArchive,
    DamagedSignature,
    DiskFull,
    ExportFailed,
    ExportTargetExists,
    ObjectDamaged,
    ObjectMissing,
    ReleaseConflict,
    StoreBusy,
)
from artifacts.manifest import Manifest
from artifacts.records import dump
from artifacts.refs import ArtifactRef, FileEntry
from artifacts.store import layout
from artifacts.store.signatures import SignatureRecord, signatures
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release, rewrite, sealed
from tests.wording import refusal

LONG = "folder/" + "n" * 150 + ".bin"


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """A second, empty store."""
    return Store.open(tmp_path / "other")


@pytest.fixture
def release(store: Store) -> Manifest:
    """A release of three objects: small, empty with a long name, and longer than what is read at once."""
    small, empty, big = (
        add(store, b"hello"),
        add(store, b"", LONG),
        add(store, b"0123456789abcdef" * 100_000, "b/c.bin"),
    )
    return make_release(store, "m", digest("one"), small, empty, big)[0]


@pytest.fixture
def packed(store: Store, tmp_path: Path) -> Path:
    """A small packed release, 10 kB."""
    manifest, _ = make_release(store, "m", digest("one"), add(store, b"hello"), add(store, b"world", "b.bin"))
    pack(store, manifest, tmp_path / "small.tar")
    return tmp_path / "small.tar"


def sign(store: Store, manifest: Manifest, number: int = 1, bundle: str = "{}") -> SignatureRecord:
    """A signature as the store keeps it; nobody looks into its bundle here."""
    record = SignatureRecord(
        model=manifest.model,
        version=manifest.version,
        number=number,
        bundle=bundle,
        who="me",
        created="2026-01-01T00:00:00Z",
    )
    path = layout.signature_folder(store.root, manifest.model, manifest.version) / f"{number}.json"
    store.write_record(path, dump(record))
    return record


def members(file: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Every member of an archive, as the standard library reads it."""
    with tarfile.open(file, "r:") as tar:
        return [(info, stream.read() if (stream := tar.extractfile(info)) else b"") for info in tar]


def contents(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """Every file of a release."""
    return {file.path: store.read(manifest, file.path).read_bytes() for file in manifest.files}


# --- packing -----------------------------------------------------------------------------------------------


def test_any_tar_reads_an_archive(store: Store, release: Manifest, tmp_path: Path) -> None:
    sign(store, release)
    pack(store, release, tmp_path / "release.tar")
    found = members(tmp_path / "release.tar")
    objects = sorted((f"objects/{file.object}/{file.member}", file) for file in release.files)
    assert [info.name for info, _ in found] == [
        "clipsmith-release.json",
        "manifest.json",
        *(name for name, _ in objects),
        "signatures/1.json",
    ]
    assert found[1][1] == layout.manifest_path(store.root, "m", 1).read_bytes()
    assert [data for _, data in found[2:-1]] == [store.read(release, file.path).read_bytes() for _, file in objects]
    assert found[-1][1] == (layout.signature_folder(store.root, "m", 1) / "1.json").read_bytes()
    attributes = {(i.type, i.mode, i.uid, i.gid, i.uname, i.gname, i.mtime, i.linkname) for i, _ in found}
    assert attributes == {(tarfile.REGTYPE, 0o444, 0, 0, "", "", 0, "")}
    assert (tmp_path / "release.tar").stat().st_size % tarfile.RECORDSIZE == 0


def test_equal_releases_make_equal_bytes(store: Store, other: Store, release: Manifest, tmp_path: Path) -> None:
    pack(store, release, tmp_path / "first.tar")
    for file in release.files:
        os.utime(layout.object_folder(store.root, file.object) / file.member, (1, 1))
    pack(store, release, tmp_path / "second.tar")
    manifest, _ = unpack(other, tmp_path / "first.tar")
    pack(other, manifest, tmp_path / "third.tar")
    assert len({(tmp_path / f"{name}.tar").read_bytes() for name in ("first", "second", "third")}) == 1


def test_the_format_stays_what_it_was(store: Store, release: Manifest, tmp_path: Path) -> None:
    sign(store, release)
    pack(store, release, tmp_path / "release.tar")
    data, found = (tmp_path / "release.tar").read_bytes(), members(tmp_path / "release.tar")
    rest = data[: found[1][0].offset] + data[found[2][0].offset :].rstrip(b"\0")  # manifests may gain fields
    # When this changes, no archive written so far can be read: raise the format, and read both.
    assert hashlib.sha256(rest).hexdigest() == "d2e6b4895b5ad06607f5f1fc9035d812fa544fcfdad394a8fa88ffa90820d08c"


@pytest.mark.parametrize("what", ["file", "folder", "dangling link"])
def test_an_existing_file_is_never_replaced(store: Store, release: Manifest, tmp_path: Path, what: str) -> None:
    target = tmp_path / "there.tar"
    {"file": target.touch, "folder": target.mkdir, "dangling link": lambda: target.symlink_to("nothing")}[what]()
    with pytest.raises(ExportTargetExists):
        pack(store, release, target)
    assert target.is_symlink() or target.is_dir() or target.read_bytes() == b""


def test_a_file_that_cannot_be_written(store: Store, release: Manifest, tmp_path: Path) -> None:
    with refusal(ExportFailed, "release.tar"):
        pack(store, release, tmp_path / "nowhere" / "release.tar")


@pytest.mark.parametrize("damage", ["flip", "shorten", "lengthen", "gone"])
def test_a_damaged_object_is_not_packed(store: Store, release: Manifest, tmp_path: Path, damage: str) -> None:
    path = layout.object_folder(store.root, release.files[-1].object) / "b" / "c.bin"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        rewrite(path, {"flip": data[:-1] + b"x", "shorten": data[:-1], "lengthen": data + b"x"}[damage])
    with pytest.raises(ObjectMissing if damage == "gone" else ObjectDamaged, match=r"b/c\.bin") as caught:
        pack(store, release, tmp_path / "release.tar")
    assert caught.value.where == str(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_damaged_signature_is_not_packed(store: Store, release: Manifest, tmp_path: Path) -> None:
    sign(store, release)
    rewrite(layout.signature_folder(store.root, "m", 1) / "1.json", b"{}")
    with pytest.raises(DamagedSignature):
        pack(store, release, tmp_path / "release.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_no_collector_comes_in_between(
    store: Store, release: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, refused = transfer.verified_chunks, []

    def chunks(*arguments: object) -> Iterator[bytes]:
        with pytest.raises(StoreBusy), store.alone(0):
            pass
        refused.append(True)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "verified_chunks", chunks)
    pack(store, release, tmp_path / "release.tar")
    assert refused == [True] * 3


def test_a_full_disk_leaves_nothing(
    store: Store, release: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(fs, "flush_file", full)
    with pytest.raises(ExportFailed, match="No space left"):
        pack(store, release, tmp_path / "release.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


# --- unpacking ---------------------------------------------------------------------------------------------


def test_a_release_arrives_as_it_was(store: Store, other: Store, release: Manifest, tmp_path: Path) -> None:
    record = sign(store, release)
    pack(store, release, tmp_path / "release.tar")
    assert unpack(other, tmp_path / "release.tar") == (release, True)
    assert contents(other, other.find("m@1")) == contents(store, release)
    manifests = [layout.manifest_path(root, "m", 1).read_bytes() for root in (store.root, other.root)]
    assert manifests[0] == manifests[1]
    assert signatures(other.root, "m", 1) == [record]
    found = verify(other.root)
    assert (found.problems, found.releases, found.objects) == ((), 1, 3)
    assert list((other.root / "staging").iterdir()) == []


def test_unpacking_again_changes_nothing(store: Store, release: Manifest, tmp_path: Path) -> None:
    def inodes() -> dict[Path, int]:
        paths = (path for path in store.root.rglob("*") if path.is_file() and path.parent.name != "leases")
        return {path: path.stat().st_ino for path in paths}

    sign(store, release)
    pack(store, release, tmp_path / "release.tar")
    before = inodes()
    assert unpack(store, tmp_path / "release.tar") == (release, False)
    assert inodes() == before


def test_what_is_in_the_store_is_still_read_from_the_archive(store: Store, packed: Path) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data.replace(b"hello", b"hallo"))
    with pytest.raises(BadArchive, match="damaged"):
        unpack(store, packed)


def test_signatures_of_both_sides_are_kept(store: Store, other: Store, release: Manifest, tmp_path: Path) -> None:
    pack(store, release, tmp_path / "unsigned.tar")
    unpack(other, tmp_path / "unsigned.tar")
    sign(store, release, bundle="mine")
    sign(other, release, bundle="theirs")
    pack(store, release, tmp_path / "release.tar")
    for _ in range(2):
        unpack(other, tmp_path / "release.tar")
        assert [(r.number, r.bundle) for r in signatures(other.root, "m", 1)] == [(1, "theirs"), (2, "mine")]
    assert verify(other.root).problems == ()


@pytest.mark.parametrize("where", ["object", "manifest", "signature"])
def test_unpacking_restores_what_is_damaged(store: Store, release: Manifest, tmp_path: Path, where: str) -> None:
    sign(store, release)
    pack(store, release, tmp_path / "release.tar")
    path = {
        "object": layout.object_folder(store.root, release.files[0].object) / release.files[0].member,
        "manifest": layout.manifest_path(store.root, "m", 1),
        "signature": layout.signature_folder(store.root, "m", 1) / "1.json",
    }[where]
    sound = path.read_bytes()
    rewrite(path, sound.replace(b"e", b"a", 1))
    assert len(verify(store.root).problems) == 1
    unpack(store, tmp_path / "release.tar")
    assert path.read_bytes() == sound
    assert verify(store.root).problems == ()


def test_another_release_of_the_same_name_stays(other: Store, packed: Path) -> None:
    mine, _ = make_release(other, "m", digest("two"), add(other, b"mine"))
    with pytest.raises(ReleaseConflict, match="m@1"):
        unpack(other, packed)
    assert other.find("m@1") == mine
    assert verify(other.root).objects == 1


def test_a_full_disk_publishes_nothing(other: Store, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(fs, "flush_file", full)
    with pytest.raises(DiskFull):
        unpack(other, packed)
    monkeypatch.undo()
    assert_untouched(other)


# --- hostile archives --------------------------------------------------------------------------------------

Member = tuple[tarfile.TarInfo, bytes]


def assert_untouched(store: Store) -> None:
    """No release, nothing half done, and nothing outside its place."""
    assert store.releases() == []
    assert list((store.root / "staging").iterdir()) == []
    assert {path.name for path in store.root.iterdir()} <= {*layout.FOLDERS, layout.HEADER, layout.PUBLISH_LOCK}
    assert verify(store.root).problems == ()


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", **more: object) -> Member:
    """A member with the attributes that `pack` gives."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = len(data), 0o444, kind, link
    for attribute, value in more.items():
        setattr(info, attribute, value)
    return info, data


def build(found: list[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these members, made by the standard library."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=form) as tar:
        for info, data in found:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def insert(position: int, member: Member) -> Callable[[list[Member]], list[Member]]:
    """Put a member at a place."""
    return lambda found: [*found[:position], member, *found[position:]]


def swap(position: int, **changes: object) -> Callable[[list[Member]], list[Member]]:
    """Change attributes of a member."""

    def change(found: list[Member]) -> list[Member]:
        info, data = found[position]
        values = {"name": info.name, "data": data, "kind": info.type} | changes
        return [*found[:position], entry(**values), *found[position + 1 :]]  # type: ignore[arg-type]

    return change


HOSTILE: dict[str, tuple[Callable[[list[Member]], list[Member]], str]] = {
    "a file more": (insert(2, entry("objects/evil", b"x")), "'objects/evil'"),
    "a file more at the end": (insert(4, entry("evil", b"x")), "'evil'.*does not list"),
    "the same file twice": (lambda found: [*found[:3], found[2], *found[3:]], "where objects/"),
    "the same file twice at the end": (lambda found: [*found, found[-1]], "does not list"),
    "two manifests": (lambda found: [*found[:2], *found[1:]], "'manifest.json'"),
    "a file less": (lambda found: found[:3], "no tar header"),
    "another order": (lambda found: [*found[:2], found[3], found[2]], "where objects/"),
    "no header": (lambda found: found[1:], "not an archive that `clipsmith pack` wrote"),
    "no manifest": (lambda found: [found[0], *found[2:]], "where manifest.json should be"),
    "only a header": (lambda found: found[:1], "no tar header"),
    "nothing": (lambda found: found[:0], "no tar header"),
    "an absolute name": (swap(2, name="/etc/cron.d/evil"), "'/etc/cron.d/evil'"),
    "a name that climbs": (swap(2, name="../../evil"), r"'\.\./\.\./evil'"),
    "an absolute name more": (insert(4, entry("/tmp/evil", b"x")), "does not list"),
    "a name that climbs more": (insert(4, entry("signatures/../../evil.json", b"x")), "does not list"),
    "a symbolic link": (swap(2, kind=tarfile.SYMTYPE, data=b"", link="/etc/passwd"), "a symbolic link"),
    "a hard link": (swap(3, kind=tarfile.LNKTYPE, data=b"", link="objects/evil"), "a hard link"),
    "a link more": (insert(2, entry("objects", kind=tarfile.SYMTYPE, link="/tmp")), "a symbolic link"),
    "a device": (swap(2, kind=tarfile.CHRTYPE, data=b""), "a device"),
    "a pipe": (swap(2, kind=tarfile.FIFOTYPE, data=b""), "a pipe"),
    "a folder": (insert(2, entry("objects", kind=tarfile.DIRTYPE)), "a folder"),
    "a sparse file": (swap(2, kind=tarfile.GNUTYPE_SPARSE), "an entry of type"),
    "fewer bytes": (swap(2, data=b"hell"), "of 4 bytes where .* of 5 bytes"),
    "more bytes": (swap(2, data=b"hello\n"), "of 6 bytes where .* of 5 bytes"),
    "other bytes": (swap(2, data=b"wrong"), "is damaged"),
    "other rights": (swap(2, mode=0o4755), "where objects/"),
    "an owner": (swap(2, uid=1000), "where objects/"),
    "a time": (swap(2, mtime=1), "where objects/"),
    "attributes": (swap(2, pax_headers={"comment": "x"}), "an entry of type b'x'"),
    "a damaged manifest": (swap(1, data=b'{"format":1}'), "manifest is damaged"),
    "a manifest of nested lists": (swap(1, data=b"[" * 100_000), "manifest is damaged"),
    "an empty manifest": (swap(1, data=b""), "where manifest.json should be"),
    "an unknown format": (swap(0, data=b'{"content":"clipsmith release","format":2}'), "an archive of format 2"),
    "a damaged header": (swap(0, data=b'{"content":"clipsmith release","format":1}'), "header is damaged"),
    "a header that is no record": (swap(0, data=b"[]"), "header cannot be read"),
    "a header that is not JSON": (swap(0, data=b"{"), "header cannot be read"),
    "a signature of nothing": (insert(4, entry("signatures/1.json", b"{}")), "the signature cannot be read"),
    "signature number 0": (insert(4, entry("signatures/0.json", b"{}")), "does not list"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(other: Store, packed: Path, tmp_path: Path, name: str) -> None:
    change, message = HOSTILE[name]
    packed.write_bytes(build(change(members(packed))))
    with pytest.raises(BadArchive, match=message) as caught:
        unpack(other, packed)
    assert caught.value.where == str(packed)
    assert_untouched(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "small.tar", "store"]


def test_building_an_archive_anew_is_not_what_is_refused(other: Store, packed: Path) -> None:
    assert build(members(packed)) == packed.read_bytes()
    assert unpack(other, packed)[1]


def test_a_foreign_signature_is_refused(store: Store, other: Store, packed: Path) -> None:
    manifest, _ = make_release(store, "m", digest("two"), add(store, b"other"))
    record = sign(store, manifest)
    packed.write_bytes(build([*members(packed), entry("signatures/1.json", dump(record))]))
    with refusal(BadArchive, "small.tar"):
        unpack(other, packed)
    assert_untouched(other)


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 10_240, b"x", b"more" * 5000, None])
def test_what_follows_the_end_is_refused(other: Store, packed: Path, extra: bytes | None) -> None:
    data = packed.read_bytes()
    packed.write_bytes(data + (data if extra is None else extra))
    with refusal(BadArchive, "small.tar"):
        unpack(other, packed)
    assert_untouched(other)


def test_every_truncation_is_refused(other: Store, packed: Path) -> None:
    data = packed.read_bytes()
    for size in [*range(0, len(data), 512), *range(1, len(data), 997), len(data) - 1]:
        packed.write_bytes(data[:size])
        with pytest.raises(BadArchive):
            unpack(other, packed)
    assert_untouched(other)


@pytest.mark.parametrize("compress", [gzip.compress, lambda _: b"\x1f\x8b" + bytes(600), lambda _: b"PK\3\4" * 300])
def test_nothing_is_decompressed(other: Store, packed: Path, compress: Callable[[bytes], bytes]) -> None:
    packed.write_bytes(compress(packed.read_bytes()))
    with refusal(BadArchive, "small.tar"):
        unpack(other, packed)
    assert_untouched(other)


def test_another_dialect_of_tar_is_refused(store: Store, other: Store, release: Manifest, tmp_path: Path) -> None:
    pack(store, release, tmp_path / "release.tar")
    (tmp_path / "release.tar").write_bytes(build(members(tmp_path / "release.tar"), tarfile.GNU_FORMAT))
    with pytest.raises(BadArchive):
        unpack(other, tmp_path / "release.tar")
    assert_untouched(other)


@pytest.mark.parametrize("target", ["nothing", "folder", "/dev/zero", "/dev/null"])
def test_what_is_no_file_is_refused(other: Store, tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadArchive):
        unpack(other, tmp_path / target)


@pytest.mark.parametrize("size", [-1, 4, 6, 10**30])
def test_a_manifest_with_a_wrong_size_is_refused(other: Store, packed: Path, size: int) -> None:
    found = members(packed)
    manifest = Manifest.from_bytes(found[1][1], where=packed)
    files = (manifest.files[0].model_copy(update={"size": size}), *manifest.files[1:])
    found[1] = entry("manifest.json", manifest.model_copy(update={"files": files}).to_bytes())
    packed.write_bytes(build(found))
    with refusal(BadArchive, "small.tar"):
        unpack(other, packed)
    assert_untouched(other)


def test_a_manifest_that_contradicts_itself_is_refused(other: Store, packed: Path) -> None:
    found = members(packed)
    manifest = Manifest.from_bytes(found[1][1], where=packed)
    again = manifest.files[0].model_copy(update={"path": "again", "sha256": "0" * 64})  # as if its bytes were others
    found[1] = entry("manifest.json", manifest.model_copy(update={"files": (again, *manifest.files)}).to_bytes())
    packed.write_bytes(build(found))
    with pytest.raises(BadArchive, match="in two ways"):
        unpack(other, packed)
    assert_untouched(other)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a", "a/b/c"), (".",)])
def test_names_that_are_in_each_others_way_are_refused(other: Store, packed: Path, names: tuple[str, ...]) -> None:
    data = {name: name.encode() for name in names}
    ref = ArtifactRef.of(
        "thing", [FileEntry(path=n, sha256=hashlib.sha256(d).hexdigest(), size=len(d)) for n, d in data.items()]
    )
    found = members(packed)
    manifest = Manifest.from_bytes(found[1][1], where=packed)
    changed = [
        manifest.files[0].model_copy(
            update={"path": f"x/{n}", "object": ref.digest, "member": e.path, "sha256": e.sha256, "size": e.size}
        )
        for n, e in enumerate(ref.files)
    ]
    forged = sealed(manifest.model_copy(update={"files": tuple(changed)}))
    files = [entry(f"objects/{ref.digest}/{name}", content) for name, content in sorted(data.items())]
    packed.write_bytes(build([found[0], entry("manifest.json", forged.to_bytes()), *files]))
    with refusal(BadArchive, "small.tar"):
        unpack(other, packed)
    assert_untouched(other)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_byte_gets_through(other: Store, packed: Path, data: st.DataObject) -> None:
    sound = packed.read_bytes()
    flips = data.draw(
        st.dictionaries(st.integers(0, len(sound) - 1), st.integers(1, 255), min_size=1, max_size=4), label="flips"
    )
    changed = bytearray(sound)
    for position, mask in flips.items():
        changed[position] ^= mask
    copy = packed.with_name("flipped.tar")
    copy.write_bytes(changed)
    with pytest.raises(BadArchive):
        unpack(other, copy)
    assert_untouched(other)
