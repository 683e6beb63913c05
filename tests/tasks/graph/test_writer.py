"""What is streamed is what onnx, ONNX Runtime and torch would have made, in one file or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

from artifacts.errors import BadWeights
from tasks.clip import weights
from tasks.clip.base import Piece
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tasks.graph import writer
from tasks.graph.channels import with_channels
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton, Weight
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import Recipe, load_recipe

FC1 = "text_model.encoder.layers.0.mlp.fc1"


@pytest.fixture
def reader() -> WeightReader:
    return WeightReader([SNAPSHOT / "model.safetensors"])


@pytest.fixture(params=["fp16", "fp8", "fp8 by channel"])
def skeleton(
    request: pytest.FixtureRequest, skeleton_of: Any, fake_quantized: Any, recipe_by_channel: Recipe, reader: Any
) -> Skeleton:
    plain = skeleton_of(SNAPSHOT, "text")
    if request.param == "fp16":
        return plain
    recipe = load_recipe("fp8") if request.param == "fp8" else recipe_by_channel
    return quantize(plain, recipe, with_channels(fake_quantized.amax, plain, recipe, reader))


def by_torch(skeleton: Skeleton) -> onnx.ModelProto:
    """The whole model made in memory with torch's casts and onnx's helpers."""
    tensors = load_file(SNAPSHOT / "model.safetensors")
    model = onnx.ModelProto()
    model.CopyFrom(skeleton.model)
    constants = {c.name: c for c in model.graph.initializer}
    for name, weight in skeleton.weights.items():
        value = tensors[weight.key].half()
        if weight.transposed:
            value = value.T.contiguous()
        if weight.scale is None:
            model.graph.initializer.append(numpy_helper.from_array(value.numpy(), name))
            continue
        scale = torch.tensor(numpy_helper.to_array(constants[weight.scale])).float()
        bits = (value.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        model.graph.initializer.append(
            helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, bits.shape, bits.tobytes(), raw=True)
        )
    return model


def contents(model: onnx.ModelProto) -> dict[str, tuple[int, list[int], bytes]]:
    return {t.name: (t.data_type, list(t.dims), t.raw_data) for t in model.graph.initializer}


@pytest.mark.parametrize("limit", [writer.SINGLE_FILE_LIMIT, 0], ids=["single", "external"])
def test_file_is_the_model_that_torch_and_onnx_make(
    limit: int,
    skeleton: Skeleton,
    reader: WeightReader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    random_inputs: Any,
    run_onnx: Any,
) -> None:
    monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", limit)
    write_onnx(skeleton, reader, tmp_path / "m.onnx", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"][: 1 if limit else 2]
    expected = by_torch(skeleton)
    got = onnx.load(tmp_path / "m.onnx")
    assert contents(got) == contents(expected)
    assert list(got.graph.node) == list(expected.graph.node)
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    ids = random_inputs(SNAPSHOT, "text", 4)
    assert run_onnx(tmp_path / "m.onnx", ids).tobytes() == run_onnx(expected, ids).tobytes()


@pytest.mark.parametrize("stored", ["as (out, in)", "as (in, out)"])
def test_a_few_rows_at_a_time_are_the_same_file(
    stored: str, skeleton: Skeleton, reader: WeightReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are read are columns of the graph's weight, or its rows where the checkpoint stores the transpose."""
    write_onnx(skeleton, reader, tmp_path / "whole.onnx", {})
    tensors = load_file(SNAPSHOT / "model.safetensors")
    linear = {weight.key for weight in skeleton.weights.values() if weight.transposed}
    assert len(linear) == 13
    if stored == "as (in, out)":
        tensors |= {name: tensors[name].T.contiguous() for name in linear}
        save_file(tensors, tmp_path / "model.safetensors")
        pieces = {name: Piece(name, transposed=True) for name in linear}
        reader = WeightReader([tmp_path / "model.safetensors"], lambda _: pieces)
    monkeypatch.setattr(weights, "_CHUNK_BYTES", 3000)
    write_onnx(skeleton, reader, tmp_path / "parts.onnx", {})
    assert (tmp_path / "parts.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_external_data_is_aligned_and_complete(
    skeleton: Skeleton, reader: WeightReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offsets are multiples of 4096, which onnx asks for so that the file can be mapped (ExternalDataInfo)."""
    from onnx.external_data_helper import ExternalDataInfo

    monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", 0)
    write_onnx(skeleton, reader, tmp_path / "m.onnx", {})
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert {t.name for t in outside} == skeleton.weights.keys()
    end = 0
    for info in sorted((ExternalDataInfo(t) for t in outside), key=lambda info: info.offset):
        assert info.location == "m.onnx.data" and info.offset % 4096 == 0 and info.offset >= end
        end = info.offset + info.length
    assert end == (tmp_path / "m.onnx.data").stat().st_size


def test_the_limit_counts_bytes_of_weights(
    skeleton: Skeleton, reader: WeightReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(len(raw) for name, (_, _, raw) in contents(by_torch(skeleton)).items() if name in skeleton.weights)
    for limit, name in ((size, "one"), (size - 1, "two")):
        monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", limit)
        write_onnx(skeleton, reader, tmp_path / name, {})
    assert not (tmp_path / "one.data").exists()
    assert (tmp_path / "two.data").exists()


def test_a_file_below_the_limit_fits_protobuf() -> None:
    assert writer.SINGLE_FILE_LIMIT + 50_000_000 < 2**31  # protobuf's limit; the rest is for nodes and names


@pytest.mark.parametrize("limit", [writer.SINGLE_FILE_LIMIT, 0])
def test_metadata_is_kept(
    limit: int, skeleton: Skeleton, reader: WeightReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", limit)
    write_onnx(skeleton, reader, tmp_path / "m", {"clipsmith.precision": "fp8", "note": "ü"})
    props = onnx.load(tmp_path / "m", load_external_data=False).metadata_props
    assert {p.key: p.value for p in props} == {"clipsmith.precision": "fp8", "note": "ü"}
    assert not skeleton.model.metadata_props and len(skeleton.model.graph.initializer) < len(skeleton.weights) * 3


def test_writing_changes_nothing_and_repeats(skeleton: Skeleton, reader: WeightReader, tmp_path: Path) -> None:
    before = skeleton.model.SerializeToString(deterministic=True)
    write_onnx(skeleton, reader, tmp_path / "a", {"x": "1"})
    write_onnx(skeleton, reader, tmp_path / "b", {"x": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert skeleton.model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("count", [1, 63, 64, 8191, 8192, 1_048_575, 1_048_576])
def test_lengths_around_protobufs_varint_steps(count: int, tmp_path: Path, skeleton_of: Any) -> None:
    """A varint grows at 2^7, 2^14, 2^21; the tensor's own header shifts the lengths that wrap it."""
    values = torch.arange(count).remainder(1000).float()
    for extra in range(0, 30, 3):
        name = "w" * (1 + extra)
        save_file({name: values}, tmp_path / "w.safetensors")
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [count])
        made = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [count])
        graph = helper.make_graph([helper.make_node("Add", ["x", name], ["y"])], "g", [given], [made])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        skeleton = Skeleton(model, {name: Weight(key=name, shape=(count,))}, skeleton_of(SNAPSHOT, "text").inventory)
        write_onnx(skeleton, WeightReader([tmp_path / "w.safetensors"]), tmp_path / "m", {})
        (tensor,) = onnx.load(tmp_path / "m").graph.initializer
        assert np.array_equal(numpy_helper.to_array(tensor), values.half().numpy())


# --- what does not fit -------------------------------------------------------------------------------------


def with_tensors(path: Path, change: Any) -> WeightReader:
    tensors = load_file(SNAPSHOT / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "changed.safetensors")
    return WeightReader([path / "changed.safetensors"])


def test_missing_tensor_is_named(skeleton: Skeleton, tmp_path: Path) -> None:
    reader = with_tensors(tmp_path, lambda t: t.pop(f"{FC1}.bias"))
    with pytest.raises(BadWeights, match=f"{FC1}.bias"):
        write_onnx(skeleton, reader, tmp_path / "m.onnx", {})
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("key", [f"{FC1}.weight", f"{FC1}.bias", "text_model.embeddings.token_embedding.weight"])
def test_wrong_shape_is_named(key: str, skeleton: Skeleton, tmp_path: Path) -> None:
    reader = with_tensors(tmp_path, lambda t: t.update({key: torch.ones([n + 1 for n in t[key].shape])}))
    with pytest.raises(BadWeights, match=key):
        write_onnx(skeleton, reader, tmp_path / "m.onnx", {})
    assert not (tmp_path / "m.onnx").exists()


def test_transposed_weight_is_not_taken_as_it_is(skeleton: Skeleton, tmp_path: Path) -> None:
    """The graph's shape is [in, out]; a checkpoint that stores it so is not PyTorch's."""
    key = f"{FC1}.weight"
    reader = with_tensors(tmp_path, lambda t: t.update({key: t[key].T.contiguous()}))
    with pytest.raises(BadWeights, match=key):
        write_onnx(skeleton, reader, tmp_path / "m.onnx", {})


def test_overflow_is_named(skeleton: Skeleton, tmp_path: Path) -> None:
    reader = with_tensors(tmp_path, lambda t: t[f"{FC1}.weight"].__setitem__((3, 5), 1e6))
    with pytest.raises(BadWeights, match=f"{FC1}.weight has values that do not fit"):
        write_onnx(skeleton, reader, tmp_path / "m.onnx", {})
