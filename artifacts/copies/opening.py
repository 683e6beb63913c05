"""Opening a store as its user wants it: by itself, or as this host's working copy of a bucket."""

from __future__ import annotations

import os
from pathlib import Path

from artifacts.store.store import BUCKET_VARIABLE, Store, look_into


def open_store(root: Path | str, *, writable: bool = True) -> Store:
    """Open the store in `root` (see `Store.open`).

    If $CLIPSMITH_BUCKET names a bucket, a writable store is opened as this host's working copy of it.

    Raises:
        NotAStore, StoreReadOnly, UnsupportedFileSystem: see `Store.open`.
        ReplicaError: the bucket cannot be reached or used.
        ReleaseConflict: the store and the bucket have different histories.
        ConfigError: the store is the working copy of a bucket, and $CLIPSMITH_BUCKET names none, or another.
    """
    url = os.environ.get(BUCKET_VARIABLE)
    if not writable or not url:
        return Store.open(root, writable=writable)
    from artifacts.copies.shared import SharedStore  # imports what only buckets need

    folder, _ = look_into(root, writable=True)
    return SharedStore.join(folder, url)
