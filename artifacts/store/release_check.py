"""Whether a release in a store is what it claims to be: checked before it is promoted, signed or exported."""

from __future__ import annotations

import hashlib

from artifacts.manifest import Manifest
from artifacts.release.coherence import check_manifest
from artifacts.release.contents import check_contents
from artifacts.store import layout, ledger
from artifacts.store.store import Store

Brought = frozenset[tuple[str, str]]
"""Manifests that were brought into a store, as (path, sha256)."""


def check_release(store: Store, manifest: Manifest, known: Brought | None = None) -> None:
    """Make sure that identity and results follow from the manifest and, for a release from elsewhere, from its files.

    `known` is the result of `brought`; pass it when checking many releases, so that the ledger is read once.

    Raises:
        ReleaseDiffers, TableError: the message names what differs.
        ObjectMissing, ObjectDamaged.
    """
    check_manifest(manifest, here=True)
    if came(store, manifest, known):
        check_contents(manifest, lambda file: store.read(manifest, file.path))


def came(store: Store, manifest: Manifest, known: Brought | None = None) -> bool:
    """Whether a release was brought into the store, by `pull`, `unpack` or a bucket, and not published here."""
    path = layout.manifest_path(store.root, manifest.model, manifest.version).relative_to(store.root).as_posix()
    digest = hashlib.sha256(manifest.to_bytes()).hexdigest()
    return (path, digest) in (brought(store) if known is None else known)


def brought(store: Store) -> Brought:
    """All manifests that were brought into the store, except those that had been published here before."""
    published: dict[tuple[str, str], bool] = {}
    for entry in ledger.entries(store.root):
        key = (entry.path, entry.sha256)
        published[key] = published.get(key, False) or not entry.came
    return frozenset(key for key, here in published.items() if not here)
