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
"""What transformers and PyTorch raise for a configuration with values that make no model."""


class PinnedFile(Frozen):
    """A file as it was when it was digested; the inode and times tell whether it has been touched since."""

    path: RelativePath
    sha256: Sha256
    size: int
    inode: int
    mtime_ns: int


class Snapshot(Frozen):
    """A pinned checkpoint folder.

    `digest` covers the names and contents of `files`; `revision` is the hub's commit or, for folders, the digest.
    `calibrated` marks a ModelOpt checkpoint that clipsmith published. `stored_config` is the configuration as the
    folder has it, in the form of a `config.json`, with the image size where one was chosen; only
    `ClipFamily.resolve_config` reads it.
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
    """What a published checkpoint was calibrated on."""
    image_size: tuple[int, int] | None = None
    """Height and width that were chosen for a model that leaves them open; `stored_config` has them too."""

    @property
    def calibrated(self) -> bool:
        """Whether the checkpoint brings its own amax, so that calibration and quantization are skipped."""
        return self.kind == "published"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration as the model's library understands it (`ClipFamily.resolve_config`).

        Made when it is first asked for: it imports transformers, which a run whose steps are all cached goes without.

        Raises:
            CheckpointError: the stored configuration describes no model of the family.
        """
        with sound_config(self.family, self.root):
            config = family_named(self.family).resolve_config(self.stored_config)
        check_numbers(config, where=self.root)  # those too that the library has other names for
        return config

    @property
    def carries_state(self) -> bool:
        """Whether the ModelOpt state is one that this store published, so that it may be passed on as it is."""
        return any(file.path == STATE_FILE for file in self.files)

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.folder)

    def cache_identity(self) -> dict[str, Any]:
        """What a cache key sees: the content, not the place."""
        chosen = {} if self.image_size is None else {"image_size": self.image_size}
        return {"digest": self.digest, "calibrated": self.calibrated, **chosen}

    def weight_files(self) -> list[Path]:
        """The safetensors files.

        Raises:
            CheckpointChanged: one was touched since it was digested.
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
        """The folder, once every pinned file has been found untouched.

        Raises:
            CheckpointChanged: a file was touched since it was digested.
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
    """What a library says in an exception, for a message of ours: one line, not too long, and never empty."""
    text = " ".join(str(error).split())
    if isinstance(error, LookupError) or not text:
        text = f"{type(error).__name__} {text}".strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextmanager
def sound_config(family: str, where: object) -> Iterator[None]:
    """Turn what transformers raises for a configuration that it cannot use into an error of ours.

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
    """The amax of each quantizer, by its name, from an `amax.parquet`."""
    import pandas as pd

    frame = pd.read_parquet(path)
    return dict(zip(frame["quantizer"], frame["amax"], strict=True))
