"""A resolved checkpoint: a local folder pinned by the digest of every file that matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from artifacts import places
from artifacts.errors import CheckpointChanged, CheckpointError
from artifacts.manifest import DataSource
from artifacts.models import Frozen
from artifacts.refs import RelativePath, Sha256
from tasks.clip.limits import check_numbers
from tasks.clip.weights import WeightReader
from tasks.families import family_named

STATE_FILE = places.MODELOPT_STATE
AMAX_FILE = places.AMAX
_LONGEST = 240
_UNUSABLE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What transformers and PyTorch raise for a configuration from which no model can be built."""


class PinnedFile(Frozen):
    """A file when it was digested; inode, size and times show whether it has changed since."""

    path: RelativePath
    sha256: Sha256
    size: int
    inode: int
    mtime_ns: int


class Snapshot(Frozen):
    """A pinned checkpoint folder.

    `digest` covers the names and contents of `files`; `revision` is the hub's commit or, for folders, the digest.
    `calibrated` marks a ModelOpt checkpoint that clipsmith published. `stored_config` is the folder's configuration, in
    the form of a `config.json`, with the image size if one was chosen; only `ClipFamily.resolve_config` reads it.
    """

    kind: Literal["hub", "folder", "demo", "published"]
    name: str
    model: str
    folder: str
    revision: str
    digest: Sha256
    family: str
    stored_config: dict[str, Any]
    files: tuple[PinnedFile, ...]
    parents: tuple[Sha256, ...] = ()
    calibration: DataSource | None = None
    """The calibration set of a published checkpoint."""
    image_size: tuple[int, int] | None = None
    """Height and width, if chosen for a model that leaves them open; `stored_config` has them too."""

    @property
    def calibrated(self) -> bool:
        """Whether the checkpoint has its own amax, so that calibration and quantization are skipped."""
        return self.kind == "published"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration as the model's library understands it (`ClipFamily.resolve_config`).

        Computed on first use, as it imports transformers, which a run with only cached steps does not need.

        Raises:
            CheckpointError: the stored configuration does not describe a model of the family.
        """
        with sound_config(self.family, self.root):
            config = family_named(self.family).resolve_config(self.stored_config)
        check_numbers(config, where=self.root)  # again, as the library renames some keys
        return config

    @property
    def carries_state(self) -> bool:
        """Whether this store published the ModelOpt state, so that it may be passed on unchanged."""
        return any(file.path == STATE_FILE for file in self.files)

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.folder)

    def cache_identity(self) -> dict[str, Any]:
        """What cache keys contain: the content, not the location."""
        chosen = {} if self.image_size is None else {"image_size": self.image_size}
        return {"digest": self.digest, "calibrated": self.calibrated, **chosen}

    def weight_files(self) -> list[Path]:
        """The safetensors files.

        Raises:
            CheckpointChanged: one has changed since it was digested.
        """
        return [self._unchanged(file) for file in self.files if file.path.endswith(".safetensors")]

    def weights(self) -> WeightReader:
        """The model's parameters by their names in its family's model.

        Raises:
            CheckpointChanged: a file was touched since it was digested.
            BadWeights: a file is not valid safetensors.
        """
        family = family_named(self.family)
        return WeightReader(self.weight_files(), partial(family.pieces_at, size=self.image_size))

    def open_folder(self) -> Path:
        """Check that no pinned file has changed, and return the folder.

        Raises:
            CheckpointChanged: a file has changed since it was digested.
        """
        for file in self.files:
            self._unchanged(file)
        return self.root

    def _unchanged(self, file: PinnedFile) -> Path:
        path = self.root / file.path
        stat = path.stat() if path.exists() else None
        if stat is None or (stat.st_size, stat.st_ino, stat.st_mtime_ns) != (file.size, file.inode, file.mtime_ns):
            raise CheckpointChanged(
                "the checkpoint changed while it was being used", where=path, fix="run again once it is complete"
            )
        return path


def one_line(error: BaseException) -> str:
    """The message of a library's exception, for one of ours: one line, not too long, and never empty."""
    text = " ".join(str(error).split())
    if isinstance(error, LookupError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextmanager
def sound_config(family: str, where: object) -> Iterator[None]:
    """Turn transformers' errors about an unusable configuration into an error of ours.

    Raises:
        CheckpointError.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (StrictDataclassError, *_UNUSABLE) as error:
        raise CheckpointError(
            f"the configuration does not describe a model: {one_line(error)}",
            where=where,
            expected=f"the configuration of a {family} model, as save_pretrained wrote it",
            fix="download the checkpoint again, or save it with save_pretrained",
        ) from error


def read_amax_file(path: Path) -> dict[str, float]:
    """Read an `amax.parquet`: the amax of each quantizer, by its name."""
    import pandas as pd

    frame = pd.read_parquet(path)
    return dict(zip(frame["quantizer"], frame["amax"], strict=True))
