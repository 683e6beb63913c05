"""Step 9: everything that was made becomes one immutable release; the only caller of `Store.publish`."""

from __future__ import annotations

import datetime
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
from artifacts.store.store import active_store
from tasks.checkpoints.snapshot import Snapshot
from tasks.file_names import BUILD_LOG
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
    """A release before it has a version: what the flow hands over.

    `timings` are stage rows of steps that run every time; they, `parameters` and `device` are recorded but are not
    part of the release's identity.
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
        """The digest of what makes this release what it is: inputs, objects, results and gates, not what they cost."""
        return digest_json(
            {
                "source": self.snapshot.digest,
                "calibration": self.calibration and self.calibration.digest,
                "evaluation": self.evaluation.digest,
                "recipe": self.recipe and self.recipe.digest,
                "objects": sorted(
                    [piece.folder, piece.object.digest] for piece in self.pieces if piece.object.kind != BUILD_LOG
                ),
                "tables": {name: rows for name, rows in self.tables.items() if name != "stages"},
                "gates": [result.model_dump(mode="json") for result in self.gates],
            }
        )


class Published(Frozen):
    """Where a release can be found; `new` is False when the same work had been published before."""

    ref: str
    identity: str
    store: str
    new: bool


def publish(draft: Draft) -> Published:
    """Publish the draft, or find the release that it already is, and make again what of it is derived and damaged."""
    store = active_store()
    identity = draft.identity()

    def build(version: int, sequence: int) -> Manifest:
        tables = dict(draft.tables)
        tables["stages"] = (*draft.timings, *tables["stages"])
        manifest = Manifest(
            model=draft.snapshot.model,
            version=version,
            sequence=sequence,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            identity=identity,
            provenance=_provenance(draft),
            files=tuple(_files(draft.pieces)),
            tables=tables,
            gates=draft.gates,
        )
        return manifest.model_copy(update={"files": (*manifest.files, *_files(_render(manifest)))})

    manifest, new = store.publish(draft.snapshot.model, identity, build)
    if not new and not _is_sound(manifest):
        _render(manifest)
    return Published(ref=manifest.ref, identity=manifest.identity, store=str(store.root), new=new)


def _render(manifest: Manifest) -> list[Piece]:
    """Tables, report and scripts: derived from the manifest and the evidence it lists, the same bytes every time."""
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
            yield ReleaseFile(
                path=places.within(piece.folder, entry.path),
                kind=piece.object.kind,
                object=piece.object.digest,
                member=entry.path,
                sha256=entry.sha256,
                size=entry.size,
                encoder=piece.encoder,
                precision=piece.precision,
                target=piece.target,
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
        recipe_content=None if draft.recipe is None else draft.recipe.model_dump(mode="json"),
        parameters=draft.parameters,
        packages={name: package_version(name) for name in _PACKAGES},
        device=draft.device,
        code=_code_revision(),
        parents=snapshot.parents,
    )


def _code_revision() -> str:
    """The package's version, and the commit when it runs from a checkout."""
    version = package_version("clipsmith")
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return version
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{version} ({described.stdout.strip()})" if described.returncode == 0 else version


@task(name="publish", persist_result=False)
def publish_task(draft: Draft) -> Published:
    """Uncached and last: it finds an equal release by its content."""
    return publish(draft)
