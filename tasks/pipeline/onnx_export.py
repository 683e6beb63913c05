"""Step 4: one ONNX file per encoder and precision, from one trace without weights."""

from __future__ import annotations

from typing import Any

from artifacts.manifest import Encoder, Precision
from artifacts.refs import ArtifactRef
from artifacts.store.store import active_store
from tasks.checkpoints.snapshot import AMAX_FILE, Snapshot, read_amax_file
from tasks.families import family_named
from tasks.file_names import RECIPE_KEY, SKELETON_FILE, onnx_name
from tasks.graph.channels import with_channels
from tasks.graph.quantize import quantize
from tasks.graph.replicate import trace_by_block
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import Recipe
from tasks.runs.steps import StepOutput, cached_step, measured


class TracedEncoder(StepOutput):
    """The skeleton of a graph, which serves all precisions and recipes of this architecture."""

    encoder: Encoder
    skeleton: ArtifactRef


class ExportedOnnx(StepOutput):
    """An ONNX object: `<precision>.onnx`, and `.onnx.data` beside it for weights over 2 GB."""

    encoder: Encoder
    precision: Precision
    onnx: ArtifactRef


def trace_encoder(family: str, stored_config: dict[str, Any], encoder: Encoder) -> TracedEncoder:
    """Trace one encoder from a checkpoint's configuration; no weights are read.

    Raises:
        ExportError: the model cannot be expressed in ONNX as required (see `tasks.graph.tracing`).
    """
    with measured() as meter:
        adapter = family_named(family)
        skeleton = trace_by_block(adapter, adapter.resolve_config(stored_config), encoder)
        store = active_store()
        with store.staging() as folder:
            skeleton.save(folder / SKELETON_FILE)
            ref = store.add("skeleton", folder)
    return TracedEncoder(encoder=encoder, skeleton=ref, stats=meter.stats)


def export_fp16(snapshot: Snapshot, skeleton: ArtifactRef, encoder: Encoder) -> ExportedOnnx:
    """Stream the weights into the skeleton as FP16."""
    with measured() as meter:
        graph = Skeleton.load(active_store().path(skeleton, SKELETON_FILE))
        ref = _write(graph, snapshot, "fp16", {})
    return ExportedOnnx(encoder=encoder, precision="fp16", onnx=ref, stats=meter.stats)


def export_fp8(
    snapshot: Snapshot, skeleton: ArtifactRef, encoder: Encoder, recipe: Recipe, table: ArtifactRef
) -> ExportedOnnx:
    """Quantize the skeleton with the calibrated amax (`amax.parquet` of `table`) and stream the weights into it.

    Raises:
        BadAmax: an amax is missing or unusable.
        BadWeights, ExportError: the weights do not fit the skeleton, or cannot be written.
    """
    with measured() as meter:
        store = active_store()
        source = Skeleton.load(store.path(skeleton, SKELETON_FILE))
        amax = with_channels(read_amax_file(store.path(table, AMAX_FILE)), source, recipe, snapshot.weights())
        graph = quantize(source, recipe, amax)
        ref = _write(graph, snapshot, "fp8", {RECIPE_KEY: recipe.digest})
    return ExportedOnnx(encoder=encoder, precision="fp8", onnx=ref, stats=meter.stats)


def _write(graph: Skeleton, snapshot: Snapshot, precision: Precision, metadata: dict[str, str]) -> ArtifactRef:
    store = active_store()
    with store.staging() as folder:
        write_onnx(
            graph, snapshot.weights(), folder / onnx_name(precision), {"clipsmith.precision": precision, **metadata}
        )
        return store.add("onnx", folder)


_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnx-ir")


trace_task = cached_step("trace", version=4, packages=_PACKAGES)(trace_encoder)
export_fp16_task = cached_step("export-fp16", version=2, packages=("onnx",))(export_fp16)
export_fp8_task = cached_step("export-fp8", version=2, packages=("onnx", "ml_dtypes"))(export_fp8)
