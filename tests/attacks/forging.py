"""Releases as somebody forges them: any content, with all digests right, in an archive, a copy or a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artifacts import places
from artifacts.copies import archive
from artifacts.manifest import Manifest
from artifacts.records import dump
from artifacts.refs import canonical_json, digest_json
from artifacts.schema import new_row
from artifacts.store import layout
from artifacts.store.store import Store
from tests.artifacts.support import add, digest, make_release, sealed

SIZES = new_row("sizes", encoder="image", precision="fp8", target="onnx", status="built")


def genuine(root: Path, content: bytes = b"engine", member: str = "a.bin") -> tuple[Store, Manifest]:
    """A store with one release, `evil@1`, of one file."""
    store = Store.open(root)
    return store, make_release(store, "evil", digest("evil"), add(store, content, member), tables={"sizes": (SIZES,)})[
        0
    ]


def forged(manifest: Manifest, edit: Callable[[dict[str, Any]], object]) -> bytes:
    """The manifest with other content, and the digest that is right for it."""
    content = json.loads(manifest.to_bytes())
    del content["digest"]
    edit(content)
    try:
        return canonical_json(content | {"digest": digest_json(content)})
    except ValueError:  # NaN: no digest can be right
        return json.dumps(content | {"digest": "0" * 64}, sort_keys=True, separators=(",", ":")).encode()


def moved(manifest: Manifest, path: str) -> Manifest:
    """The manifest with its one file elsewhere, as that of a table if it lies among those; its identity follows."""
    kind = places.TABLES if path.startswith(f"{places.TABLES}/") else manifest.files[0].kind
    (file,) = manifest.files
    return sealed(manifest.model_copy(update={"files": (file.model_copy(update={"path": path, "kind": kind}),)}))


def packed(store: Store, manifest: Manifest, data: bytes, file: Path) -> Path:
    """An archive as `pack` writes it, with these bytes as its manifest."""
    with file.open("wb") as out:
        archive._write_bytes(out, archive._HEADER, dump(archive._Header()))
        archive._write_bytes(out, places.MANIFEST, data)
        for ref in archive._ordered(manifest):
            for entry in ref.files:
                content = (layout.object_folder(store.root, ref.digest) / entry.path).read_bytes()
                archive._write_bytes(out, archive._member(ref, entry), content)
        out.write(archive._end(out.tell()))
    return file


def planted(root: Path, data: bytes, version: int = 1) -> Path:
    """The bytes as the manifest of `evil@version` in a store or a copy that is there, as another program puts them."""
    path = layout.manifest_path(root, "evil", version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path
