"""The signatures of a store's releases."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from artifacts import limits
from artifacts.errors import ConfigError, DamagedSignature, KeyUnusable, SignatureInvalid, SignatureRequired, StoreError
from artifacts.manifest import Manifest
from artifacts.models import Frozen
from artifacts.names import ModelName, Number
from artifacts.records import dump, parse, read_bytes
from artifacts.store import layout, ledger, signing
from artifacts.store.policy import read_policy
from artifacts.store.store import Store
from artifacts.store.who import current_user
from artifacts.times import IsoTime


class SignatureRecord(Frozen):
    """One signature: `bundle` is the Sigstore bundle (JSON) that the OpenSSF model-signing library made."""

    format: Literal[1] = 1
    model: ModelName
    version: Number
    number: int = Field(ge=1, le=limits.SIGNATURES)
    bundle: str
    who: str
    created: IsoTime


def sign(store: Store, manifest: Manifest, private_key: Path, password: str | None) -> SignatureRecord:
    """Sign a release and keep the signature beside it; from then on this store vouches for it.

    Raises:
        KeyUnusable: the key cannot be used.
        ConfigError: the store's policy cannot be understood.
        ObjectMissing, ObjectDamaged: the release is not what was published.
        StoreError: the release has the largest number of signatures already.
    """
    read_policy(store.root)
    with store.reading():
        store.prove(manifest)
        bundle = signing.sign(manifest, manifest.to_bytes(), private_key, password).decode()
        path = layout.manifest_path(store.root, manifest.model, manifest.version)
        store.keep_record(path)
        folder = layout.signature_folder(store.root, manifest.model, manifest.version)
        while True:
            record = SignatureRecord(
                model=manifest.model,
                version=manifest.version,
                number=_free_number(folder, manifest),
                bundle=bundle,
                who=current_user(),
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            )
            try:
                store.write_record(folder / f"{record.number}.json", dump(record))
            except FileExistsError:
                continue  # somebody else signed at the same time
            ledger.append(store.root, path, vouched=True)
            return record


def _free_number(folder: Path, manifest: Manifest) -> int:
    number = layout.free_number(layout.numbers(folder))
    if number > limits.SIGNATURES:
        raise StoreError(
            f"{manifest.ref} has {limits.SIGNATURES:,} signatures already, the most that are kept", where=folder
        )
    return number


def signatures(root: Path, model: str, version: int) -> list[SignatureRecord]:
    """Every signature of a release, oldest first.

    Raises:
        DamagedSignature.
    """
    folder = layout.signature_folder(root, model, version)
    return [read(folder / f"{number}.json") for number in layout.numbers(folder)]


def read(path: Path) -> SignatureRecord:
    """One signature. Raises: DamagedSignature."""
    record = parse_signature(read_bytes(path, limits.SIGNATURE), path)
    if (record.model, str(record.version), f"{record.number}.json") != (*path.parts[-3:-1], path.name):
        raise DamagedSignature(f"the signature of {record.model}@{record.version} is not in its place", where=path)
    return record


def parse_signature(data: bytes, where: object) -> SignatureRecord:
    """Parse a signature's record; `where` is how messages call its origin. Raises: DamagedSignature."""
    return parse(
        SignatureRecord, data, where=where, error=DamagedSignature, what="the signature", limit=limits.SIGNATURE
    )


def check(store: Store, manifest: Manifest, public_keys: Iterable[Path]) -> SignatureRecord:
    """As `require_signature`, after hashing every byte of the release, as the signature covers those bytes.

    Raises:
        ObjectMissing, ObjectDamaged: the release is not what was published.
        SignatureRequired, KeyUnusable, DamagedSignature.
    """
    with store.reading():
        store.prove(manifest)
        return require_signature(store, manifest, public_keys)


def require_signature(store: Store, manifest: Manifest, public_keys: Iterable[Path]) -> SignatureRecord:
    """The first signature of the release that one of the keys made.

    Raises:
        SignatureRequired: there is none.
        KeyUnusable, DamagedSignature.
    """
    records = signatures(store.root, manifest.model, manifest.version)
    return first_of(records, manifest, public_keys, where=store.root)


def vouched(store: Store, manifest: Manifest) -> bool:
    """Whether the store's owner vouches for a release: it was made here, signed here, or signed by one of the keys that
    the policy requires for promotions."""
    if ledger.is_vouched(store.root, layout.manifest_path(store.root, manifest.model, manifest.version)):
        return True
    try:
        keys = read_policy(store.root).promotion.require_signature
        require_signature(store, manifest, [store.root / key for key in keys])
    except (ConfigError, DamagedSignature, KeyUnusable, SignatureRequired):
        return False
    return True


def first_of(
    records: Iterable[SignatureRecord], manifest: Manifest, public_keys: Iterable[Path], *, where: Path
) -> SignatureRecord:
    """The first of these signatures that one of the keys made; `where` is the store. Raises as `require_signature`."""
    keys = list(public_keys)
    reasons = []
    for record in records:
        for key in keys:
            try:
                signing.verify_signature(record.bundle.encode(), manifest, manifest.to_bytes(), key)
            except SignatureInvalid as error:
                reasons.append(f"signature {record.number}, {key.name}: {error.what}")
            else:
                return record
    raise SignatureRequired(
        f"{manifest.ref} has no signature that counts" + (f" ({'; '.join(reasons)})" if reasons else ""),
        where=where / layout.POLICY if not reasons else where,
        expected=f"a signature by one of: {', '.join(key.name for key in keys)}",
        fix=f"`clipsmith sign {manifest.ref} --key PRIVATE.pem` with a key that counts",
    )
