"""A model's releases over time: derived from manifests, and the same whenever it is made."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts.errors import ExportFailed
from artifacts.keeping import history
from artifacts.manifest import GateResult, Manifest
from artifacts.report import canvas, history_plot
from artifacts.store.store import Store
from artifacts.store.summary import summary
from tests.artifacts.conftest import accuracy_rows, build_manifest, latency_rows
from tests.artifacts.support import add, digest, files_of


def release(version: int, **changes: Any) -> Manifest:
    rows = [row | {"value": float(row["value"] or 0) - version / 1e4} for row in accuracy_rows()]
    base = build_manifest(measured=version > 1, tables={"accuracy": rows})
    return base.model_copy(update={"version": version, "identity": digest(str(version)), **changes})


RELEASES = [release(version) for version in (2, 1, 3)]


def test_the_table_has_every_number_of_every_release() -> None:
    frame = history.to_frame(RELEASES)
    assert tuple(frame.columns) == history.COLUMNS
    assert frame["version"].drop_duplicates().tolist() == [1, 2, 3]
    for manifest in RELEASES:
        part = frame[(frame["version"] == manifest.version) & (frame["table"] == "accuracy")]
        rows = manifest.tables["accuracy"]
        assert part["value"].tolist() == [row["value"] for row in rows]
        lows = [None if pd.isna(low) else low for low in part["low"]]
        assert lows == [row["low"] for row in rows]
        assert part["metric"].tolist() == [row["metric"] for row in rows]
    assert frame["value"].notna().all()
    assert (frame["status"] == "accepted").all()


def test_delete_and_rebuild_gives_the_same(store: Store, tmp_path: Path) -> None:
    ref = add(store)
    for manifest in RELEASES:
        store.insert(manifest.model_copy(update={"files": files_of(ref)}))
    first = history.write(history.read(store, RELEASES[0].model)[0], tmp_path / "out")
    before = [path.read_bytes() for path in first]
    shutil.rmtree(tmp_path / "out")
    again = history.write(history.read(Store.open(store.root, writable=False), RELEASES[0].model)[0], tmp_path / "out")
    assert [path.read_bytes() for path in again] == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["history.parquet", "history.svg"]
    pd.testing.assert_frame_equal(pd.read_parquet(again[0]), history.to_frame(RELEASES), check_dtype=False)


def test_only_the_asked_models_releases_are_read(store: Store) -> None:
    ref = add(store)
    store.insert(RELEASES[0].model_copy(update={"files": files_of(ref)}))
    store.insert(RELEASES[1].model_copy(update={"files": files_of(ref), "model": "other"}))
    assert [manifest.ref for manifest in history.read(store, "other")[0]] == ["other@1"]
    assert history.read(store, "third") == ([], [])


def test_titles_of_the_plot_fit_their_panels() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    panels = history_plot._panels()
    with canvas.paired(len(panels), 2.5, above=0.4) as (places, finish):
        for axes, panel in zip(places, panels, strict=False):
            axes.set_title(panel.title)
        finish()
        drawn = FigureCanvasAgg(places[0].figure)
        drawn.draw()
        for axes in places[: len(panels)]:
            title = axes._left_title.get_window_extent(drawn.get_renderer())
            assert title.width < 0.9 * axes.bbox.width, "fonts of browsers are a little wider"


def test_the_main_figures_are_those_of_the_release() -> None:
    first, second, _ = history.points(RELEASES)
    assert (first.version, second.version) == (1, 2)
    brief = summary(RELEASES[0])
    assert second.figures["ratio"].value == brief["fp8_ratio"]
    assert second.figures["speedup"].value == brief["speedup"] == 1.61
    assert "speedup" not in first.figures  # nothing was measured
    sizes = [row for row in RELEASES[0].tables["sizes"] if (row["target"], row["precision"]) == ("onnx", "fp8")]
    assert second.figures["onnx fp8"].value == sum(row["bytes"] for row in sizes)  # type: ignore[misc]
    difference = second.figures["top1 difference"]
    assert (difference.value, difference.low, difference.high) == (-0.0022 - 2e-4, -0.0061, 0.0016)
    assert second.figures["top1 fp8"].value == pytest.approx(0.7519 - 2e-4)
    assert second.figures["image cosine"].value == pytest.approx(0.99921 - 2e-4)


def test_onnx_runtime_speaks_for_the_others() -> None:
    rows = accuracy_rows()
    other = [row | {"target": "aaa", "value": 0.1} for row in rows if row["target"] == "onnxruntime"]
    (point,) = history.points([build_manifest(tables={"accuracy": other + rows + other})])
    assert point.figures["top1 fp8"].value == 0.7519


def test_a_release_without_tables_has_no_figures(tmp_path: Path) -> None:
    bare = [release(1, tables={}), release(2)]
    assert history.points(bare)[0].figures == {}
    table, plot = history.write(bare[:1], tmp_path)
    assert len(pd.read_parquet(table)) == 0
    assert "no release has a number" in plot.read_text()


def test_the_plot_is_one_image_that_loads_nothing(tmp_path: Path) -> None:
    rejected = release(4, gates=(GateResult(name="x", status="failed"),))
    _, plot = history.write([*RELEASES, rejected], tmp_path)
    text = plot.read_text()
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text"))
    for title in ("ONNX files", "Mean cosine", "Zero-shot top-1", "speed-up", rejected.model, "hollow: rejected"):
        assert title in words
    links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)
    before = history.write(RELEASES, tmp_path)[1].read_text()
    assert "hollow" not in before
    accepted = history.write([*RELEASES, release(4)], tmp_path)[1].read_text()
    assert text.count("fill: #ffffff") > accepted.count("fill: #ffffff")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportFailed, match="another folder"):
        history.write(RELEASES[:1], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_latencies_of_every_batch_are_told_apart() -> None:
    frame = history.to_frame([build_manifest(tables={"latency": latency_rows(True)})])
    latency = frame[frame["table"] == "latency"]
    assert not latency.duplicated(list(history.COLUMNS[:10])).any()
    assert {"batch 1 median_ms", "batch 8 median_ms"} <= set(latency["metric"])
