"""P13: the store that an earlier version left is read by this one, and by every later one.

`make_format_1.py` made it. When this test fails, the code is wrong, not the store.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from artifacts.copies.exporting import export
from artifacts.errors import NotAStore, ReleaseNotFound, SignatureRequired
from artifacts.keeping.promotion import promote, rollback
from artifacts.store import aliases, layout, ledger, signatures, tombstones
from artifacts.store.garbage import collect
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release, rewrite

GOLDEN = Path(__file__).parent / "format-1"
LISTING = "115f6e793fe9522d15aaddc046277ff57482931aa194c4974c7ba8aafa439fff"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "store"))


def whole() -> dict[str, str]:
    return {
        path.relative_to(GOLDEN).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(GOLDEN.rglob("*"))
        if path.is_file()
    }


def test_it_is_what_was_made() -> None:
    listing = "".join(f"{digest_of}  {path}\n" for path, digest_of in whole().items())
    assert hashlib.sha256(listing.encode()).hexdigest() == LISTING


def test_it_is_sound_where_it_is_and_reading_changes_nothing() -> None:
    before = whole()
    found = verify(GOLDEN)
    assert (found.problems, found.releases, found.objects, found.bytes) == ((), 4, 5, 42)
    store = Store.open(GOLDEN, writable=False)
    assert [m.ref for m in store.releases()] == ["beta@2", "beta@1", "alpha@3", "alpha@2"]
    assert [s["status"] for s in store.summaries()[0]] == ["rejected", "accepted", "accepted", "accepted"]
    assert whole() == before
    assert sorted(path.name for path in GOLDEN.iterdir()) == [
        *("aliases", "keys", "ledger", "objects", "policy.yaml", "releases", "signatures", "store.json")
    ]


def test_a_release() -> None:
    store = Store.open(GOLDEN, writable=False)
    manifest = store.find("alpha@3")
    assert manifest.identity == "c5f9138e3e9bdeb250f3d077782c4b89028312d614d6410a91205fdd4596f9a1"
    assert (manifest.sequence, manifest.created, manifest.status) == (3, "2026-11-03T00:00:00+00:00", "accepted")
    assert store.find("c5f9138e") == store.find("alpha") == store.find("alpha:staging") == manifest
    assert [file.path for file in manifest.files] == [
        *("image/fp8.onnx", "preprocess/preprocessor_config.json", "preprocess/tokenizer/vocab.json")
    ]
    assert store.read(manifest, "image/fp8.onnx").read_bytes() == b"alpha 3\n"
    assert store.read(manifest, "preprocess/tokenizer/vocab.json").read_bytes() == b'{"a": 0}\n'
    image = manifest.files[0]
    assert (image.kind, image.encoder, image.precision, image.target, image.size) == ("onnx", "image", "fp8", None, 8)
    assert manifest.tables == {
        "sizes": ({"bytes": 714_000, "encoder": "image", "precision": "fp8", "target": "onnx", "vs_fp16": 0.555},)
    }
    (gate,) = manifest.gates
    assert (gate.name, gate.status, gate.max, gate.value, gate.encoder) == (
        *("max_size_ratio", "passed", 0.98, 0.555, "image"),
    )


def test_its_provenance() -> None:
    found = Store.open(GOLDEN, writable=False).find("alpha@2").provenance
    assert found.source.revision == "32bd64288804d66eefd0ccbe215aa642df71cc41"
    assert (found.source.kind, found.source.name, found.source.family) == ("hub", "openai/alpha", "clip")
    assert found.source.weights == {"model.safetensors": "c3" * 32}
    assert found.calibration is not None
    assert (found.calibration.samples, found.calibration.skipped, found.calibration.truncated) == (512, 3, 1)
    assert (found.calibration.digest, found.evaluation.samples) == ("a1" * 32, 500)
    assert (found.recipe, found.recipe_digest, found.code) == ("fp8", "d4" * 32, "0.2.0")
    assert found.recipe_content == {"quantize": {"algorithm": "max", "scale": 0.5, "on": True, "off": None}}
    assert found.parameters == {"precisions": ["fp16", "fp8"], "profile": {"max": 32, "min": 1, "opt": 8}}
    assert found.packages == {"onnx": "1.23.0", "torch": "2.13.0"}
    assert found.device == {"cores": 2, "cpu": "x86-64", "gpu": None}
    assert found.parents == ("e5" * 32,)


def test_what_is_left_of_a_retired_version() -> None:
    store = Store.open(GOLDEN, writable=False)
    with pytest.raises(ReleaseNotFound, match="alpha@1 was retired"):
        store.find("alpha@1")
    tombstone = tombstones.read(layout.tombstone_path(GOLDEN, "alpha", 1))
    assert (tombstone.model, tombstone.version, tombstone.identity) == ("alpha", 1, digest("alpha 1"))
    assert tombstone.manifest == ledger.read(GOLDEN, 1).sha256
    assert ledger.read(GOLDEN, 1).path == "releases/alpha/1.json"
    assert ledger.last(GOLDEN) == 12


def test_its_aliases_and_their_histories() -> None:
    history = aliases.history(GOLDEN, "alpha", "production")
    assert [(e.number, e.action, e.version, e.why, e.forced, e.who) for e in history] == [
        (1, "promote", 2, "the first that works", False, "ann@example"),
        (2, "promote", 3, None, False, "ann@example"),
        (3, "rollback", 2, "too slow", False, "ann@example"),
    ]
    (forced,) = aliases.history(GOLDEN, "beta", "production")
    assert (forced.version, forced.forced, forced.why) == (2, True, "for a demonstration")
    assert aliases.pointing_to(GOLDEN) == {
        ("alpha", 2): ["production"],
        ("alpha", 3): ["staging"],
        ("beta", 2): ["production"],
    }


def test_a_rejected_release() -> None:
    manifest = Store.open(GOLDEN, writable=False).find("beta:production")
    assert manifest.status == "rejected"
    assert [(gate.name, gate.status, gate.low, gate.high) for gate in manifest.gates] == [
        ("max_size_ratio", "passed", None, None),
        ("min_cosine_mean", "failed", 0.4, 0.6),
    ]


def test_its_signature_and_policy(copy: Path) -> None:
    store = Store.open(copy)
    (record,) = signatures.signatures(copy, "alpha", 3)
    assert (record.number, record.who) == (1, "ann@example")
    assert signatures.require_signature(store, store.find("alpha@3"), [copy / "keys" / "release.pem"]) == record
    with pytest.raises(SignatureRequired):
        promote(store, "beta@1", "production")
    assert promote(store, "alpha@3", "production").after.number == 4


def test_it_can_be_exported(tmp_path: Path) -> None:
    store = Store.open(GOLDEN, writable=False)
    manifest = store.find("alpha@3")
    export(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "image" / "fp8.onnx").read_bytes() == b"alpha 3\n"
    stored = (GOLDEN / "releases" / "alpha" / "3.json").read_bytes()
    assert manifest.to_bytes() == (tmp_path / "out" / "manifest.json").read_bytes() == stored


def test_work_goes_on_in_it(copy: Path) -> None:
    (copy / "policy.yaml").unlink()
    store = Store.open(copy)
    manifest, new = make_release(store, "alpha", digest("new"), add(store))
    assert (manifest.ref, manifest.sequence, new) == ("alpha@4", 6, True)
    found, new = store.publish("alpha", digest("alpha 3"), lambda *_: pytest.fail("it is there already"))
    assert (found.ref, new) == ("alpha@3", False)
    assert promote(store, "alpha@4", "production").after.number == 4
    assert rollback(store, "alpha", "production").after.version == 2
    store.close()
    assert collect(store, keep=1).releases == ("beta@1",)
    assert verify(copy).problems == ()


def test_a_later_format_is_refused_by_name(copy: Path) -> None:
    header = copy / "store.json"
    rewrite(header, header.read_bytes().replace(b'"format":1', b'"format":2'))
    for writable in (True, False):
        with pytest.raises(NotAStore, match="format"):
            Store.open(copy, writable=writable)
