"""The signatures of a store's releases: who says that a release is theirs."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from artifacts.errors import DamagedSignature, SignatureInvalid, SignatureRequired
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.names import ModelName
from artifacts.records import dump, parse
from artifacts.store import layout, signing
from artifacts.store.store import Store
from artifacts.store.who import current_user


class SignatureRecord(Frozen):
    """One signature: `bundle` is the Sigstore bundle (JSON) that the OpenSSF model-signing library made."""

    format: Literal[1] = 1
    model: ModelName
    version: int = Field(ge=1)
    number: int = Field(ge=1)
    bundle: str
    who: str
    created: str


def sign(store: Store, manifest: Manifest, private_key: Path, password: str | None) -> SignatureRecord:
    """Sign a release and keep the signature beside it.

    Raises:
        KeyUnusable: the key cannot be used.
    """
    bundle = signing.sign(manifest, manifest.to_bytes(), private_key, password).decode()
    with store.reading():
        store.keep_record(layout.manifest_path(store.root, manifest.model, manifest.version))
        folder = layout.signature_folder(store.root, manifest.model, manifest.version)
        while True:
            record = SignatureRecord(
                model=manifest.model,
                version=manifest.version,
                number=1 + max(layout.numbers(folder), default=0),
                bundle=bundle,
                who=current_user(),
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            )
            try:
                store.write_record(folder / f"{record.number}.json", dump(record))
            except FileExistsError:
                continue  # somebody else signed at the same time
            return record


def signatures(root: Path, model: str, version: int) -> list[SignatureRecord]:
    """Every signature of a release, oldest first.

    Raises:
        DamagedSignature.
    """
    folder = layout.signature_folder(root, model, version)
    return [read(folder / f"{number}.json") for number in layout.numbers(folder)]


def read(path: Path) -> SignatureRecord:
    """One signature. Raises: DamagedSignature."""
    record = parse(SignatureRecord, path.read_bytes(), where=path, error=DamagedSignature, what="the signature")
    if (record.model, str(record.version), f"{record.number}.json") != (*path.parts[-3:-1], path.name):
        raise DamagedSignature(f"the signature of {record.model}@{record.version} is not in its place", where=path)
    return record


def require_signature(store: Store, manifest: Manifest, public_keys: Iterable[Path]) -> SignatureRecord:
    """The first signature of the release that one of the keys made.

    Raises:
        SignatureRequired: there is none.
        KeyUnusable, DamagedSignature.
    """
    keys = list(public_keys)
    reasons = []
    for record in signatures(store.root, manifest.model, manifest.version):
        for key in keys:
            try:
                signing.verify_signature(record.bundle.encode(), manifest, manifest.to_bytes(), key)
            except SignatureInvalid as error:
                reasons.append(f"signature {record.number}, {key.name}: {error.what}")
            else:
                return record
    raise SignatureRequired(
        f"{manifest.ref} has no signature that counts" + (f" ({'; '.join(reasons)})" if reasons else ""),
        where=store.root / layout.POLICY if not reasons else store.root,
        expected=f"a signature by one of: {', '.join(key.name for key in keys)}",
        fix=f"`clipsmith sign {manifest.ref} --key PRIVATE.pem` with a key that counts",
    )
