"""Making a release's tables and report again, from its manifest and the evidence that it lists."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from artifacts import parquet_files, places
from artifacts.errors import NotARelease
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.release.evidence import Evidence, load_json
from artifacts.release.frames import write_tables
from artifacts.report.page import render_report
from artifacts.schema import complete
from artifacts.store import layout
from artifacts.store.release_check import came
from artifacts.store.store import Store

TABLES, REPORT = "tables", "report"


def underived(manifest: Manifest) -> Manifest:
    """The manifest as it was before its tables and report were made from it."""
    files = tuple(file for file in manifest.files if file.kind not in (TABLES, REPORT))
    return manifest.model_copy(update={"files": files, "tables": complete(manifest.tables)})


def render(store: Store, manifest: Manifest, kind: str, folder: Path) -> None:
    """Write the tables or the report of a release into `folder`: the same bytes every time with the same packages.

    Raises:
        ObjectMissing, ObjectDamaged: evidence that the report shows is lost.
    """
    base = underived(manifest)
    if kind == TABLES:
        write_tables(base.tables, folder)
    else:
        page = render_report(base, evidence_of(store, base))
        (folder / places.REPORT).write_text(page, encoding="utf-8")


def report_path(store: Store, manifest: Manifest) -> Path:
    """Path of a release's report. For a release from elsewhere it is made here; the page that came with it is ignored.

    Raises:
        NotARelease: it has none.
        ObjectMissing, ObjectDamaged, TableError, NumericError: it cannot be made.
    """
    if not any(file.path == places.REPORT for file in manifest.files):
        raise NotARelease(f"{manifest.ref} has no report", where=store.root, expected="a release that a run published")
    if not came(store, manifest):
        return store.read(manifest, places.REPORT)
    with store.reading(), TemporaryDirectory() as scratch:
        render(store, manifest, REPORT, Path(scratch))
        page = (Path(scratch) / places.REPORT).read_bytes()
    name = f"{manifest.model}-{manifest.version}-{hashlib.sha256(page).hexdigest()[:12]}.html"
    try:
        return _kept(store.root / layout.REPORTS / name, page)
    except OSError:  # the store cannot be written
        return _kept(Path(mkdtemp(prefix="clipsmith-report-")) / name, page)


def _kept(path: Path, page: bytes) -> Path:
    if not path.is_file() or path.read_bytes() != page:
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        temporary.write_bytes(page)
        temporary.replace(path)
    return path


def evidence_of(store: Store, manifest: Manifest) -> Evidence:
    """The samples behind a release's numbers, read from its files in the order the manifest lists them.

    Raises:
        ObjectMissing, ObjectDamaged.
        TableError: a file of it is not what clipsmith writes.
    """
    import pandas as pd

    def read_json(file: ReleaseFile) -> Any:
        return load_json(store.read(manifest, file.path), file.member, f"{manifest.ref}: {file.path}")

    cosines: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    curves: list[pd.DataFrame] = []
    details: dict[str, Any] = {}
    for file in manifest.files:
        match Path(file.member).name:
            case places.COSINES:
                cosines |= read_json(file)
            case places.LATENCIES:
                latencies |= read_json(file)
            case places.DETAILS:
                details = read_json(file)
            case places.CONVERGENCE if file.kind == "calibration":
                path = store.read(manifest, file.path)
                parquet_files.check(path, f"{manifest.ref}: {file.path}")
                curves.append(pd.read_parquet(path))
    convergence: list[Any] = pd.concat(curves).to_dict("records") if curves else []
    return Evidence(cosines=cosines, latencies_ms=latencies, convergence=convergence, **details)


def file_kinds(manifest: Manifest, digest: str) -> set[str]:
    """The kinds of files that a release has in an object."""
    return {file.kind for file in manifest.files if file.object == digest}
