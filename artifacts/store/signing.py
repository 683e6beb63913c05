"""Authorship: signatures over releases with elliptic-curve keys, by OpenSSF's model-signing library.

A signature covers a release as it is exported: every file at its path, and `manifest.json`. So anybody can check an
exported folder with the library's own command, `model_signing verify key`. Here nothing is laid out or re-hashed: the
library is handed the digests that the manifest records. That the bytes match those is the store's task.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from artifacts import places
from artifacts.errors import KeyUnusable, SignatureInvalid
from artifacts.manifest import Manifest

# What an export may add to the release. Signatures say so themselves, so verifying needs no option for it.
_NOT_COVERED = (places.PROVENANCE, places.SIGNATURES, places.README)
_KEY_HELP = "a PEM file with an elliptic-curve key on P-256, P-384 or P-521"


def sign(manifest: Manifest, manifest_bytes: bytes, private_key: Path, password: str | None) -> bytes:
    """The signature of a release by a private key (PEM), as the JSON of a Sigstore bundle.

    `manifest_bytes` are the stored bytes of `manifest`; `password` opens an encrypted key.

    Raises:
        KeyUnusable: the key cannot be read, is of the wrong kind, or the password is wrong or missing.
    """
    from model_signing import signing

    config = signing.Config().set_hashing_config(_RecordedDigests(manifest, manifest_bytes))
    with _key_errors(private_key, "private"):
        # The library hands the password to cryptography as it is, and that takes bytes.
        secret = None if password is None else password.encode()
        config.use_elliptic_key_signer(private_key=private_key, password=secret)
    with TemporaryDirectory() as folder:
        signature = Path(folder) / "signature.json"
        config.sign(folder, signature)
        return signature.read_bytes()


def verify_signature(bundle: bytes, manifest: Manifest, manifest_bytes: bytes, public_key: Path) -> None:
    """Make sure that `bundle` is a signature of exactly this release by the owner of `public_key` (PEM).

    Raises:
        KeyUnusable: the key cannot be read or is of the wrong kind.
        SignatureInvalid: the bundle is damaged, by another key, or of other contents.
    """
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    recorded = _RecordedDigests(manifest, manifest_bytes)
    config = verifying.Config().set_hashing_config(recorded)
    with _key_errors(public_key, "public"):
        config.use_elliptic_key_verifier(public_key=public_key)
    try:
        _check_form(bundle)
        with TemporaryDirectory() as folder:
            signature = Path(folder) / "signature.json"
            signature.write_bytes(bundle)
            config.verify(folder, signature)
    # Besides its own ValueError the library lets out whatever it stumbles over in a malformed bundle.
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = "the key signed other contents" if recorded.asked else shorten(str(error), 300) or "it was altered"
        raise SignatureInvalid(
            f"the signature does not hold for {manifest.ref}: {reason}",
            where=f"verified with {public_key}",
            expected=f"a signature of {manifest.ref} by the private key that belongs to this public key",
            fix="give the signer's public key, or sign the release again if you trust it",
        ) from error


def may_add(bundle: str, path: str) -> bool:
    """Whether `model_signing` lets an exported folder hold `path`, which the signature does not cover; false if unread.

    Signatures of before say so of fewer files.
    """
    try:
        payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
        return path in payload["predicate"]["serialization"]["ignore_paths"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


class _RecordedDigests:
    """Takes the place of `model_signing.hashing.Config`: answers with recorded digests, and reads nothing."""

    def __init__(self, manifest: Manifest, manifest_bytes: bytes) -> None:
        self.asked = False  # the library asks when it has found the signature to be by the key
        self._name = manifest.ref
        self._digests = {file.path: file.sha256 for file in manifest.files}
        self._digests[places.MANIFEST] = hashlib.sha256(manifest_bytes).hexdigest()

    def hash(self, _model_path: object, *, files_to_hash: object = None) -> Any:  # noqa: ARG002
        """The library's manifest of the release."""
        from model_signing._hashing.hashing import Digest  # the one class that the library's manifests need and hide
        from model_signing.manifest import Manifest as SignedManifest
        from model_signing.manifest import SerializationType

        self.asked = True
        form = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": _NOT_COVERED}
        serialization = SerializationType.from_args(form)
        items = [
            serialization.new_item(path, Digest("sha256", bytes.fromhex(digest)))
            for path, digest in self._digests.items()
        ]
        return SignedManifest(self._name, items, serialization)

    def add_ignored_paths(self, *, model_path: object, paths: Iterable[object]) -> None:
        """Nothing: every file of the release must be covered, whatever a signature says."""


def _check_form(bundle: bytes) -> None:
    """Refuse (ValueError) what decodes to a valid bundle although a bit of it flipped, and bundles that name no key.

    Base64 has bits that decoders ignore: encoded again, the bundle must be what it was.
    """
    from sigstore_models.bundle.v1 import Bundle

    parsed = Bundle.from_json(bundle)
    if parsed.to_dict() != json.loads(bundle):
        raise ValueError("the bundle is not in canonical form")
    key = parsed.verification_material.public_key
    if key is None or not key.hint:
        raise ValueError("the bundle does not name the key that made it")


@contextmanager
def _key_errors(key: Path, kind: str) -> Iterator[None]:
    """Turns whatever loading a key raises into KeyUnusable."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        # Keys of other kinds have no curve, which is the first thing that the library asks for.
        reason = "it is of another kind" if isinstance(error, AttributeError) else shorten(str(error), 300)
        raise KeyUnusable(
            f"the {kind} key cannot be used: {reason}",
            where=key,
            expected=f"{_KEY_HELP}, and the password if it is encrypted" if kind == "private" else _KEY_HELP,
            fix="check the file and the password; docs/store.md shows how to make a pair of keys",
        ) from error
