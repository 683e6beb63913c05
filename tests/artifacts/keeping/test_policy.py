"""A policy that cannot be understood promotes nothing; one that asks for a signature gets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from artifacts.errors import ConfigError, DamagedSignature, KeyUnusable, SignatureRequired
from artifacts.keeping.policy import read_policy
from artifacts.keeping.promotion import promote, rollback
from artifacts.store import layout, signatures
from artifacts.store.store import Store
from tests.artifacts.support import add, digest, make_release, rewrite


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
    with pytest.raises(SignatureRequired, match=r"a@1 has no signature that counts"):
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
    from artifacts.records import dump

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
