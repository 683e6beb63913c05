"""Tensors are read as safetensors and torch read them; what is not sound is BadWeights and named."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from artifacts.errors import BadWeights
from tasks.clip import weights
from tasks.clip.base import Piece
from tasks.clip.weights import WeightReader
from tasks.demo import SNAPSHOT
from tests.wording import refusal

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def save(path: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, path)
    return path


def raw(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def fp16(reader: WeightReader, name: str) -> np.ndarray:
    """A parameter as its chunks make it up."""
    rows = [values for _, values in reader.chunks(name)]
    whole = np.concatenate(rows) if rows and rows[0].ndim else np.array(rows[0] if rows else [], np.float16)
    return whole.T if reader.is_transposed(name) else whole


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_torchs(dtype: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensor = (torch.randn(37, 19) * torch.logspace(-7, 4, 19)).to(DTYPES[dtype])
    reader = WeightReader([save(tmp_path / "m.safetensors", first=torch.zeros(3), w=tensor, last=torch.ones(5))])
    assert reader.shape("w") == (37, 19)
    got = reader.read("w")
    wide = torch.float64 if dtype == "F64" else torch.float32
    assert np.array_equal(got.astype(np.float64), tensor.to(wide).double().numpy())
    assert fp16(reader, "w").dtype == np.float16
    # float64 holds float32's values here, so torch's detour over float32 rounds only once
    assert np.array_equal(fp16(reader, "w"), tensor.half().numpy())


def test_every_bfloat16_in_range_is_exact(tmp_path: Path) -> None:
    tensor = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    tensor = tensor[torch.isfinite(tensor)]
    reader = WeightReader([save(tmp_path / "m.safetensors", w=tensor)])
    assert np.array_equal(reader.read("w"), tensor.float().numpy())


def test_fp16_keeps_its_bits(tmp_path: Path) -> None:
    tensor = torch.arange(0, 31744, dtype=torch.int16).view(torch.float16)  # zero, subnormals, normals
    reader = WeightReader([save(tmp_path / "m.safetensors", w=tensor)])
    assert np.array_equal(fp16(reader, "w").view(np.int16), tensor.view(torch.int16).numpy())


def test_scalar_and_empty_tensors(tmp_path: Path) -> None:
    reader = WeightReader([save(tmp_path / "m.safetensors", s=torch.tensor(2.5), e=torch.zeros(0, 3))])
    assert reader.read("s") == 2.5 and reader.shape("s") == ()
    assert reader.read("e").shape == (0, 3)


def test_pieces_are_reshaped_cut_scaled_and_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stack, gamma = torch.randn(1, 6, 5), torch.rand(4) + 0.5
    path = save(tmp_path / "m.safetensors", stack=stack, w=stack[0, :4].clone(), gamma=gamma, bias=torch.ones(()))
    pieces = {
        "rows": Piece("stack", rows=(2, 5), shape=(6, 5)),
        "scaled": Piece("w", scale="gamma"),
        "part": Piece("w", rows=(1, 3), scale="gamma", transposed=True),
        "bias": None,
    }
    reader = WeightReader([path], lambda _: pieces)
    expected = {"rows": stack[0, 2:5], "scaled": stack[0, :4] * gamma[:, None]}
    expected["part"] = expected["scaled"][1:3].T
    assert set(reader) == expected.keys()
    for name, values in expected.items():
        assert reader.shape(name) == tuple(values.shape)
        assert np.array_equal(reader.read(name), values.numpy())
        assert np.array_equal(fp16(reader, name), values.half().numpy())


def test_the_demo_reads_as_the_library_reads_it() -> None:
    from safetensors.numpy import load_file

    reader, tensors = WeightReader([SNAPSHOT / "model.safetensors"]), load_file(SNAPSHOT / "model.safetensors")
    assert set(reader) == set(tensors)
    for name, values in tensors.items():
        assert np.array_equal(reader.read(name), values)


def test_shards_make_one_namespace(tmp_path: Path) -> None:
    one = save(tmp_path / "1.safetensors", a=torch.ones(2), b=torch.full((2,), 2.0))
    two = save(tmp_path / "2.safetensors", c=torch.full((3,), 3.0))
    reader = WeightReader([one, two])
    assert sorted(reader) == ["a", "b", "c"]
    assert [reader.read(name)[0] for name in "abc"] == [1, 2, 3]
    assert "a" in reader and "d" not in reader


def test_duplicate_tensor_is_named(tmp_path: Path) -> None:
    one = save(tmp_path / "1.safetensors", a=torch.ones(2), twice=torch.ones(2))
    two = save(tmp_path / "2.safetensors", twice=torch.zeros(2))
    with pytest.raises(BadWeights, match="twice"):
        WeightReader([one, two])


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16"])
@pytest.mark.parametrize("value", [65520.0, -1e5, float("inf"), float("nan")])
def test_overflow_is_named(dtype: str, value: float, tmp_path: Path) -> None:
    """65520 is the smallest magnitude that IEEE 754 rounds to infinity in half precision; bfloat16 makes it 65536."""
    tensor = torch.ones(10)
    tensor[3] = value
    reader = WeightReader([save(tmp_path / "m.safetensors", fine=torch.ones(1), large=tensor.to(DTYPES[dtype]))])
    with refusal(BadWeights, "m.safetensors"):
        fp16(reader, "large")
    assert fp16(reader, "fine") == 1


def test_the_largest_fp16_fits(tmp_path: Path) -> None:
    reader = WeightReader([save(tmp_path / "m.safetensors", w=torch.tensor([65519.0, -65504.0]))])
    assert fp16(reader, "w").tolist() == [65504.0, -65504.0]


def test_integers_are_refused(tmp_path: Path) -> None:
    reader = WeightReader([save(tmp_path / "m.safetensors", ids=torch.arange(5))])
    with pytest.raises(BadWeights, match="ids has dtype I64"):
        reader.read("ids")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 1 << 62),
        struct.pack("<Q", 100) + b"{}",
        struct.pack("<Q", 9) + b'{"a": 1, ',
        struct.pack("<Q", 2) + b"[]",
        b"PK\x03\x04 a pickle in a zip, say" * 10,
    ],
    ids=["empty", "seven bytes", "huge header", "short header", "cut JSON", "list", "zip"],
)
def test_malformed_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(BadWeights, match=r"m\.safetensors"):
        WeightReader([tmp_path / "m.safetensors"])


@pytest.mark.parametrize("offsets", [[0, 12], [4, 20], [-4, 12], [16, 0]])
def test_false_offsets(offsets: list[int], tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": offsets}
    with pytest.raises(BadWeights):
        WeightReader([raw(tmp_path / "m.safetensors", {"w": entry}, b"\0" * 16)])


def test_truncated_file(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", w=torch.ones(100))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadWeights, match=r"m\.safetensors"):
        WeightReader([path])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadWeights, match=r"none\.safetensors"):
        WeightReader([tmp_path / "none.safetensors"])


def test_metadata_is_not_a_tensor(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "m.safetensors", metadata={"format": "pt"})
    assert list(WeightReader([tmp_path / "m.safetensors"])) == ["w"]


# --- a wrapper's prefix -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "clip.", "clip_model.", "module._orig_mod."])
def test_a_prefix_before_the_encoders_is_dropped(prefix: str, tmp_path: Path) -> None:
    names = ("text_model.final_layer_norm.weight", "vision_model.post_layernorm.weight", "logit_scale")
    tensors = {f"{prefix}{name}": torch.full((3,), float(place)) for place, name in enumerate(names)}
    reader = WeightReader([save(tmp_path / "m.safetensors", **tensors, **{"head.weight": torch.ones(2)})])
    assert reader.prefix == prefix
    assert sorted(reader) == sorted([*names, "head.weight"])
    assert [reader.read(name)[0] for name in names] == [0, 1, 2]


@pytest.mark.parametrize(
    "names",
    [
        ("text_model.a", "vision_model.b", "module.c"),
        ("module.text_model.a", "text_model.a"),
        ("module.text_model.a", "clip.vision_model.b"),
        ("encoder.text_model.a", "encoder.vision_model.b"),
    ],
)
def test_names_without_one_common_wrapper_are_left(names: tuple[str, ...], tmp_path: Path) -> None:
    reader = WeightReader([save(tmp_path / "m.safetensors", **{name: torch.ones(1) for name in names})])
    assert reader.prefix == "" and set(reader) == set(names)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flat_patches_come_as_a_convolution(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_CHUNK_BYTES", 200)  # a few rows at a time
    stored = torch.randn(7, 4 * 4 * 3).to(DTYPES[dtype])
    path = save(tmp_path / "m.safetensors", w=stored)
    reader = WeightReader([path], lambda _: {"conv": Piece("w", patch=4)})
    wanted = stored.float().reshape(7, 4, 4, 3).permute(0, 3, 1, 2).numpy()
    assert reader.shape("conv") == (7, 3, 4, 4) and list(reader) == ["conv"]
    assert np.allclose(reader.read("conv"), wanted)
    assert len(list(reader.chunks("conv"))) > 1 and not reader.is_transposed("conv")
    assert np.array_equal(fp16(reader, "conv"), reader.read("conv").astype(np.float16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_come_on_another_grid(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded to FP16 once, after they were interpolated, however few rows are read at a time."""
    monkeypatch.setattr(weights, "_CHUNK_BYTES", 8)
    stored = torch.randn(16, 5).to(DTYPES[dtype])
    reader = WeightReader(
        [save(tmp_path / "m.safetensors", w=stored)], lambda _: {"on another": Piece("w", grid=(6, 3))}
    )
    image = stored.float().reshape(1, 4, 4, 5).permute(0, 3, 1, 2)
    wanted = torch.nn.functional.interpolate(image, size=(6, 3), mode="bilinear", align_corners=False, antialias=True)
    assert reader.shape("on another") == (18, 5)
    got = reader.read("on another")
    assert got.dtype == np.float32 and np.abs(got - wanted.flatten(2)[0].T.numpy()).max() < 2e-6
    assert np.array_equal(fp16(reader, "on another"), got.astype(np.float16))


def test_a_name_that_is_there_with_and_without_the_prefix_is_refused(tmp_path: Path) -> None:
    names = ("model.text_model.a", "model.vision_model.b", "model.text_projection.weight", "text_projection.weight")
    path = save(tmp_path / "m.safetensors", **{name: torch.ones(2, 2) for name in names})
    with refusal(BadWeights, "m.safetensors"):
        WeightReader([path])


# --- parts that become part of a parameter ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (Piece("w", scale="short"), r"short has shape \(1,\), which does not fit w of \(4, 3\)"),
        (Piece("w", scale="nowhere"), "nowhere has shape None"),
        (Piece("w", batch_norm="norm"), r"norm\.weight has shape None"),
        (Piece("w", shape=(2, 3)), r"w has shape \(4, 3\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(piece: Piece, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", w=torch.ones(4, 3), short=torch.ones(1), next=torch.full((9,), 777.0))
    with pytest.raises(BadWeights, match=message):
        WeightReader([path], lambda _: {"weight": piece})


def test_shapes_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", bias=torch.ones(()))
    with refusal(BadWeights, "m.safetensors"):
        WeightReader([path], lambda stored: {"q": Piece("bias", rows=(0, stored["bias"][0] // 3))})
