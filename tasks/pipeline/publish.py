"""Step 9: publish everything that was made as one immutable release; the only caller of `Store.publish`."""

from __future__ import annotations

import datetime
import functools
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import task

from artifacts import places
from artifacts.errors import ObjectDamaged, ObjectMissing
from artifacts.keeping import render
from artifacts.manifest import Cell, DataSource, Encoder, GateResult, Manifest, Provenance, ReleaseFile, Row, Source
from artifacts.models import Frozen
from artifacts.refs import ArtifactRef, digest_json
from artifacts.release.identity import IDENTITY, has_content, identity_of, pickle_content
from artifacts.store.store import active_store
from tasks.checkpoints.snapshot import Snapshot
from tasks.quantizing.recipe import Recipe
from tasks.runs.versions import package_version
from tasks.serving.release_scripts import write_scripts

_PACKAGES = (
    "clipsmith",
    "torch",
    "transformers",
    "tokenizers",
    "nvidia-modelopt",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "onnx_graphsurgeon",
    "onnxruntime",
    "tensorrt-rtx",
    "tensorrt",
    "polygraphy",
    "prefect",
    "numpy",
    "pillow",
    "ml_dtypes",
    "pandas",
    "pyarrow",
    "safetensors",
    "datasets",
    "scikit-learn",
)


class Piece(Frozen):
    """An object whose files go under `folder` of an exported release."""

    object: ArtifactRef
    folder: str
    encoder: Encoder | None = None
    precision: str | None = None
    target: str | None = None


class Draft(Frozen):
    """A release before it has a version, as the flow hands it over.

    `timings` are rows of the table `stages` for work that runs every time.
    """

    snapshot: Snapshot
    calibration: DataSource | None
    evaluation: DataSource
    recipe: Recipe | None
    parameters: dict[str, Any]
    device: dict[str, Cell]
    pieces: tuple[Piece, ...]
    tables: dict[str, tuple[Row, ...]]
    gates: tuple[GateResult, ...]
    timings: tuple[Row, ...]

    def identity(self) -> str:
        """The digest of what makes this release what it is (`artifacts.release.identity`)."""
        return self.manifest(1, 1).identity

    def manifest(self, version: int, sequence: int) -> Manifest:
        """The manifest for a version, without derived files."""
        manifest = Manifest(
            model=self.snapshot.model,
            version=version,
            sequence=sequence,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            identity="0" * 64,
            identity_version=IDENTITY,
            provenance=_provenance(self),
            files=tuple(_files(self.pieces)),
            tables=self.tables | {"stages": (*self.timings, *self.tables["stages"])},
            gates=self.gates,
        )
        return manifest.model_copy(update={"identity": identity_of(manifest)})


class Published(Frozen):
    """A reference to a published release; `new` is False if the same work had been published before."""

    ref: str
    identity: str
    store: str
    new: bool


def publish(draft: Draft) -> Published:
    """Publish the draft, or find the equal release that exists already and make its damaged derived files again."""
    store = active_store()
    identity = draft.identity()

    def build(version: int, sequence: int) -> Manifest:
        manifest = draft.manifest(version, sequence)
        return manifest.model_copy(update={"files": (*manifest.files, *_files(_render(manifest)))})

    manifest, new = store.publish(draft.snapshot.model, identity, build)
    if not new and not _is_sound(manifest):
        _render(manifest)
    return Published(ref=manifest.ref, identity=manifest.identity, store=str(store.root), new=new)


def _render(manifest: Manifest) -> list[Piece]:
    """Make tables, report and scripts from the manifest and the evidence that it lists: the same bytes every time."""
    store = active_store()
    pieces = []
    for kind, place in ((render.TABLES, places.TABLES), (render.REPORT, "")):
        with store.staging() as folder:
            render.render(store, manifest, kind, folder)
            pieces.append(Piece(object=store.add(kind, folder), folder=place))
    with store.staging() as folder:
        write_scripts(manifest, folder)
        pieces.append(Piece(object=store.add(places.SCRIPTS, folder), folder=places.SCRIPTS))
    return pieces


def _is_sound(manifest: Manifest) -> bool:
    """Whether the tables, the report and the scripts of a release are there and undamaged."""
    try:
        for file in manifest.files:
            if file.kind in (render.TABLES, render.REPORT, places.SCRIPTS):
                active_store().read(manifest, file.path)
    except (ObjectMissing, ObjectDamaged):
        return False
    return True


def _files(pieces: Iterable[Piece]) -> Iterable[ReleaseFile]:
    for piece in pieces:
        for entry in piece.object.files:
            path = places.within(piece.folder, entry.path)
            yield ReleaseFile(
                path=path,
                kind=piece.object.kind,
                object=piece.object.digest,
                member=entry.path,
                sha256=entry.sha256,
                size=entry.size,
                encoder=piece.encoder,
                precision=piece.precision,
                target=piece.target,
                content=pickle_content(active_store().path(piece.object, entry.path)) if has_content(path) else None,
            )


def _provenance(draft: Draft) -> Provenance:
    snapshot = draft.snapshot
    return Provenance(
        source=Source(
            kind=snapshot.kind,
            name=snapshot.name,
            revision=snapshot.revision,
            digest=snapshot.digest,
            weights={file.path: file.sha256 for file in snapshot.files if file.path.endswith(".safetensors")},
            family=snapshot.family,
        ),
        calibration=draft.calibration,
        evaluation=draft.evaluation,
        recipe=draft.recipe.name if draft.recipe else "none (FP16 only)",
        recipe_digest=digest_json(None) if draft.recipe is None else draft.recipe.digest,
        recipe_content=None if draft.recipe is None else draft.recipe.model_dump(mode="json", exclude={"attention"}),
        parameters=draft.parameters,
        packages={name: package_version(name) for name in _PACKAGES},
        device=draft.device,
        code=_code_revision(),
        parents=snapshot.parents,
    )


@functools.cache
def _code_revision() -> str:
    """The package's version, and the commit when it runs from a checkout."""
    version = package_version("clipsmith")
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return version
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{version} ({described.stdout.strip()})" if described.returncode == 0 else version


# Uncached and last: it finds an equal release by its content.
publish_task = task(name="publish", persist_result=False)(publish)
