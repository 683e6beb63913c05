"""Clipsmith from Python: `optimize` makes a release, `releases` and `release` find them, `load_encoder` runs one that
was exported. `docs/python.md` shows it.

Errors are those of `artifacts.errors`, with what, where, what was expected and what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.copies.opening import open_store
from artifacts.errors import GateFailed
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from flows.defaults import default_store
from tasks.runtime import ClipEncoder, load_encoder

if TYPE_CHECKING:
    import pandas

__all__ = ["ClipEncoder", "Release", "load_encoder", "optimize", "release", "releases"]


@dataclass(frozen=True)
class Release:
    """A release in a store.

    `manifest` is everything that is known of it: `docs/json.md` tells its fields. `new` is False where `optimize` found
    that the same work had been published before.
    """

    manifest: Manifest
    store: Path
    new: bool = False

    @property
    def ref(self) -> str:
        """Its reference: `model@version`."""
        return self.manifest.ref

    @property
    def accepted(self) -> bool:
        """Whether no gate rejects it."""
        return not self.manifest.rejected

    def table(self, name: str) -> pandas.DataFrame:
        """One of its tables, as `accuracy` or `latency`: a row per measurement, units in `attrs`.

        Raises:
            TableError: there is no such table.
        """
        from artifacts.release.frames import to_frame

        return to_frame(name, self.manifest.tables.get(name, ()))

    def report(self) -> Path:
        """Where its HTML report is.

        Raises:
            NotARelease: it has none. ObjectMissing, ObjectDamaged: it is not what was published.
        """
        from artifacts.keeping.render import report_path

        return report_path(self._opened(), self.manifest)

    def export(self, folder: Path | str) -> Path:
        """Write it as a plain folder, for `load_encoder`, and return that folder.

        Raises:
            ExportTargetExists: `folder` is a file, or not empty. ExportFailed: it cannot be written.
            ObjectMissing, ObjectDamaged, DamagedSignature: the release is not what was published.
        """
        from artifacts.copies import exporting
        from tasks.serving.readme import readme
        from tasks.serving.release_scripts import derive

        exporting.export(self._opened(), self.manifest, Path(folder), derive, readme(self.manifest))
        return Path(folder)

    def _opened(self) -> Store:
        return open_store(self.store, writable=False)


def optimize(model: Path | str = "demo", **parameters: Any) -> Release:
    """Quantize a checkpoint to FP8, build and compare its engines, and publish a release, as `clipsmith optimize` does.

    It runs on the Prefect server that is configured, or on one of its own that ends with this process. A release that a
    gate rejects is returned as well: see `accepted`. The process's logging and its filter of warnings become those of
    the command line.

    Args:
        model: A Hugging Face id, a folder, or `demo`.
        parameters: Any of `docs/parameters.md`, sections as dictionaries: `calibration={"source": "./photos"}`.

    Raises:
        ConfigError: a parameter is wrong; nothing was started. Any other ClipsmithError: nothing was published.
    """
    from deployments.server.environment import prepare_prefect

    prepare_prefect()
    from deployments.server.run_optimize import run_optimize
    from flows.parameters import parse_parameters
    from flows.preflight import check_ahead

    values = {"model": str(model), **parameters}
    if "store" in values:
        values["store"] = str(values["store"])
    asked = parse_parameters(values, where="optimize()")
    check_ahead(asked)
    try:
        published = run_optimize(asked)
        ref, new = published.ref, published.new
    except GateFailed as error:
        ref, new = error.release, error.new
    opened = open_store(asked.store, writable=False)
    return Release(opened.find(ref), opened.root, new)


def releases(model: str | None = None, *, store: Path | str | None = None) -> list[Release]:
    """The releases of a store, those of `model` alone if one is named, the newest first.

    Args:
        model: The store's name for it.
        store: Its folder. Unless given, CLIPSMITH_STORE or `.clipsmith/store`.

    Raises:
        NotAStore: there is none. DamagedManifest: one of them is not what was written; `clipsmith verify` tells which.
    """
    opened = _to_read(store)
    return [Release(found, opened.root) for found in opened.releases() if model in (None, found.model)]


def release(ref: str, *, store: Path | str | None = None) -> Release:
    """One release: `model` (its newest), `model@version`, `model:alias`, or 8 or more digits of its identity.

    Raises:
        NotAStore, BadName, ReleaseNotFound, AliasNotFound, AmbiguousReference, DamagedManifest.
    """
    opened = _to_read(store)
    return Release(opened.find(ref), opened.root)


def _to_read(store: Path | str | None) -> Store:
    from deployments.commands.options import open_to_read

    return open_to_read(Path(store or default_store()))
