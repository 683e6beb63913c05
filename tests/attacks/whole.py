"""A release as a run publishes it, made without a model: every kind of file that has a meaning of its own."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from artifacts import places
from artifacts.copies import archive
from artifacts.keeping import render
from artifacts.manifest import DataSource, Manifest, ReleaseFile, Row
from artifacts.refs import digest_json
from artifacts.release.gates import Gates, judge
from artifacts.release.identity import IDENTITY, has_content, pickle_content
from artifacts.schema import SCHEMAS, new_row
from artifacts.store import layout
from artifacts.store.store import Store
from tasks.serving.release_scripts import write_scripts
from tests.artifacts.support import SHA, digest, files_of, provenance, sealed

GRAPHS = {"fp16": b"a graph in fp16", "fp8": b"in fp8"}
GATES = Gates(min_cosine_mean=0.9, max_size_ratio=0.98)
QUANTIZE = {"algorithm": "max", "quant_cfg": []}


def state(*values: Any) -> bytes:
    """A `modelopt_state.pth` in torch's format that holds the values in this order."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(list(values), protocol=2))
        file.writestr("archive/version", "3\n")
        file.writestr("archive/.data/serialization_id", digest(str(values)))
    return out.getvalue()


def embeddings(noise: float) -> np.ndarray[Any, Any]:
    """Of four samples, the same every time."""
    whole = np.random.default_rng(0).standard_normal((4, 8))
    return (whole + noise * np.random.default_rng(1).standard_normal((4, 8))).astype(np.float32)


def cosines() -> list[float]:
    """Of the FP8 embeddings with FP32's."""
    one, other = (embeddings(noise).astype(np.float64) for noise in (0.0, 0.1))
    found = np.sum(one * other, axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    return [round(float(value), 7) for value in found]


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """An array as a file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def parquet(**columns: Any) -> bytes:
    """A frame as a file."""
    out = io.BytesIO()
    pd.DataFrame(columns).to_parquet(out, index=False)
    return out.getvalue()


def tables() -> dict[str, tuple[Row, ...]]:
    """Rows that follow from the files."""
    about = {"encoder": "image", "target": "onnxruntime", "precision": "fp8", "reference": "fp32", "samples": 4}
    found = {"cosine_mean": sum(cosines()) / 4, "cosine_min": min(cosines())}
    sizes = [
        new_row("sizes", encoder="image", precision=p, target="onnx", status="built", bytes=len(GRAPHS[p]))
        for p in GRAPHS
    ]
    rows = {
        "sizes": tuple(row | {"vs_fp16": len(GRAPHS[str(row["precision"])]) / len(GRAPHS["fp16"])} for row in sizes),
        "accuracy": tuple(new_row("accuracy", **about, metric=metric, value=value) for metric, value in found.items()),
        "stages": (new_row("stages", step="resolve", wall_s=1.0),),
    }
    return {name: rows.get(name, ()) for name, schema in SCHEMAS.items() if not schema.optional}


def contents() -> dict[tuple[str, str], dict[str, bytes]]:
    """The files of each object, by kind and folder."""
    evidence = places.EVIDENCE
    details = {
        "classes": [{"target": "onnxruntime", "class": "a", "samples": 4, "fp32": 1.0, "fp16": 1.0, "fp8": 0.75}],
        "changed": [],
        "alike": [],
    }
    kept = {
        name: {places.EMBEDDINGS: npy(embeddings(noise)), places.KEYS: b"[0, 1, 2, 3]"}
        for name, noise in (("fp32-pytorch", 0.0), ("fp8-onnxruntime", 0.1))
    }
    return {
        ("onnx", "image"): {f"{precision}.onnx": graph for precision, graph in GRAPHS.items()},
        ("checkpoint", places.CHECKPOINT): {"model.safetensors": b"weights", places.MODELOPT_STATE: state(1, 2, "a")},
        ("calibration", f"{evidence}/calibration-image"): {
            places.CONVERGENCE: parquet(quantizer=["q", "q"], samples=[4, 8], amax=[1.0, 1.5])
        },
        **{("embeddings", f"{evidence}/embeddings-image-{name}"): files for name, files in kept.items()},
        ("cosines", evidence): {places.COSINES: json.dumps({"image fp8 onnxruntime": cosines()}).encode()},
        ("task-details", evidence): {places.DETAILS: json.dumps(details).encode()},
        ("evaluation", places.EVALUATION): {
            places.SAMPLES: parquet(id=["a", "b"], label=[0, 1]),
            places.CLASSES: json.dumps({"names": ["a"], "templates": ["{}"]}).encode(),
        },
        ("latencies", f"{evidence}/latency-image-onnxruntime"): {
            places.LATENCIES: b'{"image fp8 onnxruntime batch 1": [1.0, 2.0]}'
        },
        ("build-log", f"{evidence}/build-image-fp8-onnxruntime"): {"build.log": b"built in 7 s"},
    }


def added(store: Store, kind: str, folder: str, files: Mapping[str, bytes]) -> list[ReleaseFile]:
    """An object of these files, as those of a release."""
    with store.staging() as scratch:
        for name, data in files.items():
            (scratch / name).write_bytes(data)
        ref = store.add(kind, scratch)
    labelled = []
    for file in files_of(ref, folder):
        changes: dict[str, Any] = {}
        if kind == "onnx":
            changes = {"encoder": "image", "precision": file.member.removesuffix(".onnx")}
        if has_content(file.path):
            changes = {"content": pickle_content(layout.object_folder(store.root, file.object) / file.member)}
        labelled.append(file.model_copy(update=changes))
    return labelled


def whole(root: Path) -> tuple[Store, Manifest]:
    """A store with one release, `evil@1`."""
    store, rows = Store.open(root), tables()
    files = [file for (kind, folder), data in contents().items() for file in added(store, kind, folder, data)]
    about = provenance(
        evaluation=DataSource(source="digits", digest=SHA, samples=4),
        parameters={"gates": GATES.model_dump()},
        recipe_content={"quantize": QUANTIZE},
        recipe_digest=digest_json(QUANTIZE),
    )

    def build(version: int, sequence: int) -> Manifest:
        manifest = sealed(
            Manifest(
                model="evil",
                version=version,
                sequence=sequence,
                created="2026-01-01T00:00:00+00:00",
                identity=SHA,
                identity_version=IDENTITY,
                provenance=about,
                files=tuple(files),
                tables=rows,
                gates=judge(GATES.gates(), rows),
            )
        )
        return manifest.model_copy(update={"files": (*manifest.files, *derived(store, manifest))})

    return store, store.publish("evil", build(1, 1).identity, build)[0]


def derived(store: Store, manifest: Manifest) -> list[ReleaseFile]:
    """Tables, report and scripts, as `tasks.pipeline.publish` makes them."""
    found = []
    for kind, folder in ((render.TABLES, places.TABLES), (render.REPORT, ""), (places.SCRIPTS, places.SCRIPTS)):
        with store.staging() as scratch:
            if kind == places.SCRIPTS:
                write_scripts(manifest, scratch)
            else:
                render.render(store, manifest, kind, scratch)
            found += files_of(store.add(kind, scratch), folder)
    return found


def changed(store: Store, manifest: Manifest, files: Mapping[str, bytes | None]) -> Manifest:
    """The manifest with other bytes in some files, at new paths too, or without them (None); everything else as it was.

    Digests and sizes are those of the new bytes; the identity is not touched.
    """
    groups: dict[str, list[ReleaseFile]] = {}
    for file in manifest.files:
        groups.setdefault(file.object, []).append(file)
    kept: list[ReleaseFile] = []
    for members in groups.values():
        if not any(file.path in files for file in members):
            kept += members
            continue
        with store.staging() as scratch:
            left = [file for file in members if files.get(file.path, b"") is not None]
            for file in left:
                data = files.get(file.path)
                old = layout.object_folder(store.root, file.object) / file.member
                (scratch / file.member).write_bytes(old.read_bytes() if data is None else data)
            ref = store.add(members[0].kind, scratch)
        for file in left:
            entry = ref.entry(file.member)
            kept.append(file.model_copy(update={"object": ref.digest, "sha256": entry.sha256, "size": entry.size}))
    known = {file.path for file in manifest.files}
    for path, data in files.items():
        if path not in known and data is not None:
            folder, _, name = path.rpartition("/")
            kept += added(store, "thing", folder, {name: data})
    return manifest.model_copy(update={"files": tuple(kept)})


def pack(store: Store, manifest: Manifest, file: Path) -> Path:
    """An archive of a release that need not be in the store; its objects are."""
    with file.open("wb") as out:
        archive._write(store, manifest, out)
    return file


Edit = Callable[[dict[str, Any]], object]


def edited(manifest: Manifest, edit: Edit) -> Manifest:
    """The manifest with other content."""
    content = manifest.model_dump(mode="json")
    edit(content)
    return Manifest.model_validate(content)
