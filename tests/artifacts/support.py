"""Small objects and releases, made without a model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ec

from artifacts.manifest import DataSource, Manifest, Provenance, ReleaseFile, Source
from artifacts.refs import ArtifactRef, digest_json
from artifacts.release.identity import IDENTITY, identity_of
from artifacts.schema import SCHEMAS
from artifacts.store import layout
from artifacts.store.store import Store

SHA = "cd" * 32


def add(store: Store, content: bytes = b"content", name: str = "a.bin", kind: str = "thing") -> ArtifactRef:
    """An object of one file."""
    with store.staging() as folder:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return store.add(kind, folder)


def place(store: Store, ref: ArtifactRef) -> Path:
    """Where an object is."""
    return layout.object_folder(store.root, ref.digest)


def rewrite(path: Path, data: bytes) -> None:
    """Change a file that the store made read-only."""
    path.chmod(0o644)
    path.write_bytes(data)


def digest(text: str) -> str:
    """Something that looks like an identity."""
    return hashlib.sha256(text.encode()).hexdigest()


def provenance(**changes: Any) -> Provenance:
    """Complete, and short."""
    source = Source(kind="folder", name="n", revision="r", digest=SHA, weights={}, family="clip")
    values: dict[str, Any] = {
        "source": source,
        "calibration": None,
        "evaluation": DataSource(source="digits", digest=SHA, samples=9),
        "recipe": "fp8",
        "recipe_digest": digest_json(None),
        "recipe_content": None,
        "parameters": {},
        "packages": {},
        "device": {},
        "code": "0",
    }
    return Provenance(**(values | changes))


def files_of(ref: ArtifactRef, folder: str = "image", **labels: Any) -> tuple[ReleaseFile, ...]:
    """An object's files as those of a release; `labels` say what they belong to."""
    return tuple(
        ReleaseFile(
            path=f"{folder}/{entry.path}" if folder else entry.path,
            kind=ref.kind,
            object=ref.digest,
            member=entry.path,
            sha256=entry.sha256,
            size=entry.size,
            **labels,
        )
        for entry in ref.files
    )


def graph(store: Store, content: bytes) -> dict[str, Any]:
    """Changes that make a release one FP8 graph, of half of FP16's size by its table."""
    labels = {"encoder": "image", "precision": "fp8"}
    row = dict.fromkeys(column.name for column in SCHEMAS["sizes"].columns) | labels
    row |= {"target": "onnx", "bytes": len(content), "vs_fp16": 0.5, "status": "built"}
    ref = add(store, content, "fp8.onnx", "onnx")
    return {"files": files_of(ref, **labels), "tables": {"sizes": (row,)}}


def sealed(manifest: Manifest) -> Manifest:
    """The manifest with the identity that follows from it."""
    return manifest.model_copy(update={"identity": identity_of(manifest)})


def make_release(store: Store, model: str, source: str, *refs: ArtifactRef, **changes: Any) -> tuple[Manifest, bool]:
    """Publish a release of objects; the first one's files are in `image/`, the others' in `image1/` and so on.

    `source` is the digest of its checkpoint, from which, and from the rest, its identity follows.
    """

    def build(version: int, sequence: int) -> Manifest:
        values: dict[str, Any] = {
            "model": model,
            "version": version,
            "sequence": sequence,
            "created": "2026-01-01T00:00:00+00:00",
            "identity": SHA,
            "identity_version": IDENTITY,
            "provenance": provenance(),
            "files": tuple(f for n, ref in enumerate(refs) for f in files_of(ref, f"image{n or ''}")),
            "tables": {},
        }
        manifest = Manifest(**(values | changes))
        about = manifest.provenance.model_copy(
            update={"source": manifest.provenance.source.model_copy(update={"digest": source})}
        )
        return sealed(manifest.model_copy(update={"provenance": about}))

    return store.publish(model, build(1, 1).identity, build)


def key_pair(folder: Path, name: str = "release", password: str | None = None) -> tuple[Path, Path]:
    """A new private key and its public one as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    locked = forms.BestAvailableEncryption(password.encode()) if password else forms.NoEncryption()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, locked))
    info = forms.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(forms.Encoding.PEM, info))
    return private, public
