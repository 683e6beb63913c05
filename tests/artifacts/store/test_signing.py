"""Signatures hold for one release and one key, and the library's own command agrees with us in both directions."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from artifacts import places
from artifacts.errors import ClipsmithError, KeyUnusable, SignatureInvalid
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.store.signing import sign, verify_signature
from tests.artifacts.conftest import build_manifest
from tests.wording import refusal

CONTENTS = {"report.html": b"<html>", "image/fp8.onnx": b"\x08\x09", "checkpoint/config.json": b"{}", "empty": b""}
PASSWORD = "correct horse"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def release_of(contents: dict[str, bytes], **changes: Any) -> Manifest:
    files = tuple(
        ReleaseFile(path=path, kind="x", object="a" * 64, member=path, sha256=digest(data), size=len(data))
        for path, data in contents.items()
    )
    return build_manifest().model_copy(update={"files": files, **changes})


RELEASE = release_of(CONTENTS)
STORED = RELEASE.to_bytes()


class Keys:
    """A private and a public key as PEM files."""

    def __init__(self, folder: Path, name: str, key: Any, password: str | None = None) -> None:
        folder.mkdir(exist_ok=True)
        locked = forms.BestAvailableEncryption(password.encode()) if password else forms.NoEncryption()
        self.key = key
        self.private, self.public = folder / f"{name}.key", folder / f"{name}.pub"
        self.private.write_bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, locked))
        info = forms.PublicFormat.SubjectPublicKeyInfo
        self.public.write_bytes(key.public_key().public_bytes(forms.Encoding.PEM, info))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys", "release", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def bundle(keys: Keys) -> bytes:
    return sign(RELEASE, STORED, keys.private, None)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """The release as `artifacts.copies.exporting` lays it out."""
    folder = tmp_path / "exported"
    for path, data in (CONTENTS | {"manifest.json": STORED}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The library's command line, which knows nothing of ours."""
    call = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


# --- what holds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
@pytest.mark.parametrize("password", [None, PASSWORD], ids=["plain", "encrypted"])
def test_a_signature_holds(tmp_path: Path, curve: ec.EllipticCurve, password: str | None) -> None:
    keys = Keys(tmp_path, "k", ec.generate_private_key(curve), password)
    verify_signature(sign(RELEASE, STORED, keys.private, password), RELEASE, STORED, keys.public)


def test_the_signed_statement_lists_every_file_of_the_release(bundle: bytes, keys: Keys) -> None:
    envelope = json.loads(bundle)["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    # DSSE's pre-authentication encoding, written out here from its specification.
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    keys.key.public_key().verify(signature, encoded, ec.ECDSA(hashes.SHA256()))
    listed = {item["name"]: item["digest"] for item in json.loads(payload)["predicate"]["resources"]}
    assert listed == {path: digest(data) for path, data in CONTENTS.items()} | {"manifest.json": digest(STORED)}


def test_nothing_is_left_behind(tmp_path: Path, keys: Keys, bundle: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    verify_signature(sign(RELEASE, STORED, keys.private, None), RELEASE, STORED, keys.public)
    with pytest.raises(SignatureInvalid):
        verify_signature(bundle, RELEASE, STORED + b" ", keys.public)
    assert list(scratch.iterdir()) == []


def test_importing_is_light() -> None:
    code = "import sys, artifacts.store.signing; print({'model_signing', 'cryptography', 'sigstore'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- the library's own command -----------------------------------------------------------------------------


def test_the_plain_command_verifies_an_exported_folder(exported: Path, keys: Keys, bundle: bytes) -> None:
    signatures = exported / places.SIGNATURES
    signatures.mkdir()
    (signatures / "1.json").write_bytes(bundle)
    (signatures / "2.json").write_bytes(b"somebody else's")
    (exported / places.PROVENANCE).write_bytes(b"{}")
    arguments = ("verify", "key", exported, "--signature", signatures / "1.json", "--public_key", keys.public)
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (0, "Verification succeeded\n"), done.stderr

    (exported / "manifest.json").write_bytes(STORED.replace(b"demo", b"omed") + b" ")
    done = command(*arguments)
    assert done.returncode == 1
    # The quote is escaped where the hash's bytes hold one.
    assert re.search(r"Hash mismatch for \\?'manifest\.json", done.stderr)


def test_the_plain_command_finds_a_file_that_was_added(exported: Path, keys: Keys, bundle: bytes) -> None:
    (exported / "image" / "more.onnx").write_bytes(b"")
    signature = exported.with_name("signature.json")
    signature.write_bytes(bundle)
    done = command("verify", "key", exported, "--signature", signature, "--public_key", keys.public)
    assert done.returncode == 1
    assert "image/more.onnx" in done.stderr


def test_a_signature_that_the_plain_command_made_holds(exported: Path, keys: Keys, tmp_path: Path) -> None:
    signature = tmp_path / "signature.json"
    done = command("sign", "key", exported, "--signature", signature, "--private_key", keys.private)
    assert done.returncode == 0, done.stderr
    verify_signature(signature.read_bytes(), RELEASE, STORED, keys.public)


# --- what does not hold ------------------------------------------------------------------------------------


def changed(**files: bytes) -> Manifest:
    return release_of(CONTENTS | files)


OTHERS = {
    "a file of other bytes": (changed(empty=b"full"), STORED),
    "a file more": (changed(more=b""), STORED),
    "a file fewer": (release_of({path: data for path, data in CONTENTS.items() if path != "empty"}), STORED),
    "a file of another name": (release_of({path.replace("fp8", "fp16"): CONTENTS[path] for path in CONTENTS}), STORED),
    "another manifest": (RELEASE, STORED.replace(b'"version":4', b'"version":5')),
    "the next version of the same files": (later := release_of(CONTENTS, version=5), later.to_bytes()),
    "another release": (another := changed(empty=b"1"), another.to_bytes()),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_of_other_contents(bundle: bytes, keys: Keys, other: tuple[Manifest, bytes]) -> None:
    with refusal(SignatureInvalid):
        verify_signature(bundle, *other, keys.public)


def test_a_file_that_the_signature_asks_to_ignore_counts_nevertheless(exported: Path, keys: Keys) -> None:
    signature = exported.with_name("signature.json")
    ignored = ("--ignore-paths", exported / "report.html")
    command("sign", "key", exported, "--signature", signature, "--private_key", keys.private, *ignored)
    with pytest.raises(SignatureInvalid):
        verify_signature(signature.read_bytes(), RELEASE, STORED, keys.public)


def test_another_key(bundle: bytes, tmp_path: Path) -> None:
    stranger = Keys(tmp_path, "stranger", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(SignatureInvalid, match="Key mismatch"):
        verify_signature(bundle, RELEASE, STORED, stranger.public)


def test_another_key_that_poses_as_the_right_one(bundle: bytes, keys: Keys, tmp_path: Path) -> None:
    """The key's name in a bundle is not signed."""
    stranger = Keys(tmp_path, "stranger", ec.generate_private_key(ec.SECP256R1()))
    forged = json.loads(sign(RELEASE, STORED, stranger.private, None))
    forged["verificationMaterial"] = json.loads(bundle)["verificationMaterial"]
    with pytest.raises(SignatureInvalid, match="altered"):
        verify_signature(json.dumps(forged).encode(), RELEASE, STORED, keys.public)


def assert_every_flip_is_found(bundle: bytes, keys: Keys, bits: Callable[[int], range]) -> None:
    for index in range(len(bundle)):
        for bit in bits(index):
            damaged = bytearray(bundle)
            damaged[index] ^= 1 << bit
            with pytest.raises(SignatureInvalid):
                verify_signature(bytes(damaged), RELEASE, STORED, keys.public)


def test_a_flipped_bit_in_any_byte(bundle: bytes, keys: Keys) -> None:
    assert_every_flip_is_found(bundle, keys, lambda index: range(index % 8, index % 8 + 1))


@pytest.mark.heavy
def test_any_flipped_bit(bundle: bytes, keys: Keys) -> None:
    assert_every_flip_is_found(bundle, keys, lambda _: range(8))


def test_bits_that_base64_ignores(keys: Keys) -> None:
    """Signatures vary in length: signed until one ends in padding, which leaves bits unused in the last character."""
    for _ in range(50):
        parsed = json.loads(sign(RELEASE, STORED, keys.private, None))
        text = parsed["dsseEnvelope"]["signatures"][0]["sig"]
        if text.endswith("="):
            break
    data = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    respelled = data[:-1] + alphabet[alphabet.index(data[-1]) + 1] + text[len(data) :]
    assert base64.b64decode(respelled) == base64.b64decode(text)
    parsed["dsseEnvelope"]["signatures"][0]["sig"] = respelled
    with pytest.raises(SignatureInvalid, match="canonical"):
        verify_signature(json.dumps(parsed).encode(), RELEASE, STORED, keys.public)


def test_a_truncated_bundle(bundle: bytes, keys: Keys) -> None:
    for length in range(len(bundle)):
        with pytest.raises(SignatureInvalid):
            verify_signature(bundle[:length], RELEASE, STORED, keys.public)


def replaced(bundle: bytes, **parts: Any) -> bytes:
    return json.dumps(json.loads(bundle) | parts).encode()


BY_KEY = {"publicKey": {"hint": "0" * 64}, "tlogEntries": []}
MALFORMED = {
    "no JSON": lambda _: b"\xff\x00",
    "no object": lambda _: b"[]",
    "empty object": lambda _: b"{}",
    "nested too deep": lambda _: b'{"a":' * 100_000,
    "no signatures": lambda data: replaced(data, dsseEnvelope=json.loads(data)["dsseEnvelope"] | {"signatures": []}),
    "no key": lambda data: replaced(data, verificationMaterial={"tlogEntries": []}),
    "a nameless key": lambda data: replaced(data, verificationMaterial=BY_KEY | {"publicKey": {"hint": ""}}),
    "a certificate instead of a key": lambda data: replaced(
        data, verificationMaterial={"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}
    ),
    "a message's signature": lambda data: json.dumps(
        {
            "mediaType": json.loads(data)["mediaType"],
            "verificationMaterial": json.loads(data)["verificationMaterial"],
            "messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": "AAAA"}, "signature": "AAAA"},
        }
    ).encode(),
}


@pytest.mark.parametrize("damage", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_signature_of_a_release(
    bundle: bytes, keys: Keys, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SignatureInvalid):
        verify_signature(damage(bundle), RELEASE, STORED, keys.public)
    assert capsys.readouterr().out == ""  # the library prints warnings, and stdout is for answers


STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://model_signing/signature/v1.0"}
SUBJECT = [{"name": "x", "digest": {"sha256": hashlib.sha256().hexdigest()}}]
PAYLOADS = {
    "a list": b"[]",
    "an empty object": b"{}",
    "text": b"hello",
    "nested too deep": b"[" * 100_000,
    "provenance": json.dumps(STATEMENT | {"predicateType": "https://slsa.dev/provenance/v1"}).encode(),
    "no files": json.dumps(
        STATEMENT
        | {
            "subject": SUBJECT,
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
                "resources": [],
            },
        }
    ).encode(),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_other_things_that_the_right_key_signed(bundle: bytes, keys: Keys, payload: bytes) -> None:
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    signature = keys.key.sign(encoded, ec.ECDSA(hashes.SHA256()))
    envelope = json.loads(bundle)["dsseEnvelope"] | {
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
    }
    with pytest.raises(SignatureInvalid):
        verify_signature(replaced(bundle, dsseEnvelope=envelope), RELEASE, STORED, keys.public)


# --- keys --------------------------------------------------------------------------------------------------


KINDS = {
    "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "another curve": lambda: ec.generate_private_key(ec.SECP256K1()),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_keys_of_other_kinds(bundle: bytes, tmp_path: Path, make: Callable[[], Any]) -> None:
    other = Keys(tmp_path, "other", make())
    with pytest.raises(KeyUnusable, match="P-256"):
        sign(RELEASE, STORED, other.private, None)
    with pytest.raises(KeyUnusable, match="P-256"):
        verify_signature(bundle, RELEASE, STORED, other.public)


def test_key_files_that_are_none(bundle: bytes, keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    (tmp_path / "broken").write_bytes(keys.private.read_bytes()[:-60])
    for path in (tmp_path / "absent", tmp_path, tmp_path / "text", tmp_path / "broken"):
        with pytest.raises(KeyUnusable) as refused:
            sign(RELEASE, STORED, path, None)
        assert refused.value.where == str(path)
        with pytest.raises(KeyUnusable):
            verify_signature(bundle, RELEASE, STORED, path)


def test_the_other_half_of_the_pair(bundle: bytes, keys: Keys) -> None:
    with pytest.raises(KeyUnusable):
        sign(RELEASE, STORED, keys.public, None)
    with pytest.raises(KeyUnusable):
        verify_signature(bundle, RELEASE, STORED, keys.private)


@pytest.mark.parametrize(
    ("password", "given"), [(PASSWORD, "wrong"), (PASSWORD, None), (PASSWORD, ""), (None, "needless")]
)
def test_passwords_that_do_not_fit(tmp_path: Path, password: str | None, given: str | None) -> None:
    keys = Keys(tmp_path, "k", ec.generate_private_key(ec.SECP256R1()), password)
    with pytest.raises(KeyUnusable, match=r"[Pp]assword") as refused:
        sign(RELEASE, STORED, keys.private, given)
    assert_tells_no_secret(refused.value, keys, given)


def assert_tells_no_secret(error: ClipsmithError, keys: Keys, given: str | None) -> None:
    pem = keys.private.read_text().splitlines()[1]
    assert pem not in str(error)
    assert not given or given not in str(error)
