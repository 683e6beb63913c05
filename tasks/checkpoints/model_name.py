"""A model's name in the store, and whether earlier releases of that name have other weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import ClipsmithError
from artifacts.names import model_name_from
from artifacts.store.store import Store

if TYPE_CHECKING:
    from tasks.checkpoints.snapshot import Snapshot

_COMMON = re.compile(
    r"(?:model|checkpoint|ckpt|snapshot|export|output|result|weight)s?|final|best|last|latest|main|merged|hf|"
    r"(?:(?:checkpoint|ckpt|epoch|step|iter)s?[-_=]?)?\d+|\d+_\w+|[0-9a-f]{40}",
    re.IGNORECASE,
)
"""Folder names that say nothing: `checkpoint-500`, a commit's hash, sentence-transformers' `0_CLIPModel`."""
_HUB_CACHE = re.compile(r"models--(.+)")


def folder_name(folder: Path) -> str:
    """The name of a folder's model: the last part of its path, or the last two if the last says nothing.

    A snapshot in the hub's cache (`models--<organisation>--<name>/snapshots/<commit>`) gets the hub model's name.
    """
    last, above = folder.name, folder.parent
    if above.name == "snapshots" and (cached := _HUB_CACHE.fullmatch(above.parent.name)):
        return model_name_from(cached[1])
    if _COMMON.fullmatch(last) and above.name:
        return model_name_from(f"{above.name}-{last}")
    return model_name_from(last)


def other_weights(snapshot: Snapshot, store: Store) -> str | None:
    """A warning in one line if the newest release of the snapshot's name was made from weights of another source.

    New weights from the same source continue the history. A relative path is not compared, as it may mean another
    folder by now.
    """
    try:
        newest = store.find(snapshot.model)
    except ClipsmithError:  # there is none yet, or it is damaged, which publishing or `verify` will report
        return None
    source = newest.provenance.source
    if snapshot.kind == "published" or source.digest == snapshot.digest:
        return None
    if source.name == snapshot.name and (snapshot.kind != "folder" or Path(snapshot.name).expanduser().is_absolute()):
        return None
    return (
        f"the name {snapshot.model} belongs to other weights: {newest.ref} was made from {source.name}. This run will "
        "be one more version of it; give --name for a name of its own"
    )
