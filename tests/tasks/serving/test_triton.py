"""A model repository is what Triton's own schema says, and its files compute what the release's do."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format

from artifacts.errors import EngineUnavailable, ExportTargetExists, ObjectDamaged, ProfileError
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.release.fastest import PRECISIONS, fastest
from artifacts.store.store import Store
from tasks.engines.base import BatchProfile, Platform
from tasks.engines.record import write_record
from tasks.serving.triton import export_triton
from tests.artifacts.support import rewrite, sealed
from tests.wording import refusal

PREPROCESS = {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"}
PROFILE = BatchProfile(min=1, opt=16, max=64)


@pytest.fixture(scope="session")
def schema() -> ModuleType:
    """NVIDIA's generated code for `model_config.proto`; its package needs gRPC, which the schema does not."""
    (package,) = importlib.util.find_spec("tritonclient").submodule_search_locations  # type: ignore[union-attr,misc]
    spec = importlib.util.spec_from_file_location("model_config_pb2", Path(package) / "grpc" / "model_config_pb2.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def opened(demo_store: Path) -> Store:
    return Store.open(demo_store, writable=False)


def parse(schema: ModuleType, folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), schema.ModelConfig())


def with_engines(store: Store, manifest: Manifest, profile: BatchProfile) -> Manifest:
    """The release with an FP8 "engine" for `tensorrt` per encoder: Triton gets its bytes, nobody here runs them."""
    files: list[ReleaseFile] = list(manifest.files)
    for encoder in ("image", "text"):
        with store.staging() as folder:
            engine = folder / "fp8.tensorrt.engine"
            engine.write_bytes(b"native code of " + encoder.encode())
            write_record(engine, "tensorrt", Platform(runtime="tensorrt", version="10.16", gpu="NVIDIA L4"), profile)
            ref = store.add("engine", folder)
        labels: Any = {"encoder": encoder, "precision": "fp8", "target": "tensorrt"}
        for entry in ref.files:
            place: Any = {"path": f"{encoder}/{entry.path}", "kind": "engine", "object": ref.digest}
            files.append(ReleaseFile(**place, member=entry.path, sha256=entry.sha256, size=entry.size, **labels))
    made = sealed(manifest.model_copy(update={"version": 2, "sequence": 2, "files": tuple(files)}))
    assert store.insert(made)
    return made


@pytest.fixture
def own_store(demo_store: Path, tmp_path: Path) -> Store:
    return Store.open(Path(shutil.copytree(demo_store, tmp_path / "store")))


@pytest.mark.parametrize("precision", ["fp8", "fp16"])
def test_onnx_models_keep_to_the_schema_and_to_their_graphs(
    precision: str, opened: Store, schema: ModuleType, tmp_path: Path
) -> None:
    manifest = opened.find("demo@1")
    written, choice = export_triton(opened, manifest, tmp_path / "repository", None, precision)
    assert (choice.target, choice.precision, choice.reason) == ("onnxruntime", precision, "as asked for")
    assert {path.name for path in (tmp_path / "repository").iterdir()} == {"demo-image", "demo-text"}
    for encoder in ("image", "text"):
        folder = tmp_path / "repository" / f"demo-{encoder}"
        config = parse(schema, folder)
        assert (config.name, config.platform, config.backend) == (folder.name, "onnxruntime_onnx", "onnxruntime")
        assert config.max_batch_size == 32
        assert list(config.dynamic_batching.preferred_batch_size) == [8, 32]
        (group,) = config.instance_group
        assert (group.kind, group.count, list(group.profile)) == (schema.ModelInstanceGroup.KIND_CPU, 1, [])
        assert config.parameters["clipsmith.release"].string_value == "demo@1"
        assert config.parameters["clipsmith.precision"].string_value == precision
        basic = -1  # as the server's ONNX Runtime backend numbers it; 0 is all that it has
        assert config.optimization.graph.level == (basic if precision == "fp8" else 0)
        graph = onnx.load(folder / "1" / "model.onnx").graph
        assert described(config.input, schema) == [of_graph(item) for item in graph.input]
        assert described(config.output, schema) == [of_graph(item) for item in graph.output]
        assert {path.name for path in (folder / "preprocess").iterdir()} == PREPROCESS
        assert (folder / "1" / "model.onnx").read_bytes() == opened.read(
            manifest, f"{encoder}/{precision}.onnx"
        ).read_bytes()
    assert f"demo-image/{'config.pbtxt'}" in written and len(written) == 2 * (2 + len(PREPROCESS))


def described(tensors: Any, schema: ModuleType) -> list[tuple[str, str, list[int]]]:
    return [(item.name, schema.DataType.Name(item.data_type), list(item.dims)) for item in tensors]


def of_graph(item: Any) -> tuple[str, str, list[int]]:
    """By NumPy's names of types, which Triton's resemble: float16 is TYPE_FP16."""
    kind = item.type.tensor_type
    name = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name.upper()
    sizes = [size.dim_value for size in kind.shape.dim]
    assert sizes[0] == 0, "a symbolic batch"
    return item.name, f"TYPE_{name.replace('FLOAT', 'FP')}", sizes[1:]


def test_onnx_runtime_gives_the_releases_own_output(opened: Store, tmp_path: Path) -> None:
    import onnxruntime as ort

    manifest = opened.find("demo@1")
    export_triton(opened, manifest, tmp_path / "repository", "onnxruntime", "fp8")
    rng = np.random.default_rng(0)
    feed = {"pixel_values": rng.standard_normal((3, 3, 32, 32)).astype(np.float16)}
    outputs = [
        ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)[0]
        for path in (
            tmp_path / "repository" / "demo-image" / "1" / "model.onnx",
            opened.read(manifest, "image/fp8.onnx"),
        )
    ]
    np.testing.assert_array_equal(*outputs)


def test_external_data_keeps_the_name_that_its_graph_knows(own_store: Store, tmp_path: Path) -> None:
    import onnxruntime as ort

    manifest = own_store.find("demo@1")
    with own_store.staging() as folder:
        model = onnx.load(own_store.read(manifest, "image/fp16.onnx"))
        onnx.save(model, folder / "fp16.onnx", save_as_external_data=True, location="fp16.onnx.data")
        ref = own_store.add("onnx", folder)
    kept = [file for file in manifest.files if not (file.kind == "onnx" and file.encoder == "image")]
    place: Any = {"kind": "onnx", "object": ref.digest, "encoder": "image", "precision": "fp16"}
    kept += [
        ReleaseFile(path=f"image/{e.path}", member=e.path, sha256=e.sha256, size=e.size, **place) for e in ref.files
    ]
    about = manifest.provenance.model_copy(update={"parameters": {}})
    other = {
        "files": tuple(kept),
        "provenance": about,
        "tables": {},
        "gates": (),
    }  # what was measured is of other files
    changed = sealed(manifest.model_copy(update=other))
    export_triton(own_store, changed, tmp_path / "repository", "onnxruntime", "fp16")
    folder = tmp_path / "repository" / "demo-image" / "1"
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "fp16.onnx.data"}
    ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def test_a_tensorrt_engine_comes_first_with_its_own_profile(
    own_store: Store, schema: ModuleType, tmp_path: Path
) -> None:
    manifest = with_engines(own_store, own_store.find("demo@1"), PROFILE)
    choice = export_triton(own_store, manifest, tmp_path / "repository", None, None)[1]
    assert (choice.target, choice.precision, choice.reason) == (
        "tensorrt",
        "fp8",
        "the release has no other precision there",
    )
    for encoder in ("image", "text"):
        folder = tmp_path / "repository" / f"demo-{encoder}"
        config = parse(schema, folder)
        assert (config.platform, config.backend, config.max_batch_size) == ("tensorrt_plan", "tensorrt", 64)
        assert not config.HasField("optimization")
        assert list(config.dynamic_batching.preferred_batch_size) == [16, 64]
        (group,) = config.instance_group
        assert (group.kind, list(group.profile)) == (schema.ModelInstanceGroup.KIND_GPU, ["0"])
        assert [path.name for path in (folder / "1").iterdir()] == ["model.plan"]
        assert (folder / "1" / "model.plan").read_bytes() == b"native code of " + encoder.encode()
    choice = export_triton(own_store, manifest, tmp_path / "onnx", "onnxruntime", None)[1]
    config = parse(schema, tmp_path / "onnx" / "demo-text")
    assert config.backend == "onnxruntime"
    assert choice == fastest(manifest, "onnxruntime", PRECISIONS) and "times as fast" in choice.reason
    assert config.parameters["clipsmith.precision"].string_value == choice.precision


def test_an_engine_that_refuses_single_requests(own_store: Store, tmp_path: Path) -> None:
    manifest = with_engines(own_store, own_store.find("demo@1"), BatchProfile(min=4, opt=8, max=8))
    with pytest.raises(ProfileError, match="batches of 4 to 8"):
        export_triton(own_store, manifest, tmp_path / "repository", None, None)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("target", "precision"), [("trtrtx-sm89", None), ("tensorrt", None), (None, "fp32"), ("no-such", "fp8")]
)
def test_what_triton_cannot_run(target: str | None, precision: str | None, opened: Store, tmp_path: Path) -> None:
    with refusal(EngineUnavailable):
        export_triton(opened, opened.find("demo@1"), tmp_path / "repository", target, precision)


def test_damage_leaves_no_repository_and_a_full_folder_is_left_alone(own_store: Store, tmp_path: Path) -> None:
    manifest = own_store.find("demo@1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ExportTargetExists):
        export_triton(own_store, manifest, tmp_path / "full", None, None)
    rewrite(own_store.read(manifest, "text/fp8.onnx"), b"bites")
    with pytest.raises(ObjectDamaged):
        export_triton(own_store, manifest, tmp_path / "repository", None, "fp8")
    assert not (tmp_path / "repository").exists()
