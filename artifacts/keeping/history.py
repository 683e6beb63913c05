"""A model's releases over time: every number of every release as one table, the main figures, and a plot of them.

All of it is derived from manifests: delete it and make it again, and it is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from artifacts.errors import DamagedManifest, ExportFailed
from artifacts.manifest import Manifest
from artifacts.release.figures import Point
from artifacts.release.measurements import Measurement, measurements
from artifacts.store import index, layout
from artifacts.store.store import Store
from artifacts.store.summary import summary

if TYPE_CHECKING:
    import pandas

_RELEASE = ("model", "version", "created", "status")
_NUMBER = ("table", "encoder", "target", "precision", "reference", "metric", "value", "low", "high", "unit")
COLUMNS = (*_RELEASE, *_NUMBER)
TABLE_FILE, PLOT_FILE = "history.parquet", "history.svg"
_DTYPES = {"version": "int64", "value": "float64", "low": "float64", "high": "float64"}
_TASKS = ("top1", "recall@1_image_to_text", "recall@1_text_to_image")


def _scored(metric: str, precision: str, **more: str) -> Mapping[str, str]:
    return {"table": "accuracy", "metric": metric, "precision": precision, **more}


FIGURES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "image cosine": _scored("cosine_mean", "fp8", encoder="image", reference="fp32"),
        "text cosine": _scored("cosine_mean", "fp8", encoder="text", reference="fp32"),
        **{f"{task} {precision}": _scored(task, precision) for task in _TASKS for precision in ("fp16", "fp8")},
        **{f"{task} difference": _scored(f"{task}_difference", "fp8", reference="fp16") for task in _TASKS},
    }
)
"""The main figures that are plain measurements: by name, the fields of `Measurement` that identify each."""


def read(store: Store, model: str) -> tuple[list[Manifest], list[DamagedManifest]]:
    """Every release of a model that can be read, and the errors of the others."""
    found: list[Manifest] = []
    damaged: list[DamagedManifest] = []
    with store.reading():
        for path in layout.manifests(store.root, model):
            try:
                found.append(index.load(store.root, path))
            except DamagedManifest as error:
                damaged.append(error)
    return found, damaged


def points(manifests: Sequence[Manifest]) -> list[Point]:
    """The main figures of these releases, the oldest first."""
    return [Point(m.ref, m.version, m.created, m.status, _figures(m)) for m in _by_age(manifests)]


def _figures(manifest: Manifest) -> dict[str, Measurement]:
    numbers = list(measurements(manifest.tables))
    found: dict[str, Measurement] = {}
    for precision in ("fp16", "fp8"):
        sizes = _like(numbers, {"table": "sizes", "target": "onnx", "precision": precision, "metric": "bytes"})
        if sizes:
            found[f"onnx {precision}"] = replace(sizes[0], encoder=None, value=sum(m.value for m in sizes))
    brief = summary(manifest)
    if brief["fp8_ratio"] is not None:
        found["ratio"] = Measurement("sizes", None, "onnx", "fp8", "fp16", "ratio", brief["fp8_ratio"], unit="fraction")
    for name, wanted in FIGURES.items():
        # ONNX Runtime is the one target that every release has.
        like = sorted(_like(numbers, wanted), key=lambda m: m.target != "onnxruntime")
        if like:
            found[name] = like[0]
    for m in numbers:
        if m.metric.endswith(" speedup") and m.value == brief["speedup"]:
            found["speedup"] = m
    return found


def _like(numbers: Sequence[Measurement], wanted: Mapping[str, str]) -> list[Measurement]:
    return [m for m in numbers if all(getattr(m, name) == value for name, value in wanted.items())]


def to_frame(manifests: Sequence[Manifest]) -> pandas.DataFrame:
    """Every number of every release, the oldest release first, as a frame with `COLUMNS`."""
    import pandas

    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for manifest in _by_age(manifests):
        found = list(measurements(manifest.tables))
        for name in _RELEASE:
            columns[name] += [getattr(manifest, name)] * len(found)
        for name in _NUMBER:
            columns[name] += [getattr(measurement, name) for measurement in found]
    return pandas.DataFrame({n: pandas.Series(v, dtype=_DTYPES.get(n, "string")) for n, v in columns.items()})


def write(manifests: Sequence[Manifest], folder: Path) -> tuple[Path, Path]:
    """Write the table and the plot into `folder`, replacing older ones, and return where they are.

    Raises:
        ExportFailed: the folder cannot be written.
    """
    from artifacts.report.history_plot import history_plot

    frame, plot = to_frame(manifests), history_plot(points(manifests))
    table, picture = folder / TABLE_FILE, folder / PLOT_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(table, lambda path: frame.to_parquet(path, index=False))
        _replace(picture, lambda path: path.write_text(plot, encoding="utf-8"))
    except OSError as error:
        raise ExportFailed(
            f"the history cannot be written: {error.strerror or error}", where=folder, fix="give another folder"
        ) from error
    return table, picture


def _replace(target: Path, put: Callable[[Path], object]) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        put(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _by_age(manifests: Sequence[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda manifest: manifest.version)
