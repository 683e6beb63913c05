"""A release from end to end: every published number can be recomputed from the exported files, without our code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from artifacts.copies.exporting import export
from artifacts.errors import BadAmax, ClipsmithError, ConfigError, UnsafeCheckpoint
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from tests.spearman import neighbours_spearman
from tests.wording import refusal

ENCODERS = ("image", "text")
TARGETS = ("onnxruntime", "trtrtx-sm89", "trtrtx-sm120")
Run = Callable[..., tuple[Manifest, list[str]]]


def table(export: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(export / "tables" / f"{name}.parquet")


def embeddings(export: Path, encoder: str, precision: str) -> np.ndarray:
    runtime = "pytorch" if precision == "fp32" else "onnxruntime"
    array = np.load(export / "evidence" / f"embeddings-{encoder}-{precision}-{runtime}" / "embeddings.npy")
    return array.astype(np.float64)


def accuracy(export: Path, **where: str) -> pd.Series:
    frame = table(export, "accuracy")
    for column, value in where.items():
        frame = frame[frame[column] == value]
    (row,) = [row for _, row in frame.iterrows()]
    return row


# --- the files -------------------------------------------------------------------------------------------------------


def test_exported_files_are_those_of_the_manifest(demo_export: Path) -> None:
    manifest = json.loads((demo_export / "manifest.json").read_bytes())
    found = {path.relative_to(demo_export).as_posix(): path for path in demo_export.rglob("*") if path.is_file()}
    added = {"manifest.json", "provenance.intoto.json", "README.md"}
    assert found.keys() == {file["path"] for file in manifest["files"]} | added
    for file in manifest["files"]:
        data = found[file["path"]].read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file["sha256"], file["size"]), file["path"]


def test_the_promised_files_are_there(demo_export: Path) -> None:
    wanted = ["manifest.json", "report.html", "checkpoint/config.json", "checkpoint/amax.parquet"]
    wanted += ["preprocess/preprocessor_config.json", "preprocess/tokenizer.json"]
    for encoder in ENCODERS:
        for precision in ("fp16", "fp8"):
            wanted.append(f"{encoder}/{precision}.onnx")
            wanted += [f"{encoder}/{precision}.{target}.engine" for target in TARGETS]
    names = ("encoders", "sizes", "coverage", "engines", "accuracy", "latency", "stages")
    wanted += [f"tables/{name}.parquet" for name in names]
    assert [path for path in wanted if not (demo_export / path).is_file()] == []


def test_exported_preprocessing_works_in_plain_transformers(demo_export: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessor

    tokens = AutoTokenizer.from_pretrained(demo_export / "preprocess")(["a photo of the digit seven"])["input_ids"]
    assert len(tokens[0]) > 4
    picture = np.zeros((40, 50, 3), np.uint8)
    pixels = CLIPImageProcessor.from_pretrained(demo_export / "preprocess")(images=picture, return_tensors="np")
    assert pixels["pixel_values"].shape == (1, 3, 32, 32)


def test_tables_are_those_of_the_manifest_and_of_the_printed_document(
    demo_export: Path, demo_document: dict[str, Any]
) -> None:
    manifest = json.loads((demo_export / "manifest.json").read_bytes())
    assert demo_document["tables"] == manifest["tables"]
    for name, rows in manifest["tables"].items():
        frame = table(demo_export, name)
        stored = json.loads(frame.to_json(orient="records", double_precision=15))
        assert len(stored) == len(rows) > 0
        for kept, row in zip(stored, rows, strict=True):
            assert kept.keys() == row.keys()
            for key, value in row.items():
                assert kept[key] == (pytest.approx(value) if isinstance(value, float) else value), (name, key)


def test_the_document_names_every_artifact(demo_export: Path, demo_document: dict[str, Any]) -> None:
    assert demo_document["ref"] == "demo@1"
    listed = {item["path"]: item for item in demo_document["artifacts"]}
    for path, item in listed.items():
        data = (demo_export / path).read_bytes()
        assert (item["sha256"], item["size"]) == (hashlib.sha256(data).hexdigest(), len(data))


def test_engines_are_what_they_say(demo_export: Path) -> None:
    import onnxruntime

    for encoder in ENCODERS:
        for precision in ("fp16", "fp8"):
            engine = demo_export / encoder / f"{precision}.onnxruntime.engine"
            session = onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
            (output,) = session.get_outputs()
            assert output.name == f"{encoder}_embeds"
            native = [(demo_export / encoder / f"{precision}.{t}.engine").read_bytes() for t in TARGETS[1:]]
            assert native[0] != native[1]
            assert min(map(len, native)) > 10_000


# --- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("precision", "reference"), [("fp16", "fp32"), ("fp8", "fp32"), ("fp8", "fp16")])
def test_fidelity_rows(encoder: str, precision: str, reference: str, demo_export: Path) -> None:
    first, second = embeddings(demo_export, encoder, reference), embeddings(demo_export, encoder, precision)
    unit = normalize(first), normalize(second)
    similarity = np.einsum("ij,ij->i", *unit)
    expected = {
        "cosine_mean": similarity.mean(),
        "cosine_min": similarity.min(),
        "max_abs": np.abs(first - second).max(),
        "snr_db": 10 * np.log10((first**2).sum() / ((first - second) ** 2).sum()),
        "nonfinite": 0.0,
        "rank_agreement": neighbours_spearman(*unit),
    }
    for metric, value in expected.items():
        where = {"encoder": encoder, "precision": precision, "reference": reference, "metric": metric}
        row = accuracy(demo_export, **where, target="onnxruntime")
        assert row["value"] == pytest.approx(value, rel=1e-6, abs=1e-12), metric
        assert row["samples"] == len(first)
    if reference == "fp32":
        cosines = json.loads((demo_export / "evidence" / "cosines.json").read_text())
        np.testing.assert_allclose(cosines[f"{encoder} {precision} onnxruntime"], similarity, atol=1e-7)


def predictions(export: Path, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Zero-shot scores by scikit-learn, and the true digits, from the evidence and scikit-learn's own labels."""
    from tasks.data.digits import CLASSES

    prompts = [template.replace("{}", name) for name in CLASSES.names for template in CLASSES.templates]
    folder = export / "evidence" / f"embeddings-text-{precision}-{'pytorch' if precision == 'fp32' else 'onnxruntime'}"
    texts = json.loads((folder / "keys.json").read_text())
    rows = normalize(embeddings(export, "text", precision))[[texts.index(prompt) for prompt in prompts]]
    classes = rows.reshape(10, -1, rows.shape[1]).mean(axis=1)
    from tasks.data.digits import Digits

    keys = json.loads((folder.parent / folder.name.replace("-text-", "-image-") / "keys.json").read_text())
    samples = Digits("evaluation").samples
    labels = load_digits().target[[int(samples[key].id.removeprefix("digits/")) for key in keys]]
    return cosine_similarity(embeddings(export, "image", precision), classes), labels


@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp8"])
def test_zero_shot_rows(precision: str, demo_export: Path) -> None:
    from sklearn.metrics import accuracy_score, top_k_accuracy_score

    scores, labels = predictions(demo_export, precision)
    assert len(labels) == 500
    row = accuracy(demo_export, precision=precision, metric="top1", reference="labels")
    assert row["value"] == pytest.approx(accuracy_score(labels, scores.argmax(axis=1)), abs=1e-12)
    row = accuracy(demo_export, precision=precision, metric="top5", reference="labels")
    assert row["value"] == pytest.approx(top_k_accuracy_score(labels, scores, k=5), abs=1e-12)


@pytest.mark.parametrize("baseline", ["fp16", "fp32"])
def test_difference_rows(baseline: str, demo_export: Path) -> None:
    scores, labels = predictions(demo_export, "fp8")
    others, _ = predictions(demo_export, baseline)
    difference = (scores.argmax(axis=1) == labels).astype(int) - (others.argmax(axis=1) == labels)
    # Half a sample more in each cell of the table: right and wrong before, right and wrong after.
    values, weights = [*difference, -1, 0, 1], np.array([1.0] * 500 + [0.5, 1.0, 0.5])
    means = np.random.default_rng(4).choice(values, (20_000, 500), p=weights / weights.sum()).mean(axis=1)
    row = accuracy(demo_export, encoder="both", precision="fp8", reference=baseline, metric="top1_difference")
    assert row["value"] == pytest.approx(difference.mean(), abs=1e-12)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=0.002)


def test_the_demo_keeps_its_accuracy_in_fp8(demo_export: Path) -> None:
    top1 = {p: accuracy(demo_export, precision=p, metric="top1")["value"] for p in ("fp32", "fp16", "fp8")}
    assert top1["fp32"] >= 0.97
    assert abs(top1["fp8"] - top1["fp32"]) <= 0.01
    for encoder in ENCODERS:
        where = {"encoder": encoder, "precision": "fp16", "reference": "fp32", "metric": "cosine_min"}
        assert accuracy(demo_export, **where)["value"] >= 0.9999


def test_engines_say_what_was_made_of_them(demo_export: Path) -> None:
    """The contexts of both encoders are too short for attention to stay one kernel in FP8."""
    frame = table(demo_export, "engines")
    assert len(frame) == 2 * 2 * 2 and (frame.unknown == 0).all() and frame.not_fp8.isna().all()
    shares = {(row.precision, row.fused_share, row.fp8_share) for row in frame.itertuples()}
    assert shares == {("fp16", 1.0, 0.0), ("fp8", 0.0, 1.0)}


def test_size_rows(demo_export: Path) -> None:
    frame = table(demo_export, "sizes")
    assert len(frame) == 2 * 2 * 4
    sizes = {}
    for row in frame.itertuples():
        name = f"{row.precision}.onnx" if row.target == "onnx" else f"{row.precision}.{row.target}.engine"
        sizes[row.encoder, row.target, row.precision] = (demo_export / row.encoder / name).stat().st_size
        assert row.bytes == sizes[row.encoder, row.target, row.precision]
    for row in frame.itertuples():
        assert row.vs_fp16 == pytest.approx(row.bytes / sizes[row.encoder, row.target, "fp16"])
    for encoder in ENCODERS:
        assert sizes[encoder, "onnx", "fp8"] < sizes[encoder, "onnx", "fp16"]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_weight_bytes(encoder: str, precision: str, demo_export: Path) -> None:
    model = onnx.load(demo_export / encoder / f"{precision}.onnx")
    size = {"fp8": 0, "fp16": 0, "other": 0}
    kinds = {onnx.TensorProto.FLOAT8E4M3FN: ("fp8", 1), onnx.TensorProto.FLOAT16: ("fp16", 2)}
    for tensor in model.graph.initializer:
        kind, width = kinds.get(tensor.data_type, ("other", 0))
        size[kind] += int(np.prod(tensor.dims)) * (width or onnx.numpy_helper.to_array(tensor).itemsize)
    frame = table(demo_export, "sizes")
    (row,) = frame[(frame.encoder == encoder) & (frame.precision == precision) & (frame.target == "onnx")].itertuples()
    assert {"fp8": row.fp8_bytes, "fp16": row.fp16_bytes, "other": row.other_bytes} == size
    assert (size["fp8"] > 0) == (precision == "fp8")


def test_scales_are_the_calibrated_amax(demo_export: Path) -> None:
    frame = pd.read_parquet(demo_export / "checkpoint" / "amax.parquet").set_index("quantizer")["amax"]
    evidence = [
        pd.read_parquet(demo_export / "evidence" / f"calibration-{encoder}" / "amax.parquet") for encoder in ENCODERS
    ]
    assert frame.to_dict() == pd.concat(evidence).set_index("quantizer")["amax"].to_dict()
    names = {
        "linear": ("input_quantizer", "weight_quantizer"),
        "bmm_qk": ("q_bmm_quantizer", "k_bmm_quantizer"),
        "bmm_pv": ("p_bmm_quantizer", "v_bmm_quantizer"),
    }
    coverage = table(demo_export, "coverage")
    fp8 = coverage[coverage["actual"] == "fp8"]
    assert set(fp8["precision"]) == {"fp8"}
    used = set()
    for row in fp8.itertuples():
        for quantizer, scale in zip(names[row.kind], (row.input_scale, row.weight_scale), strict=True):
            used.add(f"{row.module}.{quantizer}")
            assert np.float16(scale) == np.float16(frame[f"{row.module}.{quantizer}"] / 448), (row.module, quantizer)
    assert used == set(frame.index)


def test_latency_rows(demo_export: Path) -> None:
    frame = table(demo_export, "latency")
    assert len(frame) == 2 * 3 * 2 * 2
    for row in frame.itertuples():
        evidence = demo_export / "evidence" / f"latency-{row.encoder}-{row.target}" / "latencies.json"
        times = json.loads(evidence.read_text()).get(f"{row.encoder} {row.precision} {row.target} batch {row.batch}")
        if row.status == "built, not run":
            assert times is None
            assert pd.isna(row.median_ms)
            assert row.note
            continue
        assert row.rounds == len(times) >= 3
        assert row.median_ms == pytest.approx(np.median(times), abs=1e-4)
        assert row.p95_ms == pytest.approx(np.percentile(times, 95), abs=1e-4)
        assert row.p99_ms == pytest.approx(np.percentile(times, 99), abs=1e-4)
        assert row.throughput == pytest.approx(1000 * row.batch / np.median(times), rel=1e-3)
        assert row.device
        if row.precision == "fp8" and row.target == "onnxruntime":
            assert row.status == "emulated"
            assert pd.isna(row.speedup)


def test_encoder_rows(demo_export: Path) -> None:
    from transformers import CLIPModel

    from tasks.demo import SNAPSHOT

    model = CLIPModel.from_pretrained(SNAPSHOT)
    towers = {"image": ("vision_model.", "visual_projection."), "text": ("text_model.", "text_projection.")}
    for row in table(demo_export, "encoders").itertuples():
        count = sum(p.numel() for n, p in model.named_parameters() if n.startswith(towers[row.encoder]))
        assert row.parameters == count
        assert row.embedding_dim == model.config.projection_dim


def test_provenance(demo_export: Path) -> None:
    from importlib import metadata

    from tasks.demo import SNAPSHOT

    provenance = json.loads((demo_export / "manifest.json").read_bytes())["provenance"]
    weights = hashlib.sha256((SNAPSHOT / "model.safetensors").read_bytes()).hexdigest()
    assert provenance["source"]["weights"] == {"model.safetensors": weights}
    assert provenance["evaluation"]["samples"] == 500
    assert provenance["calibration"]["samples"] == 512
    for name in ("torch", "nvidia-modelopt", "onnxruntime", "transformers", "onnx", "polygraphy", "prefect"):
        assert provenance["packages"][name] == metadata.version(name)


# --- from a published checkpoint -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def published(demo_store: Path, demo_export: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the demo's store, and the exported folder."""
    return Path(shutil.copytree(demo_store, tmp_path_factory.mktemp("published") / "store")), demo_export


@pytest.fixture
def checkpoint(published: tuple[Path, Path], tmp_path: Path) -> Iterator[Path]:
    """The exported checkpoint alone: no manifest beside it."""
    yield Path(shutil.copytree(published[1] / "checkpoint", tmp_path / "mine"))


def _by_path(manifest: Manifest) -> dict[str, str]:
    return {file.path: file.sha256 for file in manifest.files}


@pytest.mark.parametrize("where", ["its store", "a new store"])
def test_a_published_checkpoint_skips_calibration_and_gives_the_same_graphs(
    where: str, run: Run, published: tuple[Path, Path], checkpoint: Path, tmp_path: Path
) -> None:
    """In its own store the checkpoint is known wherever it lies; elsewhere the manifest beside it vouches for it."""
    store, export = published
    if where == "its store":
        manifest, calls = run(checkpoint, store, calibration__source=None, targets=[])
    else:
        manifest, calls = run(export / "checkpoint", tmp_path / "new", calibration__source=None, targets=[])
    steps = {call.split()[0] for call in calls}
    assert "calibrate" not in steps
    # The state is a pickle: a store that did not publish it makes it anew from the recorded amax.
    assert ("quantize" in steps) == (where == "a new store")
    assert {"export-fp8 image", "export-fp8 text"} <= set(calls)
    original = json.loads((export / "manifest.json").read_bytes())
    first, second = {file["path"]: file["sha256"] for file in original["files"]}, _by_path(manifest)
    for encoder in ENCODERS:
        assert second[f"{encoder}/fp8.onnx"] == first[f"{encoder}/fp8.onnx"]
        assert second[f"{encoder}/fp16.onnx"] == first[f"{encoder}/fp16.onnx"]
    used = Store.open(store if where == "its store" else tmp_path / "new", writable=False)
    for path, digest in first.items():
        if path.startswith("checkpoint/") and where == "its store":
            assert second[path] == digest
    amax = pd.read_parquet(used.read(manifest, "checkpoint/amax.parquet")).set_index("quantizer")["amax"]
    expected = pd.read_parquet(export / "checkpoint" / "amax.parquet").set_index("quantizer")["amax"]
    assert amax.to_dict() == expected.to_dict()
    ours, theirs = (
        load_file(path)
        for path in (used.read(manifest, "checkpoint/model.safetensors"), export / "checkpoint" / "model.safetensors")
    )
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    provenance = manifest.provenance
    assert provenance.source.kind == "published"
    assert provenance.calibration is not None
    assert provenance.calibration.model_dump() == original["provenance"]["calibration"]
    assert provenance.parents == (original["identity"],)


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["modelopt_state.pth", "model.safetensors", "amax.parquet", "config.json"])
def test_a_tampered_published_checkpoint_is_refused(
    name: str, run: Run, published: tuple[Path, Path], tmp_path: Path
) -> None:
    store, export = published
    shutil.copyfile(export / "manifest.json", tmp_path / "manifest.json")
    folder = Path(shutil.copytree(export / "checkpoint", tmp_path / "checkpoint"))
    if name == "config.json":
        (folder / name).chmod(0o644)
        (folder / name).write_text((folder / name).read_text() + " ")
    else:
        _flip(folder / name)
    with pytest.raises(UnsafeCheckpoint, match=r"modelopt_state\.pth"):
        run(folder, store, calibration__source=None, targets=[])


def test_a_published_checkpoint_without_its_record_is_refused_in_another_store(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsafeCheckpoint, match="no release vouches"):
        run(checkpoint, tmp_path / "new", calibration__source=None, targets=[])
    assert not list((tmp_path / "new" / "releases").iterdir())


def test_an_edited_manifest_vouches_for_nothing(run: Run, published: tuple[Path, Path], tmp_path: Path) -> None:
    _, export = published
    folder = Path(shutil.copytree(export / "checkpoint", tmp_path / "checkpoint"))
    (tmp_path / "manifest.json").write_bytes((export / "manifest.json").read_bytes() + b"\n")
    with pytest.raises(ClipsmithError, match="edited"):
        run(folder, tmp_path / "new", calibration__source=None, targets=[])


def test_a_published_checkpoint_of_another_recipe_is_refused(
    run: Run, published: tuple[Path, Path], checkpoint: Path
) -> None:
    with pytest.raises(ConfigError, match="another recipe"):
        run(checkpoint, published[0], calibration__source=None, targets=[], recipe="fp8-no-attention")


def test_a_published_checkpoint_that_lacks_amax_is_refused(run: Run, small_clip: Path, tmp_path: Path) -> None:
    """The recipe quantizes more than was calibrated: as for the other recipe, the user is told before any work."""
    first, _ = run(small_clip, tmp_path / "store", targets=[], recipe="fp8-no-attention", encoders=["text"])
    store = Store.open(tmp_path / "store", writable=False)
    export(store, first, tmp_path / "out")
    with refusal((ConfigError, BadAmax)):
        run(tmp_path / "out" / "checkpoint", tmp_path / "store", calibration__source=None, targets=[])
    assert len(store.releases()) == 1


def test_the_environment_of_the_tests_is_not_the_users() -> None:
    assert os.environ["PREFECT_HOME"] != str(Path.home() / ".prefect")
