"""Every family from checkpoint to release, and SigLIP again from the checkpoints that it published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts.copies.exporting import export
from artifacts.store.store import Store
from tests.flows.conftest import Run
from tests.tasks.families.support import CONFIGS, NAMES, save_checkpoint, save_processor
from tests.tasks.openclip import reference
from tests.thorough import amount

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`folder(family)`: a small checkpoint with its tokenizer and image processor."""

    def make(name: str) -> Path:
        if name == "openclip":
            return reference.save(tmp_path_factory.mktemp("family") / name, reference.CONFIG)
        path = save_checkpoint(CONFIGS[name], tmp_path_factory.mktemp("family") / name.replace("_", "-"))
        save_processor(name, path)
        return path

    return make


def table(store: Path, manifest: Any, name: str) -> pd.DataFrame:
    return pd.read_parquet(Store.open(store, writable=False).read(manifest, f"tables/{name}.parquet"))


@pytest.mark.parametrize("name", amount(["chinese_clip", "openclip"], [*sorted({*NAMES} - {"clip"}), "openclip"]))
def test_family_is_released_and_cached(name: str, folder: Any, run: Run, tmp_path: Path) -> None:
    model, store = folder(name), tmp_path / "store"
    manifest, calls = run(model, store, recipe="fp8-compact")
    assert manifest.provenance.source.family == name
    assert {"calibrate image", "calibrate text", "fp16-range image", "fp16-range text"} <= set(calls)
    coverage = table(store, manifest, "coverage").query("precision == 'fp8'")
    left = coverage[coverage.actual == "fp16"]
    assert (coverage.actual == coverage.expected).all() and set(left.kind) <= {"conv", "embedding"}
    encoders = table(store, manifest, "encoders").set_index("encoder")
    assert ("attention_mask" in encoders.input["text"]) == (name in ("chinese_clip", "altclip"))
    again, calls = run(model, store, recipe="fp8-compact")
    assert (again.ref, calls) == (manifest.ref, [])


@pytest.mark.parametrize(("name", "sized"), [("siglip", {}), ("siglip2", {"image_size": [48, 32]})])
def test_a_published_siglip_brings_the_scales_of_its_pooling(
    name: str, sized: dict[str, Any], folder: Any, run: Run, tmp_path: Path
) -> None:
    """ModelOpt's state cannot hold them; the amax table does, and the graphs come out the same, of the same size."""
    store = tmp_path / "store"
    first, _ = run(folder(name), store, **sized)
    assert first.provenance.parameters["image_size"] == sized.get("image_size")
    export(Store.open(store, writable=False), first, tmp_path / "export")
    second, calls = run(tmp_path / "export" / "checkpoint", store, calibration__source=None)
    assert not any(call.startswith(("calibrate", "quantize")) for call in calls)
    graphs = [{file.path: file.sha256 for file in m.files if file.path.endswith(".onnx")} for m in (first, second)]
    assert graphs[0] == graphs[1] and len(graphs[0]) == 4
    assert second.provenance.parameters["image_size"] == sized.get("image_size")
