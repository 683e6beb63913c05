"""No forged manifest comes in by any door, none costs more than counting it, and none keeps anybody from the others."""

from __future__ import annotations

import gzip
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from artifacts import manifest_shape, records
from artifacts.copies.archive import unpack
from artifacts.copies.opening import open_store
from artifacts.copies.replica import pull, push
from artifacts.errors import (
    BadArchive,
    ClipsmithError,
    DamagedManifest,
    ReleaseConflict,
    ReleaseDiffers,
    ReplicaError,
    TableError,
)
from artifacts.keeping import history
from artifacts.limits import LARGEST_LEAP, LARGEST_NUMBER
from artifacts.manifest import Manifest
from artifacts.refs import canonical_json, digest_json
from artifacts.release.comparison import compare
from artifacts.release.frames import write_tables
from artifacts.store import aliases
from artifacts.store.store import BUCKET_VARIABLE, Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release
from tests.attacks.forging import SIZES, forged, genuine, moved, packed, planted
from tests.attacks.manifests import FORGERIES, Forgery
from tests.wording import refusal

REFUSED = [forgery for forgery in FORGERIES if forgery.stage != "place"]
LEAPING = [forgery for forgery in FORGERIES if forgery.stage == "place"]
WORST = [f for f in FORGERIES if f.name in ("odd-row", "year-10000", "empty-files", "deep-lists", "empty-objects")]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Manifest]:
    """Where a genuine release comes from."""
    return genuine(tmp_path_factory.mktemp("source") / "store")


@pytest.fixture
def victim(tmp_path: Path) -> Store:
    """A store with a release of its own."""
    store = Store.open(tmp_path / "victim")
    make_release(store, "good", digest("good"), add(store), tables={"sizes": (SIZES,)})
    return store


def named(forgeries: list[Forgery]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("forgery", forgeries, ids=lambda forgery: forgery.name)


def check_message(error: ClipsmithError) -> None:
    """Few lines, however long what the stranger wrote."""
    assert len(error.what) < 500
    assert "\n" not in error.what


def check_unharmed(store: Store) -> None:
    """Nothing was published, and work goes on."""
    assert [summary["ref"] for summary in store.summaries()[0]] == ["good@1"]
    assert make_release(store, "good", digest("next"), add(store, b"next"))[0].ref == "good@2"
    assert verify(store.root).problems == ()


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("it came further than it should")


@named(REFUSED)
def test_it_is_refused_where_it_should_be(
    forgery: Forgery, source: tuple[Store, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = forgery.make(source[1])
    stages = {"size": (records, "load_strictly"), "parse": (manifest_shape, "_check_others")}
    if forgery.stage in stages:
        monkeypatch.setattr(*stages[forgery.stage], never)
    if forgery.stage != "model":
        monkeypatch.setattr(Manifest, "model_validate", never)
    with pytest.raises(DamagedManifest) as caught:
        Manifest.from_bytes(data, where="x")
    check_message(caught.value)


@pytest.mark.parametrize("name", ["empty-files", "empty-gates"])
def test_what_is_wrong_with_the_first_of_many_ends_it(name: str, source: tuple[Store, Manifest]) -> None:
    (forgery,) = (forgery for forgery in FORGERIES if forgery.name == name)
    with pytest.raises(DamagedManifest, match="Field required") as caught:
        Manifest.from_bytes(forgery.make(source[1]), where="x")
    assert isinstance(caught.value.__cause__, ValidationError)
    assert caught.value.__cause__.error_count() < 10


def test_the_genuine_one_is_let_through_by_the_same_tools(source: tuple[Store, Manifest], victim: Store) -> None:
    store, manifest = source
    same = forged(manifest, dict.copy)
    assert same == manifest.to_bytes()
    assert unpack(victim, packed(store, manifest, same, victim.root.with_name("a.tar")))[0] == manifest


@named(REFUSED)
def test_no_archive_brings_it_in(
    forgery: Forgery, source: tuple[Store, Manifest], victim: Store, tmp_path: Path
) -> None:
    store, manifest = source
    file = packed(store, manifest, forgery.make(manifest), tmp_path / "forged.tar")
    before = sorted((victim.root / "objects").rglob("*"))
    with pytest.raises(BadArchive) as caught:
        unpack(victim, file)
    check_message(caught.value)
    assert sorted((victim.root / "objects").rglob("*")) == before
    assert [summary["ref"] for summary in victim.summaries()[0]] == ["good@1"]


@named([*WORST, *LEAPING])
def test_no_copy_brings_it_in(forgery: Forgery, source: tuple[Store, Manifest], victim: Store, tmp_path: Path) -> None:
    store, manifest = source
    push(store, manifest, str(tmp_path / "copy"))
    data = forgery.make(manifest)
    version = int(re.search(rb'"version":([0-9]+)}', data)[1]) if forgery in LEAPING else 1
    planted(tmp_path / "copy", data, version)
    with pytest.raises((ReplicaError, ReleaseConflict)) as caught:
        pull(victim, f"evil@{version}", str(tmp_path / "copy"))
    check_message(caught.value)
    check_unharmed(victim)


@named(LEAPING)
def test_a_version_that_leaps_is_refused_before_anything_is_copied(
    forgery: Forgery, source: tuple[Store, Manifest], victim: Store, tmp_path: Path
) -> None:
    store, manifest = source
    before = sorted((victim.root / "objects").rglob("*"))
    with refusal(ReleaseConflict) as caught:
        unpack(victim, packed(store, manifest, forgery.make(manifest), tmp_path / "forged.tar"))
    check_message(caught.value)
    assert sorted((victim.root / "objects").rglob("*")) == before
    check_unharmed(victim)


def test_a_high_version_that_does_not_leap_comes_in(source: tuple[Store, Manifest], victim: Store) -> None:
    store, manifest = source
    data = forged(manifest, lambda content: content.update(version=LARGEST_LEAP))
    assert unpack(victim, packed(store, manifest, data, victim.root.with_name("a.tar")))[1]
    assert make_release(victim, "evil", digest("next"), add(victim, b"next"))[0].version == LARGEST_LEAP + 1


def test_a_last_version_that_is_here_already_does_not_use_the_numbers_up(victim: Store) -> None:
    last = victim.find("good@1").model_copy(update={"version": LARGEST_NUMBER, "model": "evil"})
    planted(victim.root, last.to_bytes(), LARGEST_NUMBER)
    assert victim.find("evil").version == LARGEST_NUMBER
    for version in (1, 2):
        assert make_release(victim, "evil", digest(f"{version}"), add(victim, b"%d" % version))[0].version == version


@named(WORST)
def test_what_lies_in_a_store_already_is_named_and_left_out(
    forgery: Forgery, source: tuple[Store, Manifest], victim: Store
) -> None:
    place = planted(victim.root, forgery.make(source[1]))
    for store in (victim, Store.open(victim.root, writable=False)):
        found, damaged = store.summaries()
        assert [summary["ref"] for summary in found] == ["good@1"]
        assert [error.where for error in damaged] == [str(place)]
    good = victim.find("good@1")
    assert victim.readable() == [good]
    assert history.read(victim, "good") == ([good], [])
    assert compare(good, good).metrics == ()
    assert [error.where for error in history.read(victim, "evil")[1]] == [str(place)]
    assert make_release(victim, "good", digest("next"), add(victim, b"next"))[0].ref == "good@2"
    assert make_release(victim, "evil", digest("evil"), add(victim, b"next"))[0].ref == "evil@2"
    assert "releases/evil/1.json" in {problem.where for problem in verify(victim.root).problems}


def test_the_command_lists_the_others_and_names_it(
    source: tuple[Store, Manifest], victim: Store, clipsmith: Callable[..., Any]
) -> None:
    place = planted(victim.root, WORST[-1].make(source[1]))
    told = clipsmith("releases", "--store", victim.root)
    assert (told.code, "good@1" in told.out, str(place) in told.err) == (1, True, True)
    assert clipsmith("releases", "--model", "good", "--store", victim.root).code == 0


def test_a_folder_or_a_pipe_in_the_place_of_a_manifest_is_named_too(victim: Store) -> None:
    (victim.root / "releases" / "evil" / "1.json").mkdir(parents=True)
    os.mkfifo(victim.root / "releases" / "evil" / "2.json")
    (victim.root / "releases" / "evil" / "3.json").symlink_to("/dev/zero")
    (victim.root / "aliases" / "evil" / "production" / "1.json").mkdir(parents=True)
    assert aliases.pointing_to(victim.root) == {}
    found, damaged = victim.summaries()
    assert [summary["ref"] for summary in found] == ["good@1"]
    reasons = ["Is a directory", "it is not a plain file", "it is not a plain file"]
    assert [error.what.removeprefix("a manifest cannot be read: ") for error in damaged] == reasons


@named([*WORST, LEAPING[0]])
def test_hosts_of_a_bucket_leave_it_out(
    forgery: Forgery,
    source: tuple[Store, Manifest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(BUCKET_VARIABLE, str(tmp_path / "bucket"))
    one = open_store(tmp_path / "one")
    make_release(one, "good", digest("good"), add(one))
    version = LARGEST_NUMBER if forgery in LEAPING else 1
    place = planted(tmp_path / "bucket", forgery.make(source[1]), version)
    for root in (one.root, tmp_path / "two"):
        store = open_store(root)
        assert [summary["ref"] for summary in store.summaries()[0]] == ["good@1"]
        assert str(place) in caplog.text
        caplog.clear()
    made, _ = make_release(one, "evil", digest("evil"), add(one, b"evil"))
    assert made.version == (1 if forgery in LEAPING else 2)
    assert open_store(tmp_path / "two").find("evil") == made


# --- archives in archives, and tables that unpack ------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["gzip", "zip", "zstd"])
def test_a_compressed_archive_is_refused_by_its_first_bytes(compress: str, victim: Store, tmp_path: Path) -> None:
    """A hundred megabytes of zeros in a hundred kilobytes: archives are plain tars, and nothing is unpacked."""
    import pyarrow

    zeros, file = bytes(100 << 20), tmp_path / "bomb"
    if compress == "gzip":
        file.write_bytes(gzip.compress(zeros, 1))
    elif compress == "zstd":
        file.write_bytes(pyarrow.Codec("zstd").compress(zeros, asbytes=True))
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            out.writestr("manifest.json", zeros)
    assert file.stat().st_size < 1 << 20
    with refusal(BadArchive, "bomb"):
        unpack(victim, file)
    check_unharmed(victim)


def test_a_manifest_that_says_it_is_large_is_refused_before_it_is_read(
    source: tuple[Store, Manifest], victim: Store, tmp_path: Path
) -> None:
    """A sparse file costs its sender nothing."""
    store, manifest = source
    file = packed(store, manifest, b" " * 9_000_000, tmp_path / "large.tar")
    with file.open("r+b") as stream:
        stream.truncate(9_000_000)  # it ends before the manifest does
    with refusal(BadArchive, "large.tar") as caught:
        unpack(victim, file)
    assert caught.value.expected == "at most 8,388,608 bytes"


def _constant(path: Path) -> None:
    """Ten million rows of one value: a few kilobytes, and eighty megabytes and more where it is read."""
    import pyarrow as pa
    from pyarrow import parquet

    batch = pa.table({"encoder": pa.array(["image"] * 1_000_000).dictionary_encode()})
    with parquet.ParquetWriter(path, batch.schema) as out:
        for _ in range(10):
            out.write_table(batch)


def _frame(path: Path, **columns: Any) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)


def _sizes(path: Path, **changes: Any) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    folder = path.parent / "tables"
    write_tables({"sizes": (SIZES,)}, folder)
    table = parquet.read_table(folder / "sizes.parquet")
    for name, column in changes.items():
        place = table.schema.names.index(name) if name in table.schema.names else None
        array = pa.array(column)
        table = table.append_column(name, array) if place is None else table.set_column(place, name, array)
    parquet.write_table(table, path)


def _lying_footer(path: Path) -> None:
    _frame(path, a=[1])
    path.write_bytes(path.read_bytes()[:-8] + (1 << 30).to_bytes(4, "little") + b"PAR1")


def _large_footer(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(5 << 20) + (5 << 20).to_bytes(4, "little") + b"PAR1")


TABLES = {
    "constant": ("10,000,000 rows", _constant, "evidence/x/samples.parquet"),
    "constant-in-a-table": ("10,000,000 rows", _constant, "tables/sizes.parquet"),
    "not-parquet": ("not a Parquet file", lambda path: path.write_bytes(b"x" * 100), "tables/sizes.parquet"),
    "empty": ("not a Parquet file", lambda path: path.write_bytes(b""), "evidence/x/samples.parquet"),
    "lying-footer": ("not a Parquet file", _lying_footer, "evidence/x/samples.parquet"),
    "large-footer": ("its footer has", _large_footer, "evidence/x/samples.parquet"),
    "unreadable-footer": (
        "cannot be read",
        lambda path: path.write_bytes(b"PAR1" + b"\xff" * 64 + (64).to_bytes(4, "little") + b"PAR1"),
        "evidence/x/samples.parquet",
    ),
    "unknown-table": ("of no table of its manifest", lambda path: _frame(path, a=[1]), "tables/secrets.parquet"),
    "unknown-column": ("column script is not", lambda path: _sizes(path, script=["x"]), "tables/sizes.parquet"),
    "lacking-column": ("or missing", lambda path: _frame(path, encoder=["image"]), "tables/sizes.parquet"),
    "bytes-column": ("has the type binary", lambda path: _sizes(path, target=[b"onnx"]), "tables/sizes.parquet"),
    "list-column": ("has the type list", lambda path: _sizes(path, target=[["onnx"]]), "tables/sizes.parquet"),
    "other-rows": ("2 rows where the manifest has 1", None, "tables/sizes.parquet"),
}


def _two_rows(path: Path) -> None:
    write_tables({"sizes": (SIZES, SIZES)}, path.parent / "two")
    path.write_bytes((path.parent / "two" / "sizes.parquet").read_bytes())


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_unpacks_to_too_much_or_is_none_is_refused(name: str, victim: Store, tmp_path: Path) -> None:
    """What it would take is in its footer, which is all that is read; nothing of it is published."""
    message, make, place = TABLES[name]
    (make or _two_rows)(tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    store, manifest = genuine(tmp_path / "source", data, "x.parquet")
    data = moved(manifest, place).to_bytes()
    with pytest.raises((TableError, ReleaseDiffers), match=message) as caught:
        unpack(victim, packed(store, manifest, data, tmp_path / "forged.tar"))
    check_message(caught.value)
    assert str(caught.value.where).endswith(place)
    assert [summary["ref"] for summary in victim.summaries()[0]] == ["good@1"]


def test_a_table_of_ours_is_let_through(victim: Store, tmp_path: Path) -> None:
    _sizes(tmp_path / "x.parquet")
    store, manifest = genuine(tmp_path / "source", (tmp_path / "x.parquet").read_bytes(), "x.parquet")
    data = moved(manifest, "tables/sizes.parquet").to_bytes()
    assert unpack(victim, packed(store, manifest, data, tmp_path / "a.tar"))[1]


def test_a_signature_of_an_absurd_number_does_not_come_in(
    source: tuple[Store, Manifest], victim: Store, tmp_path: Path
) -> None:
    """The next signature of the release would have no number."""
    from artifacts.copies import archive

    store, manifest = source
    about = {"format": 1, "model": "evil", "version": 1, "bundle": "{}", "who": "x", "created": "2026-01-01T00:00:00Z"}
    about["number"] = LARGEST_NUMBER
    file = packed(store, manifest, manifest.to_bytes(), tmp_path / "a.tar")
    plain = file.read_bytes().rstrip(b"\0")
    data = canonical_json(about | {"digest": digest_json(about)})
    with file.open("wb") as out:
        out.write(plain + bytes(-len(plain) % 512))
        archive._write_bytes(out, archive._signature(LARGEST_NUMBER), data)
        out.write(archive._end(out.tell()))
    with pytest.raises(BadArchive, match="number"):
        unpack(victim, file)
    check_unharmed(victim)
