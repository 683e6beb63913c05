"""A release as a model repository of Triton Inference Server: one model per encoder.

    DIR/<model>-image/config.pbtxt           DIR/<model>-text/...
    DIR/<model>-image/1/model.plan           an engine of target `tensorrt`; model.onnx for ONNX Runtime
    DIR/<model>-image/preprocess/            tokenizer and image processor for clients; the server ignores them

`config.pbtxt` follows `ModelConfig` of triton-inference-server/common, protobuf/model_config.proto.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import places
from artifacts.copies.exporting import new_folder
from artifacts.errors import EngineUnavailable, ProfileError
from artifacts.manifest import Encoder, Manifest, Precision, ReleaseFile
from artifacts.release.fastest import ONNX_RUNTIME, PRECISIONS, Choice, fastest
from artifacts.store.release_check import check_release
from artifacts.store.store import Store
from tasks.clip.base import ENCODERS
from tasks.engines.base import BatchProfile
from tasks.engines.record import is_record, read_record, release_profile
from tasks.file_names import onnx_name

_TENSORRT = "tensorrt"
_TYPES = {"FLOAT16": "TYPE_FP16", "FLOAT": "TYPE_FP32", "INT64": "TYPE_INT64", "INT32": "TYPE_INT32"}
"""Triton's names for ONNX's tensor types."""


@dataclass(frozen=True)
class _Model:
    """One model of the repository; `graph` is its ONNX file, `files` are the files for its version's folder."""

    encoder: Encoder
    graph: ReleaseFile
    files: tuple[ReleaseFile, ...]


def export_triton(
    store: Store, manifest: Manifest, destination: Path, target: str | None, precision: str | None
) -> tuple[list[str], Choice]:
    """Write the repository; return the paths of its files and the choice. On any failure there is no folder.

    Without `target`, a TensorRT engine is chosen if the release has one. Without `precision`, the one that the release
    measured as fastest for the target is chosen, or FP8 if nothing was measured.

    Raises:
        EngineUnavailable: the release has no such engine, or Triton has no backend for it.
        ProfileError: the engine does not accept a batch of 1, which the server may send.
        ExportTargetExists, ExportFailed, ObjectMissing, ObjectDamaged, ReleaseDiffers: as for a plain folder.
    """
    check_release(store, manifest)
    choice = _choose(manifest, target, precision)
    beside = [file for file in manifest.files if file.kind == places.PREPROCESS]
    with store.reading(), new_folder(destination) as folder:
        for model in _models(manifest, choice.target, choice.precision):
            home = folder / f"{manifest.model}-{model.encoder}"
            for file in model.files:
                store.copy_out(manifest, file, home / "1" / _served_name(file))
            for file in beside:
                store.copy_out(manifest, file, home / places.PREPROCESS / file.member)
            (home / "config.pbtxt").write_text(_config(store, manifest, model, choice.target), encoding="utf-8")
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()), choice


def _choose(manifest: Manifest, target: str | None, precision: str | None) -> Choice:
    """Choose a target and a precision that the release has.

    Raises:
        EngineUnavailable: it has none that Triton can run.
    """
    for name in [target] if target else [_TENSORRT, ONNX_RUNTIME]:
        had = [each for each in PRECISIONS if precision in (None, each) and _models(manifest, name, each)]
        if had:
            return Choice(name, had[0], "as asked for") if precision else fastest(manifest, name, had)
    made = {file.target for file in manifest.files if file.kind == "engine" and file.target == _TENSORRT}
    raise EngineUnavailable(
        f"{manifest.ref} has nothing that Triton can run for target {target or 'any'}, precision {precision or 'any'}",
        expected=f"target {' or '.join(sorted({ONNX_RUNTIME, *map(str, made)}))}, precision fp8 or fp16",
        fix="leave --target and --precision out, or make it: Triton has a backend for neither trtrtx nor torch-fp8",
    )


def _models(manifest: Manifest, target: str, precision: Precision) -> list[_Model]:
    """One model per encoder that the release has for this target and precision."""
    return [model for encoder in ENCODERS for model in _model(manifest, encoder, target, precision)]


def _model(manifest: Manifest, encoder: Encoder, target: str, precision: Precision) -> list[_Model]:
    mine = [file for file in manifest.files if (file.encoder, file.precision) == (encoder, precision)]
    graphs = [file for file in mine if file.kind == "onnx"]
    served = graphs if target == ONNX_RUNTIME else [f for f in mine if (f.kind, f.target) == ("engine", target)]
    if not graphs or not served or target not in (_TENSORRT, ONNX_RUNTIME):
        return []
    graph = next(file for file in graphs if file.member == onnx_name(precision))
    return [_Model(encoder, graph, tuple(file for file in served if not is_record(file.member)))]


def _served_name(file: ReleaseFile) -> str:
    """The name that the server expects; external data keeps its name, to which the graph refers."""
    if file.kind == "engine":
        return "model.plan"
    return "model.onnx" if file.member.endswith(".onnx") else file.member


def _config(store: Store, manifest: Manifest, model: _Model, target: str) -> str:
    """`config.pbtxt` of one model."""
    import onnx

    graph = onnx.load(store.read(manifest, model.graph.path), load_external_data=False).graph
    profile = _profile(store, manifest, model, target)
    engine = target == _TENSORRT
    group = 'kind: KIND_GPU, count: 1, profile: [ "0" ]' if engine else "kind: KIND_CPU, count: 1"
    preferred = ", ".join(str(size) for size in dict.fromkeys((profile.opt, profile.max)))
    traced = {"release": manifest.ref, "identity": manifest.identity, "precision": str(model.graph.precision)}
    # Basic optimization: at the default level ONNX Runtime before 1.32, which a server may have, does not load FP8.
    basic = not engine and model.graph.precision == "fp8"
    lines = [
        f"name: {json.dumps(f'{manifest.model}-{model.encoder}')}",
        f"platform: {json.dumps('tensorrt_plan' if engine else 'onnxruntime_onnx')}",
        f"backend: {json.dumps(target)}",
        f"max_batch_size: {profile.max}",
        *_described("input", graph.input),
        *_described("output", graph.output),
        f"dynamic_batching {{ preferred_batch_size: [ {preferred} ] }}",
        f"instance_group [ {{ {group} }} ]",
        *["optimization { graph { level: -1 } }"] * basic,
        *(
            f'parameters {{ key: "clipsmith.{k}", value {{ string_value: {json.dumps(v)} }} }}'
            for k, v in traced.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _described(field: str, tensors: Iterable[Any]) -> Iterator[str]:
    """The inputs or outputs of an ONNX graph in Triton's notation, without the batch dimension."""
    import onnx

    for tensor in tensors:
        form = tensor.type.tensor_type
        kind, dims = onnx.TensorProto.DataType.Name(form.elem_type), [size.dim_value for size in form.shape.dim[1:]]
        yield f"{field} [ {{ name: {json.dumps(tensor.name)}, data_type: {_TYPES[kind]}, dims: {dims} }} ]"


def _profile(store: Store, manifest: Manifest, model: _Model, target: str) -> BatchProfile:
    """The batch sizes that the model accepts: an engine's own profile, else the release's.

    Raises:
        ProfileError: a batch of 1 is not among them.
    """
    if target == ONNX_RUNTIME:
        return release_profile(manifest)
    profile = read_record(store.read(manifest, model.files[0].path)).profile
    if profile.min > 1:
        raise ProfileError(
            f"the {model.encoder} engine takes batches of {profile.min} to {profile.max}",
            where=manifest.ref,
            expected="an engine that takes a batch of 1: Triton cannot be told of a smallest batch",
            fix="build it with `profile: {min: 1}`",
        )
    return profile
