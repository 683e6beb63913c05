"""One side of a comparison: the engines of a release in one precision, ready to be run again."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts import places
from artifacts.config_files import mapping, read_file
from artifacts.errors import CheckpointError, CheckpointNotFound, ConfigError
from artifacts.manifest import Encoder, Manifest, Precision
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.base import ImageSize
from tasks.engines import BatchProfile
from tasks.engines.record import release_profile
from tasks.pipeline.checkpoint import calibration_samples, image_hashes, resolve


@dataclass(frozen=True)
class ReleaseSide:
    """A release in one precision; `snapshot` describes its model. If there are no weights for an FP32 reference,
    `no_fp32` gives the reason."""

    manifest: Manifest
    precision: Precision
    snapshot: Snapshot
    no_fp32: str | None

    @property
    def name(self) -> str:
        """The release and precision, as tables show them."""
        return f"{self.manifest.ref} {self.precision}"

    @property
    def encoders(self) -> list[str]:
        """The encoders of the release in this precision."""
        files = self.manifest.files
        return [f.encoder for f in files if f.encoder and (f.kind, f.precision) == ("onnx", self.precision)]

    @property
    def profile(self) -> BatchProfile:
        """The batch profile that its engines were built for."""
        return release_profile(self.manifest)

    @property
    def preprocess(self) -> ArtifactRef:
        """The object with its tokenizer and image processor."""
        found = find_object(self.manifest, places.PREPROCESS)
        assert found is not None  # every release has it
        return found

    def onnx(self, encoder: Encoder) -> ArtifactRef | None:
        """The object with an encoder's ONNX graph, or None."""
        return find_object(self.manifest, "onnx", encoder, self.precision)

    def engine(self, encoder: Encoder, target: str) -> ArtifactRef | None:
        """The object with an encoder's engine for a target, or None."""
        return find_object(self.manifest, "engine", encoder, self.precision, target)


def find_object(
    manifest: Manifest, kind: str, encoder: str | None = None, precision: str | None = None, target: str | None = None
) -> ArtifactRef | None:
    """The object of a release that holds a file of this kind, encoder, precision and target; None if there is none."""
    wanted = (kind, encoder, precision, target)
    for file in manifest.files:
        if (file.kind, file.encoder, file.precision, file.target) == wanted:
            return next(ref for ref in manifest.objects() if ref.digest == file.object)
    return None


def release_side(store: Store, reference: str, precision: Precision) -> ReleaseSide:
    """Look up a release and its checkpoint; if the checkpoint is missing, the one in the release describes the model.

    Raises:
        ReleaseNotFound, BadName, AmbiguousReference, DamagedManifest: the release cannot be found or read.
        CheckpointNotFound: there is neither of the two checkpoints.
    """
    manifest = store.find(reference)
    source = manifest.provenance.source
    try:
        size = _image_size(manifest)
        snapshot = resolve(source.name, source.revision if source.kind == "hub" else None, store, image_size=size)
        if snapshot.digest == source.digest:
            return ReleaseSide(manifest, precision, snapshot, None)
        reason = f"{source.name} is not what it was when {manifest.ref} was made"
    except (CheckpointError, ConfigError) as error:
        reason = error.what
    return ReleaseSide(manifest, precision, _without_weights(store, manifest, reason), reason)


def _image_size(manifest: Manifest) -> ImageSize | None:
    """The image size that was chosen for a model that leaves it open, else None."""
    recorded = manifest.provenance.parameters.get("image_size")
    return (recorded[0], recorded[1]) if isinstance(recorded, list) and len(recorded) == 2 else None


def _without_weights(store: Store, manifest: Manifest, reason: str) -> Snapshot:
    source, kept = manifest.provenance.source, find_object(manifest, places.CHECKPOINT)
    if kept is None:
        raise CheckpointNotFound(
            f"the checkpoint of {manifest.ref} cannot be had, and the release holds none: {reason}",
            where=source.name,
            expected=f"a checkpoint with digest {source.digest[:12]}",
            fix="put the checkpoint back where it was",
        )
    config = read_file(store.path(kept, "config.json"), mapping, what="config.json", error=CheckpointError)
    return Snapshot(
        kind=source.kind,
        name=source.name,
        model=manifest.model,
        folder=str(store.path(kept)),
        revision=source.revision,
        digest=source.digest,
        family=source.family,
        stored_config=config,
        files=(),
        image_size=_image_size(manifest),
    )


def calibrated_on(store: Store, manifest: Manifest) -> set[str]:
    """The hashes of the pictures that a release was calibrated on."""
    return image_hashes(store.read(manifest, path) for path in calibration_samples(manifest))
