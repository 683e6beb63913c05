"""A policy that cannot be understood lets nothing through; one that asks for a signature gets it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from artifacts.copies.archive import pack, unpack
from artifacts.copies.replica import pull, push
from artifacts.errors import ConfigError, DamagedSignature, KeyUnusable, SignatureRequired
from artifacts.keeping.promotion import promote, rollback
from artifacts.records import dump
from artifacts.store import layout, signatures
from artifacts.store.policy import read_policy
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tests.artifacts.support import add, digest, make_release, rewrite
from tests.wording import refusal


def key_pair(folder: Path, name: str) -> Path:
    """`name.pem` and `name.pub.pem`; the private one's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / f"{name}.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, private, plain))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub.pem").write_bytes(public)
    return folder / f"{name}.pem"


def require(store: Store, *keys: str) -> None:
    (store.root / layout.POLICY).write_text(f"promotion:\n  require_signature: [{', '.join(keys)}]\n")


@pytest.fixture
def two(store: Store) -> Store:
    for n in (1, 2):
        make_release(store, "a", digest(str(n)), add(store, b"%d" % n))
    return store


def test_without_a_policy_nothing_is_asked_for(two: Store) -> None:
    assert read_policy(two.root).promotion.require_signature == ()
    assert promote(two, "a@1", "production").moved


@pytest.mark.parametrize(
    "text",
    [
        *("promotion: {require_signatures: [x]}", "promotion: {require_signature: x}"),
        *("promotion: [", "- x", "", "# lost", "\x00"),
        "promotion: {require_signature: [release.pem]}\npromotion: {}\n",
        "promotion: {require_signature: [release.pem], require_signature: []}",
        *("Promotion: {}", "promotions: {}", "on_import: {}", "import: {require_signature: x}", "import: [x]"),
        *("promotion: {require_signature: [1]}", "promotion: {require_signature: [[x]]}", "promotion: null"),
        *("import: {require_signature: null}", "import: {signature: [x]}", "promotion: &a {require_signature: *a}"),
        "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\npromotion: {require_signature: *b}",
        "promotion: {}\n--- \npromotion: {}\n",
        "x" * (2 << 20),
    ],
)
def test_a_policy_that_cannot_be_read_promotes_nothing(two: Store, text: str) -> None:
    (two.root / layout.POLICY).write_text(text)
    with pytest.raises(ConfigError, match="policy cannot be read"):
        promote(two, "a@1", "production")
    assert list((two.root / "aliases").iterdir()) == []


def test_a_required_signature_must_be_there_and_by_the_right_key(two: Store, tmp_path: Path) -> None:
    ours, theirs = key_pair(tmp_path, "ours"), key_pair(tmp_path, "theirs")
    require(two, str(tmp_path / "ours.pub.pem"))
    with refusal(SignatureRequired, "policy.yaml"):
        promote(two, "a@1", "production")
    signatures.sign(two, two.find("a@1"), theirs, None)
    with pytest.raises(SignatureRequired, match="signature 1, ours"):
        promote(two, "a@1", "production")
    with pytest.raises(SignatureRequired):
        promote(two, "a@1", "production", force=True, why="in a hurry")
    record = signatures.sign(two, two.find("a@1"), ours, None)
    assert record.number == 2
    assert promote(two, "a@1", "production").moved
    with pytest.raises(SignatureRequired):
        promote(two, "a@2", "production")


def test_a_signature_is_of_one_release(two: Store, tmp_path: Path) -> None:
    key = key_pair(tmp_path, "ours")
    require(two, str(tmp_path / "ours.pub.pem"))
    record = signatures.sign(two, two.find("a@1"), key, None)
    forged = record.model_copy(update={"version": 2})
    two.write_record(layout.signature_folder(two.root, "a", 2) / "1.json", dump(forged))
    with pytest.raises(SignatureRequired, match="signature 1"):
        promote(two, "a@2", "production")


def test_rolling_back_asks_too(two: Store, tmp_path: Path) -> None:
    promote(two, "a@1", "production")
    promote(two, "a@2", "production")
    key_pair(tmp_path, "ours")
    require(two, str(tmp_path / "ours.pub.pem"))
    with pytest.raises(SignatureRequired):
        rollback(two, "a", "production")
    assert two.find("a:production").version == 2


def test_keys_are_relative_to_the_store_and_must_be_there(two: Store, tmp_path: Path) -> None:
    key = key_pair(tmp_path, "ours")
    signatures.sign(two, two.find("a@1"), key, None)
    require(two, "release.pem")
    with pytest.raises(KeyUnusable, match=r"release\.pem"):
        promote(two, "a@1", "production")
    (two.root / "release.pem").write_bytes((tmp_path / "ours.pub.pem").read_bytes())
    assert promote(two, "a@1", "production").moved


def test_a_damaged_signature_is_an_error(two: Store, tmp_path: Path) -> None:
    key = key_pair(tmp_path, "ours")
    require(two, str(tmp_path / "ours.pub.pem"))
    signatures.sign(two, two.find("a@1"), key, None)
    path = layout.signature_folder(two.root, "a", 1) / "1.json"
    rewrite(path, path.read_bytes().replace(b'"number":1', b'"number":2'))
    with pytest.raises(DamagedSignature):
        promote(two, "a@1", "production")


def _nothing_there(path: Path) -> None:
    path.symlink_to("not-mounted/policy.yaml")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


BROKEN: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a link that leads nowhere": (layout.POLICY, _nothing_there),
    "a link to itself": (layout.POLICY, _loop),
    "a folder": (layout.POLICY, _folder),
    "a pipe": (layout.POLICY, _pipe),
    "a device": (layout.POLICY, _device),
    "no text": (layout.POLICY, _no_text),
    "another ending": ("policy.yml", lambda path: path.write_text("promotion: {}\n")),
    "in capitals": ("Policy.YAML", lambda path: path.write_text("promotion: {}\n")),
    "as JSON": ("policy.json", lambda path: path.write_text("{}")),
    "an ending too many": ("policy.yaml.txt", lambda path: path.write_text("promotion: {}\n")),
    "a dangling link of another ending": ("policy.yml", _nothing_there),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A packed release of another store, `b@1`."""
    other = Store.open(tmp_path / "other")
    manifest, _ = make_release(other, "b", digest("b"), add(other, b"b"))
    pack(other, manifest, tmp_path / "b.tar")
    push(other, manifest, str(tmp_path / "copy"))
    return tmp_path / "b.tar"


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_policy_that_can_be_read_lets_nothing_through(
    two: Store, archive: Path, tmp_path: Path, kind: str
) -> None:
    promote(two, "a@1", "production")
    promote(two, "a@2", "production")
    key = key_pair(tmp_path, "ours")
    name, make = BROKEN[kind]
    make(two.root / name)
    before = sorted((two.root / "objects").rglob("*"))
    doors: tuple[Callable[[], object], ...] = (
        lambda: promote(two, "a@1", "staging"),
        lambda: promote(two, "a@1", "staging", force=True, why="in a hurry"),
        lambda: rollback(two, "a", "production"),
        lambda: signatures.sign(two, two.find("a@1"), key, None),
        lambda: unpack(two, archive),
        lambda: pull(two, "b", str(tmp_path / "copy")),
    )
    for door in doors:
        with pytest.raises(ConfigError, match="policy") as caught:
            door()
        assert "\n" not in caught.value.what
        assert caught.value.where == str(two.root / name)
        assert caught.value.expected
        assert caught.value.fix
    assert sorted((two.root / "objects").rglob("*")) == before
    assert two.find("a:production").version == 2
    assert [summary["ref"] for summary in two.summaries()[0]] == ["a@2", "a@1"]
    assert [(problem.kind, problem.where) for problem in verify(two.root).problems] == [("damaged", name)]


def test_a_link_that_leads_to_a_policy_is_one(two: Store, tmp_path: Path) -> None:
    require(two, "lost.pem")
    (two.root / layout.POLICY).rename(tmp_path / "shared.yaml")
    (two.root / layout.POLICY).symlink_to(tmp_path / "shared.yaml")
    assert read_policy(two.root).promotion.require_signature == ("lost.pem",)


def test_the_message_is_one_line_and_says_which_key(two: Store) -> None:
    (two.root / layout.POLICY).write_text("promotion: {require_signatures: [x]}")
    with pytest.raises(ConfigError) as caught:
        read_policy(two.root)
    assert caught.value.what == (
        "the store's policy cannot be read: promotion.require_signatures: Extra inputs are not permitted "
        "(did you mean require_signature? valid keys: require_signature)"
    )


def test_an_import_without_the_signature_that_is_asked_for_is_refused(
    two: Store, archive: Path, tmp_path: Path
) -> None:
    ours, theirs = key_pair(tmp_path, "ours"), key_pair(tmp_path, "theirs")
    (two.root / layout.POLICY).write_text(f"import:\n  require_signature: [{tmp_path / 'ours.pub.pem'}]\n")
    assert promote(two, "a@1", "production").moved  # which is not asked for one
    other = Store.open(tmp_path / "other")
    doors: tuple[Callable[[], object], ...] = (
        lambda: unpack(two, archive),
        lambda: pull(two, "b", str(tmp_path / "copy")),
    )
    for key, reason in ((None, "no signature that counts"), (theirs, "signature 1, ours")):
        if key is not None:
            signatures.sign(other, other.find("b"), key, None)
        archive.unlink()
        pack(other, other.find("b"), archive)
        push(other, other.find("b"), str(tmp_path / "copy"))
        for door in doors:
            with pytest.raises(SignatureRequired, match=reason):
                door()
            assert [summary["ref"] for summary in two.summaries()[0]] == ["a@2", "a@1"]
            assert not (two.root / "signatures" / "b").exists()
    signatures.sign(other, other.find("b"), ours, None)
    archive.unlink()
    pack(other, other.find("b"), archive)
    push(other, other.find("b"), str(tmp_path / "copy"))
    assert unpack(two, archive)[1]
    assert pull(two, "b", str(tmp_path / "copy"))[1].nothing


def test_a_signature_of_another_release_lets_none_in(two: Store, archive: Path, tmp_path: Path) -> None:
    ours = key_pair(tmp_path, "ours")
    (two.root / layout.POLICY).write_text(f"import:\n  require_signature: [{tmp_path / 'ours.pub.pem'}]\n")
    other = Store.open(tmp_path / "other")
    another, _ = make_release(other, "c", digest("c"), add(other, b"c"))
    record = signatures.sign(other, another, ours, None).model_copy(update={"model": "b"})
    other.write_record(layout.signature_folder(other.root, "b", 1) / "1.json", dump(record))
    archive.unlink()
    pack(other, other.find("b"), archive)
    with pytest.raises(SignatureRequired, match="signature 1, ours"):
        unpack(two, archive)
