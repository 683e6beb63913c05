"""The files of an exported release: finding its engines, and verifying them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from artifacts import limits, places
from artifacts.errors import EngineUnavailable, NotARelease, ObjectDamaged, ObjectMissing
from artifacts.manifest import Encoder, Manifest, Precision, ReleaseFile
from artifacts.records import read_bytes
from artifacts.release.fastest import ONNX_RUNTIME, PRECISIONS, Choice, fastest
from artifacts.store.store import room
from tasks.clip.base import ENCODERS
from tasks.clip.hugging_face import ClipFamily
from tasks.engines import backend_for, known_targets
from tasks.engines.base import BatchProfile
from tasks.engines.onnx_runtime import parsed, version
from tasks.engines.record import read_record, record_path
from tasks.families import family_named
from tasks.file_names import engine_name, onnx_name

_AGAIN = "export the release again"
_CHUNK = 1 << 20


class ReleaseFolder:
    """A folder that `clipsmith export` wrote."""

    def __init__(self, root: Path) -> None:
        """Read the manifest.

        Raises:
            NotARelease: there is no manifest.
            DamagedManifest: the manifest is damaged.
        """
        self.root = root.expanduser().absolute()
        path = self.root / places.MANIFEST
        try:
            data = read_bytes(path, limits.MANIFEST)
        except OSError as error:
            raise NotARelease(
                f"no exported release: {error.strerror}",
                where=path,
                expected=f"a folder that holds {places.MANIFEST}",
                fix="export one: `clipsmith export REF DIR`",
            ) from error
        self.manifest = Manifest.from_bytes(data, where=path)

    @property
    def family(self) -> ClipFamily:
        """The model's family."""
        return family_named(self.manifest.provenance.source.family)

    def encoders(self, precision: Precision) -> tuple[Encoder, ...]:
        """The encoders that the release has in a precision."""
        return tuple(encoder for encoder in ENCODERS if self._find(encoder, onnx_name(precision)) is not None)

    def width(self, encoder: Encoder) -> int:
        """The length of an encoder's embeddings."""
        (row,) = (row for row in self.manifest.tables["encoders"] if row["encoder"] == encoder)
        return int(row["embedding_dim"] or 0)

    def targets(self, precision: Precision) -> tuple[str, ...]:
        """The targets of the release in a precision; ONNX Runtime is one, as it runs the ONNX files directly."""
        built = {file.target for file in self.manifest.files if file.kind == "engine" and file.precision == precision}
        return tuple(target for target in known_targets() if target in built or target == ONNX_RUNTIME)

    def choose(self, target: str | None, precision: Precision | None) -> Choice:
        """Choose the target and the precision to run.

        Raises:
            UnknownTarget: no backend knows `target`.
            EngineUnavailable: the release does not have them, or this machine cannot run them.
        """
        had = [name for name in PRECISIONS if self.encoders(name)]
        if not had or precision not in (None, *had):
            raise self._not_had(f"precision {precision or PRECISIONS[0]}", had)
        wanted = had if precision is None else [precision]
        has = {name: self.targets(name) for name in wanted}
        if target is None:
            known = dict.fromkeys(name for names in has.values() for name in names if name != ONNX_RUNTIME)
            target = next((name for name in known if backend_for(name).why_not_run(name) is None), ONNX_RUNTIME)
        reason = backend_for(target).why_not_run(target)
        found = [name for name in wanted if target in has[name]]
        if not found:
            having = dict.fromkeys(name for names in has.values() for name in names)
            raise self._not_had(f"{' or '.join(wanted)} engine for {target}", list(having))
        if reason is not None:
            raise EngineUnavailable(
                f"target {target} cannot run here: {reason}",
                where=self.root,
                expected=f"one of {', '.join(has[found[0]])} that this machine can run",
                fix="choose another target, or leave it to load_encoder",
            )
        return fastest(self.manifest, target, found) if precision is None else Choice(target, precision, "as asked for")

    def engine(self, encoder: Encoder, target: str, precision: Precision, own: Path) -> tuple[Path, BatchProfile]:
        """Copy an encoder's engine into the folder `own` and verify it; return its path and its batch profile.

        If ONNX Runtime is older than the one that optimized the engine, the ONNX file itself is used instead.

        Raises:
            ObjectMissing, ObjectDamaged: a file is missing, or has changed.
            EngineMismatch: the engine's record is missing or malformed.
        """
        built = self._find(encoder, engine_name(precision, target))
        if built is not None:
            self.copy(built.object, own)
            path = own / built.path
            record = read_record(path) if record_path(path).exists() else None
            if target != ONNX_RUNTIME or record is None or parsed(record.platform.version) <= version():
                return path, BatchProfile() if record is None else record.profile
        file = self._find(encoder, onnx_name(precision))
        assert file is not None, "chosen among those that the release has"
        self.copy(file.object, own)
        return own / file.path, BatchProfile()

    def preprocess(self, own: Path) -> Path:
        """Copy tokenizer and image processor into the folder `own` and verify them; return their folder.

        Raises:
            ObjectMissing, ObjectDamaged: a file is missing, or has changed.
        """
        file = next(file for file in self.manifest.files if file.kind == places.PREPROCESS)
        self.copy(file.object, own)
        return own / file.path.removesuffix(f"/{file.member}")

    def copy(self, digest: str, own: Path) -> None:
        """Copy the files of one object into the folder `own`, which only we can write, and hash the copies.

        So what is loaded is what was hashed, even if others write in the release's folder meanwhile.

        Raises:
            ObjectMissing, ObjectDamaged: a file is missing, or has changed.
            DiskFull: there is no room for the copy.
        """
        for file in (file for file in self.manifest.files if file.object == digest):
            path = self.root / file.path
            if not path.is_file():
                raise ObjectMissing(f"{file.path} is not in the folder", where=self.root, fix=_AGAIN)
            target = own / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with room(own):
                found = None if path.stat().st_size != file.size else _copy(path, target)
            if found != file.sha256:
                raise ObjectDamaged(
                    f"{file.path} is not what was published",
                    where=path,
                    expected=f"{file.size} bytes with sha256 {file.sha256}",
                    fix=_AGAIN,
                )

    def _find(self, encoder: Encoder, member: str) -> ReleaseFile | None:
        files = (file for file in self.manifest.files if file.encoder == encoder and file.member == member)
        return next(files, None)

    def _not_had(self, what: str, had: Sequence[str]) -> EngineUnavailable:
        return EngineUnavailable(
            f"{self.manifest.ref} has no {what}",
            where=self.root,
            expected=f"one of {', '.join(had) or 'none'}",
            fix="make it: `clipsmith optimize` with it among `targets` and `precisions`",
        )


def _copy(source: Path, target: Path) -> str:
    """Copy a file; return the hex sha256 of the copied bytes."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()
