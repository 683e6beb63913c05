"""Signatures over releases with elliptic-curve keys, made by OpenSSF's model-signing library.

A signature covers a release as it is exported: every file at its path, and `manifest.json`. So anybody can check an
exported folder with the library's own command, `model_signing verify key`. This module exports and hashes nothing: it
gives the library the digests in the manifest. The store makes sure that the bytes match them.
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

# Files that an export may add to the release. Signatures list them, so verifying needs no option for them.
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
    # On a malformed bundle the library raises not only its own ValueError but also these errors of its internals.
    except (InvalidSignature, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = "the key signed other contents" if recorded.asked else shorten(str(error), 300) or "it was altered"
        raise SignatureInvalid(
            f"the signature does not hold for {manifest.ref}: {reason}",
            where=f"verified with {public_key}",
            expected=f"a signature of {manifest.ref} by the private key that belongs to this public key",
            fix="give the signer's public key, or sign the release again if you trust it",
        ) from error


def may_add(bundle: str, path: str) -> bool:
    """Whether this signature allows an exported folder to hold `path`, although it does not cover it.

    Signatures of older versions allow fewer files. False if the bundle cannot be read.
    """
    try:
        payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
        return path in payload["predicate"]["serialization"]["ignore_paths"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


class _RecordedDigests:
    """Replaces `model_signing.hashing.Config`: gives the recorded digests, and reads no files."""

    def __init__(self, manifest: Manifest, manifest_bytes: bytes) -> None:
        self.asked = False  # the library asks for digests once it has verified that the key made the signature
        self._name = manifest.ref
        self._digests = {file.path: file.sha256 for file in manifest.files}
        self._digests[places.MANIFEST] = hashlib.sha256(manifest_bytes).hexdigest()

    def hash(self, _model_path: object, *, files_to_hash: object = None) -> Any:  # noqa: ARG002
        """The library's manifest of the release."""
        from model_signing._hashing.hashing import Digest  # private, but the library's manifests need it
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
        """Do nothing: every file of the release must be covered, whatever a signature allows."""


def _check_form(bundle: bytes) -> None:
    """Raise ValueError for a bundle that is not in canonical form, or does not name its key.

    Base64 has bits that decoders ignore, so a flipped bit may go unnoticed: encoding the decoded bundle again must give
    the same text.
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
    """Turn every error of loading a key into KeyUnusable."""
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        # Keys of other kinds have no attribute `curve`, which the library reads first.
        reason = "it is of another kind" if isinstance(error, AttributeError) else shorten(str(error), 300)
        raise KeyUnusable(
            f"the {kind} key cannot be used: {reason}",
            where=key,
            expected=f"{_KEY_HELP}, and the password if it is encrypted" if kind == "private" else _KEY_HELP,
            fix="check the file and the password; docs/store.md shows how to make a pair of keys",
        ) from error
