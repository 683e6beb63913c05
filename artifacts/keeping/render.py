"""What can be made again from a manifest and the evidence it lists: the tables and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from artifacts import places
from artifacts.manifest import Manifest
from artifacts.release.evidence import Evidence
from artifacts.release.frames import write_tables
from artifacts.report.page import render_report
from artifacts.store.store import Store

TABLES, REPORT = "tables", "report"


def underived(manifest: Manifest) -> Manifest:
    """The manifest as it was before its tables and report were made from it."""
    files = tuple(file for file in manifest.files if file.kind not in (TABLES, REPORT))
    return manifest.model_copy(update={"files": files})


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


def evidence_of(store: Store, manifest: Manifest) -> Evidence:
    """The samples behind a release's numbers, read from its files in the order the manifest lists them.

    Raises:
        ObjectMissing, ObjectDamaged.
    """
    import pandas as pd

    cosines: dict[str, list[float]] = {}
    latencies: dict[str, list[float]] = {}
    curves: list[pd.DataFrame] = []
    details: dict[str, Any] = {}
    for file in manifest.files:
        match Path(file.member).name:
            case places.COSINES:
                cosines |= json.loads(store.read(manifest, file.path).read_bytes())
            case places.LATENCIES:
                latencies |= json.loads(store.read(manifest, file.path).read_bytes())
            case places.DETAILS:
                details = json.loads(store.read(manifest, file.path).read_bytes())
            case places.CONVERGENCE if file.kind == "calibration":
                curves.append(pd.read_parquet(store.read(manifest, file.path)))
    convergence: list[Any] = pd.concat(curves).to_dict("records") if curves else []
    return Evidence(cosines=cosines, latencies_ms=latencies, convergence=convergence, **details)


def file_kinds(manifest: Manifest, digest: str) -> set[str]:
    """What a release uses an object for."""
    return {file.kind for file in manifest.files if file.object == digest}
